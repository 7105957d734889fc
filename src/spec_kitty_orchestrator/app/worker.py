"""The `worker` command: a machine that runs agents for coordinators elsewhere, from its start to its end."""

import fcntl
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import anyio

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks.agents import missing
from spec_kitty_orchestrator.app.cluster import EXTRA, tls_files, unsafe
from spec_kitty_orchestrator.cluster.attempt_host import AttemptHost
from spec_kitty_orchestrator.cluster.machine_folder import MachineFolder
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.errors import PreflightError, UsageError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S

__all__ = ["Wanted", "work"]

HAND_BACK_S = 60.0
"""How long a worker that leaves waits for coordinators to take what its agents did."""
LOOK_S = 0.2

_CLIS = tuple(name for name, agent in BUILT_IN.items() if not isinstance(agent, Scripted))
_OFFER = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*=\s*(\d{1,3})\s*")


@dataclass(frozen=True)
class Wanted:
    """What a worker is started with.

    Attributes:
        address: of the scheduler.
        resources: how many of each agent, as text; None for `slots` of each that is installed.
        folder: None for the usual place.
        bind: the address of this machine; None for the one that leads to the scheduler.
        name: of the worker; None for that of the machine.
        tls: the files, by their settings' names.
        insecure: whether it may be reached by other machines without TLS.
        once: whether it ends with its scheduler.
    """

    address: str
    resources: str | None
    slots: int
    folder: Path | None
    bind: str | None
    name: str | None
    tls: Mapping[str, str]
    insecure: bool
    once: bool


async def work(wanted: Wanted, say: Callable[[str], None]) -> int:
    """Be a worker until a signal or, where that is wanted, the scheduler ends it; return the exit code.

    Raises:
        UsageError: an option is wrong.
        PreflightError: `distributed` is missing, no agent is there, or the cluster would be open to others.
        WorkspaceError: the state folder cannot be used, or git is not there.
    """
    if find_spec("distributed") is None:
        raise PreflightError(
            f"a worker needs `distributed`, which is not installed: in a checkout, run {EXTRA}"
        )
    address = wanted.address.replace("dask://", "tcp://", 1)
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", address):
        raise UsageError(f"{wanted.address!r} is no address of a scheduler: write tls://HOST:8786")
    if (reason := unsafe(address)) and not wanted.insecure:
        raise PreflightError(reason)
    files = tls_files(address, wanted.tls, Path.cwd())
    runner = _built_in()
    offered = _offered(wanted, runner)
    await Git(Path.cwd()).run("--version")
    for name in set(offered).intersection(_CLIS):
        if runner.executable(name) is None:
            # Not refused: a run may say that its program is somewhere else.
            say(f"warning: {missing(name, runner).text}")

    from spec_kitty_orchestrator.cluster.dask import security
    from spec_kitty_orchestrator.cluster.worker import CameAndWent, keep_working

    folder = MachineFolder.open(wanted.folder)
    _alone(folder.path)
    # Loads the logger, for which the first attempt would wait.
    get_logger().info("worker", machine=folder.name, offered=offered)
    host = AttemptHost(folder, version=VERSION, hidden=[Path(one) for one in files or ()], say=say)
    bind = wanted.bind or ("127.0.0.1" if not unsafe(address.replace("tls://", "tcp://")) else None)
    code = 0
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            tasks.start_soon(_leave_when_told, signals, host, tasks.cancel_scope, say)
            tasks.start_soon(host.log.keep_looking)
            await host.adopt()
            try:
                await keep_working(
                    host,
                    address,
                    resources=offered,
                    tls=security(*files) if files else None,
                    bind=bind,
                    name=wanted.name,
                    once=wanted.once,
                    say=say,
                )
            except CameAndWent as reason:
                say(f"{reason}; agents go on, and the next worker of this machine finds them")
                code = 1
            tasks.cancel_scope.cancel()
    await host.close()
    return code


def _built_in() -> ConfiguredAgents:
    return ConfiguredAgents(
        Path.cwd(), {name: (BUILT_IN[name], AgentSettings()) for name in _CLIS}, version=VERSION
    )


def _offered(wanted: Wanted, runner: ConfiguredAgents) -> dict[str, int]:
    """Return how many attempts of each agent run here at once."""
    if wanted.resources is not None:
        offered = {}
        for part in wanted.resources.split(","):
            found = _OFFER.fullmatch(part)
            if not found or not 1 <= int(found[2]) <= 256:
                raise UsageError(f"--resources: {part!r} is not AGENT=N, as in claude-code=2,codex=1")
            offered[found[1]] = int(found[2])
        return offered
    installed = [name for name in _CLIS if runner.executable(name) is not None]
    if not installed:
        raise PreflightError(
            "no agent is installed here: install one, or name those of your own with --resources"
        )
    return dict.fromkeys(installed, wanted.slots)


def _alone(folder: Path) -> None:
    """Keep other workers out of a state folder for as long as this process lives. Raises `UsageError`."""
    descriptor = os.open(folder / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"another worker has {folder}: stop it, or give this one a --state-folder of its own"
        ) from None


async def _leave_when_told(
    signals: AsyncIterator[signal.Signals],
    host: AttemptHost,
    scope: anyio.CancelScope,
    say: Callable[[str], None],
) -> None:
    """Stop the agents at a signal and wait until their work is handed back; a second signal ends that."""
    async with anyio.create_task_group() as leaving:
        async for received in signals:
            if host.leaving:
                say(f"{received.name}: what is still here stays in the state folder of {host.machine}")
                break
            host.leaving = True
            say(f"{received.name}: stopping the agents and handing their work back; a second signal hurries")
            leaving.start_soon(_leave, host, scope, say)
        scope.cancel()


async def _leave(host: AttemptHost, scope: anyio.CancelScope, say: Callable[[str], None]) -> None:
    await host.stop(None, STOP_GRACE_S)
    with anyio.move_on_after(HAND_BACK_S):
        while await host.unclaimed():  # noqa: ASYNC110 - files tell it, also those of an earlier process
            await anyio.sleep(LOOK_S)
    left = await host.unclaimed()
    kept = f"the work of {count(len(left), 'attempt')}, for which no run came, is kept in the state folder"
    say(kept if left else "all is handed back")
    scope.cancel()
