"""The coordinator's rounds: one question to each worker answers for all attempts.

They find who got a slot, fetch what logs have grown by, see ends, and count how long a machine has been
silent: only rounds count that the scheduler answered, so neither its absence nor our own sleep lose anybody.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.attempt_folder import LOGS, append, sizes
from spec_kitty_orchestrator.cluster.transport import Seat, Silent, Transport, Unreachable, misfits
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import get_logger

__all__ = ["LostMachine", "Rounds", "beside"]

EVERY_S = 0.5
APART_S = 0.05
"""At least so long lies between two rounds, however many workers have news."""
LONGEST_NAME = 200
"""Of a machine, which names itself."""
LOOK_LIMIT_S = 5.0
"""For one worker's answer in a round; one that dies must not hold up the others."""
CALL_LIMIT_S = 60.0
"""For any other call; all may be repeated, so one that takes longer is asked again."""
TAKEN_S = 1.0
"""In which a task takes a slot that was seen to be free; if it does not, another's was sooner.

Where the slot is free still, the scheduler takes its time: it has twice as long from then on."""
LONGEST_STEP_S = 2 * LOOK_LIMIT_S
"""What one round can add to a machine's silence."""


class LostMachine(Exception):
    """A machine has been silent for too long."""


@dataclass
class _Followed:
    """An attempt that somebody waits for.

    Attributes:
        machine: where it is, "" while it waits for a slot.
        only: where it has to get its slot, "" for anywhere.
        offered: a machine that holds a slot for it.
        at: the address where a free slot was seen last and asked for, "" for none.
        asked_at: when that was.
        patience_s: how long its task has to take that slot.
        state: as its machine told it last, "" before that.
        rest: whether its logs held more than one answer can.
    """

    agent: str
    directory: Path
    machine: str = ""
    only: str = ""
    offered: str = ""
    at: str = ""
    asked_at: float = 0.0
    patience_s: float = 0.0
    state: str = ""
    rest: bool = False
    news: anyio.Event = field(default_factory=anyio.Event)

    def tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()


