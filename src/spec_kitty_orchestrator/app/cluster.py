"""A run on a cluster: how it is reached, and whether it can do what the run needs."""

import asyncio
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app.checks import Finding, edit, error, errors, ok, stop_at, warning
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import Placed, Wanted, read
from spec_kitty_orchestrator.cluster.transport import Seat, Silent, Transport, Unreachable, misfits
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError, UsageError
from spec_kitty_orchestrator.machine.logs import JOURNALS, mission_logs, path_part
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S

__all__ = [
    "EXTRA",
    "check_cluster",
    "check_executor",
    "check_left",
    "look_at_cluster",
    "reach",
    "stop_left",
    "tls_files",
    "unsafe",
    "with_whole_paths",
]

EXTRA = "pip install '.[dask]'"
"""In a checkout: the package index has another program of our name."""
LOOK_LIMIT_S = 10.0
STOP_LIMIT_S = STOP_GRACE_S + 15.0
WORKERS_LIMIT_S = 10.0
"""How long a cluster without workers is waited for: they come back soon after a restart of the scheduler."""
WORKERS_LOOK_S = 0.5


def unsafe(address: str) -> str:
    """Say why an address is open to more than this machine, "" if it is not."""
    if address.startswith("local:"):
        return ""
    parts = urlsplit(address)
    if parts.scheme == "tls":
        return ""
    host = parts.hostname or ""
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = host == "localhost"
    if inside:
        return ""
    return (
        f"{address} is neither TLS nor this machine alone: whoever reaches it runs programs as the user of "
        "each worker; use tls://, or --insecure-cluster where a network of its own protects it"
    )


def tls_files(address: str, files: Mapping[str, str], root: Path) -> tuple[str, str, str] | None:
    """Return the files that TLS needs as absolute paths, None for an address without TLS.

    Args:
        address: of the scheduler.
        files: by the names `tls_ca`, `tls_cert` and `tls_key`; "" for what was not given.
        root: where relative paths start.

    Raises:
        UsageError: one is missing, or too many are there.
    """
    given = {name: str(root / Path(path).expanduser()) for name, path in files.items() if path}
    if not address.startswith("tls://"):
        if given and not address.startswith("local:"):
            raise UsageError(
                f"{', '.join(given)}: only for an address that begins with tls://, not {address}"
            )
        return None
    for name in ("tls_ca", "tls_cert", "tls_key"):
        option = f"--{name.replace('_', '-')}"
        if name not in given:
            raise UsageError(f"{address} needs --tls-ca, --tls-cert and --tls-key; {option} is missing")
        if not Path(given[name]).is_file():
            raise UsageError(f"{option}: there is no file {given[name]}")
    _fit(given["tls_ca"], given["tls_cert"], given["tls_key"])
    return given["tls_ca"], given["tls_cert"], given["tls_key"]


def _fit(ca: str, certificate: str, key: str) -> None:
    """Check that TLS can use the files. Raises `UsageError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as failure:
        raise UsageError(f"--tls-ca: {ca} holds no certificate of an authority: {failure}") from failure
    try:
        # Not asked for: nobody could answer on a worker.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as failure:
        raise UsageError(
            f"--tls-cert {certificate} and --tls-key {key} are no pair of a certificate and its key, "
            f"which has no password: {failure}"
        ) from failure


def check_executor(project: Project) -> list[Finding]:
    """Check what can be seen of the cluster's settings before anything is started."""
    executor = project.settings.run.executor
    if not executor:
        return []
    return [*_reachable(project, executor), *_there(project)]


def _reachable(project: Project, executor: str) -> list[Finding]:
    if find_spec("distributed") is None:
        text = (
            f"--executor {executor} needs `distributed`, which is not installed: in a checkout, run {EXTRA}"
        )
        return [error("cluster.installed", text, EXTRA)]
    if (reason := unsafe(executor)) and not project.settings.cluster.insecure:
        return [error("cluster.secure", reason)]
    try:
        _files(project)
    except UsageError as failure:
        return [error("cluster.tls", str(failure), kind=UsageError)]
    return []


