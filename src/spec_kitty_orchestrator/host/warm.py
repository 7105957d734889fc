"""The warm transport: a process that has the host imported answers each call from a copy of itself.

Whatever makes that doubtful ends it for good, and every further call starts the host anew. A call whose fate
is not known is answered as a call without an answer: whoever made it reads the state again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.host.console_script import PROBE_ARGV, ConsoleScript, resolve
from spec_kitty_orchestrator.host.forked import Forked, NotTaken
from spec_kitty_orchestrator.host.transport import SpawnTransport
from spec_kitty_orchestrator.host.warm_process import START_LIMIT_S, WarmProcess
from spec_kitty_orchestrator.host.wire import explains
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.child import Reply, conduct

__all__ = ["WarmTransport"]

CHANGING = frozenset({"timestamp", "correlation_id"})
"""What differs between two equal answers of the host."""


class WarmTransport:
    """Implements `Transport`; the first call starts the warm process, which serves calls like it.

    Calls of another executable, in another folder or with another environment start the host anew.

    Args:
        required: raise `HostError` where the host cannot be served warm at all, instead of starting it anew
            for each call.
        memoize: let the host's command tree be built once.
        merge_drivers: have git's merge drivers of the host answered warm as well.
        say: is told once, in a sentence for people, that calls are not answered warm, and why.
    """

    def __init__(
        self,
        *,
        required: bool = False,
        memoize: bool = True,
        merge_drivers: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._required, self._memoize, self._merge_drivers = required, memoize, merge_drivers
        self._say = say
        self._spawn = SpawnTransport()
        self._process: WarmProcess | None = None
        self._served: tuple[str, Path, dict[str, str]] | None = None
        self._let_go: list[WarmProcess] = []
        self._given_up = False
        self._starting = anyio.Lock()

    @property
    def pid(self) -> int | None:
        """The warm process's id, None while there is none."""
        return None if self._process is None else self._process.pid

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args` and return what it left; see `Transport.call`.

        Raises:
            HostError: warm calls are required and impossible.
        """
        await self._bury()
        first: Reply | None = None
        async with self._starting:
            if self._process is None and not self._given_up:
                first = await self._start(args[0], cwd, env)
        process = self._process if self._served == (args[0], cwd, env) else None
        if first is not None and tuple(args[1:]) == PROBE_ARGV:
            return first
        if process is None:
            return await self._spawn.call(args, cwd=cwd, env=env, limit_s=limit_s)
        try:
            reply = await conduct(lambda: Forked(process, args[1:], cwd), limit_s)
        except NotTaken as reason:
            self._give_up(str(reason))
            return await self._spawn.call(args, cwd=cwd, env=env, limit_s=limit_s)
        except TimeoutError:
            self._give_up(f"{_name(args)} did not end within {limit_s:g} s")
            raise
        if reply.rc < 0 or (reply.rc and not reply.stdout.strip() and not explains(reply)):
            self._give_up(f"{_name(args)} ended without an answer, with code {reply.rc}")
        return reply

    async def close(self) -> None:
        """End the warm process; the next call starts another, unless it was given up."""
        if self._process is not None:
            self._let_go.append(self._process)
            self._process = None
        with anyio.CancelScope(shield=True):
            while self._let_go:
                await to_thread.run_sync(self._let_go.pop().end)

    async def _bury(self) -> None:
        """See to those that were let go and have ended: not waited for, they would stay zombies."""
        ended = [process for process in self._let_go if process.ended()]
        self._let_go = [process for process in self._let_go if process not in ended]
        for process in ended:
            await to_thread.run_sync(process.end)

    def _give_up(self, reason: str) -> None:
        if self._given_up:
            return
        self._given_up = True
        get_logger().warning("host_not_warm", reason=reason)
        self._say(
            f"the host is not kept warm: {reason}; each call starts spec-kitty anew, which takes longer"
        )
        if self._process is not None:
            # Calls that it has begun may end; then it ends by itself.
            self._process.let_go()
            self._let_go.append(self._process)
            self._process = None

    async def _start(self, executable: str, cwd: Path, env: Mapping[str, str]) -> Reply | None:
        """Start the warm process, and take it into use if it answers as the executable does.

        Returns:
            The executable's answer to `PROBE_ARGV`, None if it was not asked or gave none.
        """
        try:
            script = await resolve(executable, cwd, env, START_LIMIT_S)
            if script is None:
                self._cannot(f"{executable} is not a Python program that we understand")
                return None
            process = await to_thread.run_sync(
                lambda: WarmProcess(
                    script, executable, cwd, memoize=self._memoize, merge_drivers=self._merge_drivers
                )
            )
        except OSError as error:
            self._cannot(str(error))
            return None
        try:
            asked, answered = await self._first_answers(script, process, executable, cwd, env)
            if answered is None:
                words = process.last_words()
                self._cannot(f"it did not start{': ' if words else ''}{words}")
            elif asked is None or _essence(asked) != _essence(answered):
                self._cannot("it answers otherwise than a process of its own")
            else:
                self._process, self._served = process, (executable, cwd, dict(env))
            return asked
        finally:
            if self._process is None:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(process.end, 0)

    def _cannot(self, reason: str) -> None:
        if self._required:
            raise HostError(f'[host] transport is "warm", but {reason}; set it to "auto" or "spawn"')
        self._give_up(reason)

    async def _first_answers(
        self, script: ConsoleScript, process: WarmProcess, executable: str, cwd: Path, env: Mapping[str, str]
    ) -> tuple[Reply | None, Reply | None]:
        """Return what the executable and the warm process say: the same, if that is what is to be trusted.

        Nothing but the script itself runs where it is the executable, so an answer in order is the
        executable's own; in any other case a process of its own is asked, too.
        """
        asked: Reply | None = None

        async def ask() -> None:
            nonlocal asked
            with suppress(OSError):
                asked = await self._spawn.call(
                    [executable, *PROBE_ARGV], cwd=cwd, env=env, limit_s=START_LIMIT_S
                )

        async with anyio.create_task_group() as tasks:
            if not script.plain:
                tasks.start_soon(ask)
            answered = await to_thread.run_sync(process.first_answer, abandon_on_cancel=True)
        if script.plain:
            if answered is not None and _in_order(answered):
                return answered, answered
            await ask()
        return asked, answered


def _name(args: Sequence[str]) -> str:
    return args[2] if len(args) > 2 else " ".join(args)


def _in_order(reply: Reply) -> bool:
    """Tell whether an answer is one envelope of a success and nothing else."""
    with suppress(ValueError):
        envelope = json.loads(reply.stdout)
        return reply.rc == 0 and isinstance(envelope, dict) and envelope.get("success") is True
    return False


def _essence(reply: Reply) -> object:
    """Return what two answers of the host to the same call have in common."""
    lines = reply.stdout.decode("utf-8", "replace").strip().splitlines()
    with suppress(ValueError, IndexError):
        envelope = json.loads(lines[-1])
        if isinstance(envelope, dict):
            kept = {name: value for name, value in envelope.items() if name not in CHANGING}
            return reply.rc, len(lines), kept
    return reply.rc, lines