class Rounds:
    """Asks the workers of a cluster again and again.

    Args:
        transport: to the cluster.
        version: of this package; a machine with another, or with another Python, takes no attempts.
        lost_after_s: a machine that is silent for so long is lost.
        clock: tells the time of rounds, in seconds.
        say: is told when the scheduler goes away and is back, and of machines that take no attempts.

    Attributes:
        machines: where each machine that answered in the last round is now.
    """

    def __init__(
        self,
        transport: Transport,
        version: str,
        *,
        lost_after_s: float,
        clock: Callable[[], float] = anyio.current_time,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._transport = transport
        self._version = version
        self._say = say
        self._lost_after_s = lost_after_s
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        self._silent_s: dict[str, float] = {}
        self._awaited: dict[str, int] = {}
        self._asked_at: float | None = None
        self._bell = anyio.Event()
        self._round = anyio.Event()
        self.machines: dict[str, Seat] = {}
        self._misfits: dict[str, str] | None = None
        self._away = False
        transport.listen(self._heard)

    async def keep_asking(self) -> None:
        """Make rounds for ever."""
        while True:
            begun = anyio.current_time()
            rest = await self.once()
            done, self._round = self._round, anyio.Event()
            done.set()
            if not rest:
                with anyio.move_on_after(EVERY_S):
                    await self._bell.wait()
                await anyio.sleep_until(begun + APART_S)
            self._bell = anyio.Event()

    def _heard(self, attempt_id: str) -> None:
        if attempt_id in self._followed:
            self.hurry()

    def hurry(self) -> None:
        """Let the next round begin at once."""
        self._bell.set()

    async def once(self) -> bool:
        """Make one round; tell whether there is more to fetch at once."""
        begun = self._clock()
        try:
            seats = await self._transport.workers()
        except Unreachable as error:
            # Nobody's absence counts.
            self._asked_at = None
            if not self._away:
                self._say(f"the scheduler is away; agents go on, and the run waits for it: {error}")
            self._away = True
            return False
        if self._away:
            self._say("the scheduler is back")
        self._away = False
        replies: dict[str, tuple[Seat, Mapping[str, Any]]] = {}
        async with anyio.create_task_group() as tasks:
            for seat in seats:
                tasks.start_soon(self._look, seat, replies)
        step_s = 0.0 if self._asked_at is None else min(begun - self._asked_at, LONGEST_STEP_S)
        self._asked_at = begun
        self.machines = {machine: seat for machine, (seat, _) in replies.items()}
        self._count_silence(step_s)
        self._judge(replies)
        for machine, (seat, reply) in replies.items():
            await self._take(machine, seat, reply)
        await self._keep_slots(replies)
        for one in list(self._followed.values()):
            if one.machine in self.machines or self._is_lost(one.machine or one.only):
                one.tell()
        return any(one.rest for one in self._followed.values())

    async def _look(self, seat: Seat, replies: dict[str, tuple[Seat, Mapping[str, Any]]]) -> None:
        places = {name: one.address for name, one in self.machines.items()}
        offsets = {
            name: await to_thread.run_sync(sizes, one.directory)
            for name, one in list(self._followed.items())
            if one.machine and places.get(one.machine, seat.address) == seat.address
        }
        try:
            reply = await self._transport.call(seat.address, "look", LOOK_LIMIT_S, offsets=offsets)
            machine = plain(str(reply["machine"]))[:LONGEST_NAME]
            replies[machine] = seat, {**reply, "offsets": offsets}
        except (Silent, Unreachable, KeyError) as error:
            get_logger().info("no answer of a worker", address=seat.address, error=str(error))

    def _judge(self, replies: Mapping[str, tuple[Seat, Mapping[str, Any]]]) -> None:
        """Note which machines take no attempts, and say it once; of those of the first round a start does."""
        known, found = self._misfits, dict(self._misfits or {})
        for machine, (_, reply) in replies.items():
            found[machine] = plain(", and ".join(misfits(reply, self._version).values()))
            if known is not None and found[machine] not in ("", known.get(machine)):
                self._say(f"{found[machine]}: it gets no attempts")
        self._misfits = found

    def takes(self, machine: str) -> bool:
        """Tell whether a machine answered in the last round and can run attempts of ours."""
        return machine in self.machines and not (self._misfits or {}).get(machine)

    def _count_silence(self, step_s: float) -> None:
        wanted = {one.machine or one.only for one in self._followed.values()} - {""} | self._awaited.keys()
        # Also one that nobody follows any more: lost, and back again, it has slots for others.
        self._silent_s.update(dict.fromkeys(self.machines, 0.0))
        for machine in wanted - self.machines.keys():
            self._silent_s[machine] = self._silent_s.get(machine, 0.0) + step_s

    def _is_lost(self, machine: str) -> bool:
        return bool(machine) and self._silent_s.get(machine, 0.0) >= self._lost_after_s

    async def _take(self, machine: str, seat: Seat, reply: Mapping[str, Any]) -> None:
        for name in reply["waiting"]:
            one = self._followed.get(name)
            if one is None:
                # Another coordinator's, or one of ours that nobody waits for just now.
                continue
            here = not one.machine and one.only in ("", machine)
            here = here and not reply["leaving"] and self.takes(machine)
            if here and one.offered in ("", machine):
                one.offered = machine
                one.tell()
            elif one.machine != machine:
                await self._try(seat.address, "dismiss", attempt_id=name)
        for name, seen in reply["attempts"].items():
            one = self._followed.get(name)
            if one is None:
                continue
            if one.machine != machine:
                # Its machine has another address now, and the scheduler moved the task meanwhile.
                if seen["held"]:
                    await self._try(seat.address, "dismiss", attempt_id=name)
                continue
            offsets = reply["offsets"][name]
            for log in LOGS:
                if data := seen["logs"].get(log):
                    # Where the disk refuses, it is taken in the next round, or when the attempt has ended.
                    with suppress(OSError):
                        await to_thread.run_sync(append, one.directory / log, offsets[log], data)
            one.rest = bool(seen["more"])
            # What it wrote is fetched before its end is told.
            if not one.rest:
                one.state = str(seen["state"])

    async def _keep_slots(self, replies: Mapping[str, tuple[Seat, Mapping[str, Any]]]) -> None:
        free = {
            seat.address: dict(reply.get("free", {}))
            for machine, (seat, reply) in replies.items()
            if not reply["leaving"] and self.takes(machine)
        }
        for name, one in list(self._followed.items()):
            seat, reply = replies.get(one.machine, (None, {}))
            with suppress(Unreachable):
                if not one.machine:
                    only = self.machines[one.only].address if self.takes(one.only) else ""
                    if not one.offered and (only or not one.only):
                        await self._ask_for_slot(name, one, only, free)
                elif (
                    seat is not None
                    and self.takes(one.machine)
                    and one.state == "running"
                    and not reply["attempts"].get(name, {}).get("held", True)
                ):
                    await self._hold(name, one, seat.address)

    async def _ask_for_slot(
        self, name: str, one: _Followed, only: str, free: dict[str, dict[str, float]]
    ) -> None:
        """Let the task of an attempt wait for a slot, where one is free: the scheduler does not see to it."""
        # Where it was asked for just now its task may not have come yet.
        asked = one.at in free and self._clock() - one.asked_at < one.patience_s
        if not asked:
            seen = [at for at in free if only in ("", at) and free[at].get(one.agent, 0) >= 1]
            if seen:
                one.patience_s = 2 * one.patience_s if one.at in seen else TAKEN_S
                if one.at in free:
                    # It may have come to its turn just now.
                    await self._try(one.at, "dismiss", attempt_id=name)
                one.at, one.asked_at = max(seen, key=lambda at: free[at][one.agent]), self._clock()
                await self._hold(name, one, one.at, free=True)
            else:
                one.at = one.at if one.at in free else ""
                where = only or one.at or self._anywhere(one.agent, free)
                if where is not None:
                    await self._hold(name, one, where)
        if one.at:
            free[one.at][one.agent] = free[one.at].get(one.agent, 0) - 1

    def _anywhere(self, agent: str, free: Mapping[str, object]) -> str | None:
        """Return where to wait for whatever slot comes, "" for all of the cluster, None for nowhere."""
        if all(map(self.takes, self.machines)):
            return ""
        # The scheduler would have it anywhere.
        offers = {seat.address: seat.resources.get(agent, 0) for seat in self.machines.values()}
        return max((at for at in free if offers[at] >= 1), key=lambda at: offers[at], default=None)

    async def _hold(self, name: str, one: _Followed, address: str, *, free: bool = False) -> None:
        # One that has ended meanwhile nobody would let go.
        if self._followed.get(name) is one:
            await self._transport.hold(name, one.agent, address, free=free)

    async def _try(self, address: str, method: str, **arguments: Any) -> None:
        with suppress(Silent, Unreachable):
            await self._transport.call(address, method, LOOK_LIMIT_S, **arguments)

    @contextmanager
    def following(
        self, attempt_id: str, agent: str, directory: Path, machine: str = "", only: str = ""
    ) -> Iterator[None]:
        """Look after an attempt while the context lasts."""
        self._followed[attempt_id] = _Followed(agent, directory, machine, only)
        self.hurry()
        try:
            yield
        finally:
            self._followed.pop(attempt_id, None)

    async def slot(self, attempt_id: str) -> str:
        """Wait until a machine holds a slot for a followed attempt; return the machine.

        Where it may have its slot at one machine alone, that is returned also when it is lost: asking tells.
        """
        one = self._followed[attempt_id]
        while not one.offered and not self._is_lost(one.only):
            await one.news.wait()
        return one.offered or one.only

    def refuse(self, attempt_id: str) -> None:
        """Wait for another slot, anywhere: the one that was offered is of no use."""
        one = self._followed[attempt_id]
        one.offered = one.only = one.at = ""

    async def let_go(self, attempt_id: str) -> None:
        """Give the slot of a followed attempt back, which begins nowhere, and follow it no more."""
        if seat := self.machines.get(self._followed.pop(attempt_id).offered):
            # A task that is only canceled would hold it for a while.
            await self._try(seat.address, "dismiss", attempt_id=attempt_id)
        await self._transport.release(attempt_id)

    async def widen(self, attempt_id: str) -> None:
        """Let an attempt that still waits for a slot of one machine have it anywhere."""
        one = self._followed.get(attempt_id)
        if one is not None and one.only and not one.machine and not one.offered:
            one.only = one.at = ""
            await self._transport.release(attempt_id)
            self.hurry()

    def settle(self, attempt_id: str, machine: str, state: str = "") -> None:
        """Note that an attempt is on this machine from now on, and how it is there if that is known."""
        one = self._followed[attempt_id]
        one.machine, one.state = machine, state
        self._silent_s.setdefault(machine, 0.0)

    def saw(self, attempt_id: str, state: str) -> None:
        """Note what a machine answered between the rounds."""
        self._followed[attempt_id].state = state

    async def end(self, attempt_id: str) -> str:
        """Wait until an attempt does not run on its machine; return its state. Raises `LostMachine`."""
        one = self._followed[attempt_id]
        while one.state in ("", "running"):
            if self._is_lost(one.machine):
                raise LostMachine(one.machine)
            await one.news.wait()
        return one.state

    async def ask(self, machine: str, method: str, **arguments: Any) -> Mapping[str, Any]:
        """Ask a machine until it answers, over its restarts.

        Raises:
            LostMachine: it is silent for too long.
            WorkspaceError: it says why it cannot.
        """
        self._awaited[machine] = self._awaited.get(machine, 0) + 1
        try:
            while not self._is_lost(machine):
                if seat := self.machines.get(machine):
                    try:
                        reply = await self._transport.call(seat.address, method, CALL_LIMIT_S, **arguments)
                    except (Silent, Unreachable) as error:
                        get_logger().info(
                            "to be asked again", machine=machine, method=method, error=str(error)
                        )
                    else:
                        if "error" in reply:
                            raise WorkspaceError(str(reply["error"]))
                        return reply
                await self._round.wait()
            raise LostMachine(machine)
        finally:
            self._awaited[machine] -= 1
            if not self._awaited[machine]:
                del self._awaited[machine]


@asynccontextmanager
async def beside(call: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> AsyncIterator[None]:
    """Let a call go on beside the body, which is canceled at its end; errors of the body stay as they are."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, *arguments)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again as itself, not in a group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