def _there(project: Project) -> list[Finding]:
    """Name the agents that no worker can have."""
    found = []
    for name, (agent, settings) in project.agents.items():
        if isinstance(agent, FunctionAgent):
            text = f"agent {name} is a function of this program, which no worker has"
            found.append(error("cluster.function", text, about=name))
            continue
        program = _of_the_repository(agent, settings)
        if program and project.settings.run.elsewhere:
            text = (
                f"agent {name}: {program} is a path in this repository, and no worker has that; "
                "write a name that is on PATH there, or a path that begins with / or ~"
            )
            found.append(error("cluster.executable", text, edit(project.root / CONFIG_FILE), name))
    return found


def _of_the_repository(agent: Agent, settings: AgentSettings) -> str:
    """Return the relative path that an agent's program is named by, "" if it is a name or a whole path."""
    program = settings.executable or agent.executable
    return program if os.sep in program and not program.startswith((os.sep, "~")) else ""


def with_whole_paths(project: Project) -> Mapping[str, tuple[Agent, AgentSettings]]:
    """Return the agents of the run as workers of this machine find them, in whatever folder they are."""
    return {
        name: (agent, replace(settings, executable=str(project.root / program)) if program else settings)
        for name, (agent, settings) in project.agents.items()
        for program in (_of_the_repository(agent, settings),)
    }


def check_left(project: Project, mission: str) -> list[Finding]:
    """Check that a start without a cluster has no attempts on one; reads the disk."""
    if project.settings.run.executor:
        return []
    again = "give the --executor again that it was started with"
    return [
        error("cluster.left", f"{wp}: its {what} is on {placed.machine}, a machine of a cluster: {again}")
        for wp, what, placed in _left(project.root, mission)
    ]


def _left(root: Path, mission: str) -> Iterator[tuple[str, str, Placed]]:
    """Find what is on machines and was not taken over, each with its work package and what it is."""
    for path in sorted(mission_logs(root, mission).glob(f"*/*/{PLACED}")):
        placed, wanted = read(Placed, path), read(Wanted, path.with_name(WANTED))
        gate = wanted is not None and wanted.gate is not None
        if gate and path.with_name("result.json").exists():
            # It is over, and left nothing there that is wanted.
            continue
        if placed is not None and not (placed.done or placed.lost):
            yield path.parent.parent.name, "gate" if gate else "attempt", placed


async def stop_left(
    root: Path, mission: str, opened: Callable[[], Awaitable[tuple[Project, str]]]
) -> list[str]:
    """Stop what runs on machines for a mission without a run, and say in lines what became of it.

    What it did stays there until the next start. `opened` gives the project with the settings of the run.
    """
    left = await to_thread.run_sync(lambda: list(_left(root, mission)))
    if not left:
        return []
    seats: dict[str, Seat] = {}
    stopped = set[str]()

    async def stop(transport: Transport, placed: Placed) -> None:
        with suppress(Silent, Unreachable, KeyError):
            address, which = seats[placed.machine].address, [placed.attempt]
            told = await transport.call(address, "stop", STOP_LIMIT_S, attempts=which, grace_s=STOP_GRACE_S)
            if told["states"][placed.attempt] != "running":
                stopped.add(placed.attempt)

    def say(wp: str, what: str, placed: Placed) -> str:
        if placed.attempt in stopped:
            return f"{wp}: its {what} is stopped at {placed.machine}, and its work is there"
        why = "does not say that it ended" if placed.machine in seats else "is away"
        return f"{wp}: its {what} may go on at {placed.machine}, which {why}"

    try:
        project, _ = await opened()
        if not project.settings.run.elsewhere:
            # Its processes are of this machine.
            return []
        async with reach(project, mission) as transport:
            for seat in await transport.workers():
                with suppress(Silent, Unreachable, KeyError):
                    seen = await transport.call(seat.address, "look", LOOK_LIMIT_S, offsets={})
                    seats[str(seen["machine"])] = seat
            async with anyio.create_task_group() as tasks:
                for _, _, placed in left:
                    tasks.start_soon(stop, transport, placed)
    except OrchestratorError as failure:
        return [f"{wp}: its {what} may go on at {placed.machine}; {failure}" for wp, what, placed in left]
    return [say(*one) for one in left]


def _files(project: Project) -> tuple[str, str, str] | None:
    files = project.settings.cluster.model_dump(include={"tls_ca", "tls_cert", "tls_key"})
    return tls_files(project.settings.run.executor, files, project.root)


@asynccontextmanager
async def reach(project: Project, mission: str) -> AsyncIterator[Transport]:
    """Be connected with the cluster of the settings. Raises `PreflightError`, and `UsageError` on trio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError("a cluster needs asyncio: run with `anyio.run(…, backend='asyncio')`") from None
    stop_at(errors(check_executor(project)))
    from spec_kitty_orchestrator.cluster.dask import DaskTransport, security

    executor, most = project.settings.run.executor, project.settings.run.max_concurrent
    try:
        if executor.startswith("local:"):
            from spec_kitty_orchestrator.cluster.local import local_cluster

            workers = int(executor.removeprefix("local:"))
            offers = dict.fromkeys(project.agents, -(-most // workers))
            folder = project.root / JOURNALS / ".cluster" / path_part(mission)
            async with local_cluster(workers, offers, folder) as transport:
                yield transport
        else:
            files = _files(project)
            async with DaskTransport(executor, security(*files) if files else None).connected() as transport:
                yield transport
    except Unreachable as failure:
        raise PreflightError(f"the cluster cannot be used: {failure}") from failure


async def look_at_cluster(project: Project, version: str) -> list[Finding]:
    """Check what the workers of other machines offer, within seconds; nothing if that cannot be asked."""
    if not project.settings.run.elsewhere or errors(check_executor(project)):
        return []
    try:
        async with reach(project, "") as transport:
            return await check_cluster(project, transport, version)
    except PreflightError as failure:
        return [error("cluster", str(failure))]


async def check_cluster(project: Project, transport: Transport, version: str) -> list[Finding]:
    """Check that workers are there for each agent of the run, with this version. Raises `Unreachable`."""
    seats = await transport.workers()
    with anyio.move_on_after(WORKERS_LIMIT_S):
        while not seats:
            await anyio.sleep(WORKERS_LOOK_S)
            seats = await transport.workers()
    executor = project.settings.run.executor
    offered: dict[str, float] = {}
    answered, dask = 0, installed("distributed")
    found: list[Finding] = []

    async def look(seat: Seat) -> None:
        nonlocal answered
        try:
            told = await transport.call(seat.address, "look", LOOK_LIMIT_S, offsets={})
        except (Silent, Unreachable) as failure:
            text = f"worker {seat.name} cannot run agents ({failure})"
            found.append(warning("cluster.worker", f"{text}: start it with `spec-kitty-orchestrator worker`"))
            return
        answered += 1
        for what, text in misfits(told, version).items():
            fix = EXTRA if what == "version" else "let both have the same"
            found.append(error(f"cluster.{what}", text, fix))
        if (theirs := told.get("dask")) != dask:
            text = f"worker {told.get('machine')} has version {theirs} of distributed, we have {dask}"
            found.append(
                warning("cluster.dask", f"{text}: if attempts wait there for ever, install the same")
            )
        for agent, most in seat.resources.items():
            offered[agent] = offered.get(agent, 0) + most

    async with anyio.create_task_group() as tasks:
        for seat in seats:
            tasks.start_soon(look, seat)
    for agent in project.agents:
        if agent not in offered:
            offers = ", ".join(f"{name}={most:g}" for name, most in sorted(offered.items()))
            known = f"its workers offer {offers}" if seats else "it has no worker"
            text = f"no worker of {executor} offers {agent}; {known}"
            fix = (
                f"on a machine with {agent}: spec-kitty-orchestrator worker {executor} --resources {agent}=2"
            )
            found.append(error("cluster.agent", text, fix, agent))
    if not errors(found):
        slots = ", ".join(f"{agent}={offered[agent]:g}" for agent in project.agents)
        found.append(ok("cluster", f"{executor}: {count(answered, 'worker')} with {slots}"))
    return found
