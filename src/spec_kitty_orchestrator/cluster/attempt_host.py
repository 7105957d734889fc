"""A machine's side of attempts: only `begin` spawns, under a lock, and the disk says what became of it.

What is here survives the process that a scheduler knows: it may end and come again, with another address.
Everything that is asked may be asked again.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.attempt_folder import (
    BACK,
    DELIVERY,
    KEPT,
    MOST_LOG_BYTES,
    PIECE_BYTES,
    SENT,
    SETUP,
    STOP,
    begun,
    delivery_of,
    empty,
    growth,
    here,
    path_of,
    piece,
    put,
    state_of,
)
from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.chores import Chores
from spec_kitty_orchestrator.cluster.machine_agents import Runner, Shared, runner_of, setup_runner
from spec_kitty_orchestrator.cluster.machine_folder import MachineFolder
from spec_kitty_orchestrator.cluster.machine_gate import MachineSetup, SetupFailed, marker_of
from spec_kitty_orchestrator.cluster.records import (
    ATTEMPT,
    ORDER,
    Delivery,
    WorkOrder,
    read,
    spelled,
    understood,
    write,
)
from spec_kitty_orchestrator.cluster.worker_log import WorkerLog
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome
from spec_kitty_orchestrator.errors import OrchestratorError, WorkspaceError
from spec_kitty_orchestrator.machine import attempt_files
from spec_kitty_orchestrator.machine.files import make_private_folder
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.machine.stopping import sweep

__all__ = ["AttemptHost"]

GO_S = 600.0
"""A slot that nobody uses is given back after so long."""
LOOK_S = 0.5
"""How often a slot is looked at whose task may be canceled, or whose attempt another process attends."""


@dataclass
class _Running:
    """An attempt that this process attends; `setup` comes first."""

    attempt: Attempt
    runner: Runner
    setup: MachineSetup | None
    task: "asyncio.Task[None]"

    async def stop(self, grace_s: float) -> None:
        """Stop it, itself first, so that it does not begin when its setup ends; return when all is gone."""
        await self.runner.stop(self.attempt, grace_s)
        if self.setup is not None:
            await self.setup.stop(grace_s)


@dataclass
class _Slot:
    """A task of the scheduler's that holds a slot; `go_on` is set when there may be something new."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    dismissed: bool = False


class AttemptHost:
    """Runs attempts on this machine for coordinators elsewhere; one for each state folder and process.

    Args:
        folder: on a disk of this machine.
        version: of this package.
        hidden: what no confined agent sees, besides what a project hides: the keys of the cluster.
        say: is told of what people should know.

    Attributes:
        machine: names it, also after a restart.
        leaving: whether it takes no more.
        log: tells people of the attempts.
        ring: is told which attempt has got a slot here, or has ended.
    """

    def __init__(
        self,
        folder: MachineFolder,
        *,
        version: str,
        hidden: Sequence[Path] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._attempts = folder.path / "attempts"
        self._version = version
        self._shared = Shared(folder.path, version, tuple(map(str, hidden)))
        make_private_folder(self._attempts)
        self._checkouts = Checkouts(folder.path, say)
        self.machine: str = folder.name
        self.leaving = False
        self.ring: Callable[[str], None] = lambda _: None
        self._running: dict[str, _Running] = {}
        self._failed: dict[str, SetupFailed] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._slots: dict[str, _Slot] = {}
        self._chores = Chores(self._checkouts, self._attempts)
        self.log: WorkerLog = WorkerLog(say)

    async def adopt(self) -> None:
        """Attend the attempts that an earlier process of this machine has begun and that have no result."""
        for name in await to_thread.run_sync(os.listdir, self._attempts):
            # One that never started needs what is in no file of ours: it is asked for again.
            async with self._alone(name):
                attempt, order = await to_thread.run_sync(begun, self._place(name))
                if attempt is None or order is None or name in self._running:
                    continue
                if await self._state(name) == "running":
                    written = await anyio.Path(self._place(name), ATTEMPT).stat()
                    self.log.begins(order, written.st_mtime)
                    self._attend(attempt, runner_of(order, self._place(name), self._shared))
                elif order.setup is not None:  # What it has half done is done again with the next `begin`.
                    await sweep(marker_of(name))

    async def handle(self, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a coordinator; what goes wrong here is an answer, too: `error` says it in words."""
        asked: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "look": self.look,
            "have": self.have,
            "put": self.put,
            "get": self.get,
            "begin": self.begin,
            "stop": self.stop,
            "pack": self.pack,
            "drop": self.drop,
            "dismiss": self.dismiss,
        }
        try:
            return await asked[method](**arguments)
        except (OrchestratorError, OSError, ValueError) as error:
            self.log.refused(method, str(error))
            return {"error": f"{self.machine}: {error}"}

    async def hold(self, attempt_id: str, is_wanted: Callable[[], bool], go_s: float = GO_S) -> str:
        """Hold a slot for an attempt until it has ended here, or nobody wants it here; return why."""
        await self.dismiss(attempt_id)  # An earlier task was canceled, and its body would go on for a while.
        slot = self._slots[attempt_id] = _Slot()
        since = anyio.current_time()
        self.ring(attempt_id)
        try:
            with anyio.move_on_after(go_s) as waiting:
                while not slot.dismissed and is_wanted():
                    # Before the look, which what comes meanwhile may have made an old one.
                    slot.news.clear()
                    state = await self._state(attempt_id)
                    if state == "running":
                        waiting.deadline = float("inf")
                    elif state != "absent" or waiting.deadline == float("inf"):
                        return state
                    else:
                        self.log.waits(attempt_id, anyio.current_time() - since)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(slot.news.wait(), LOOK_S)
            return "dismissed" if slot.dismissed else "nobody came"
        finally:
            if self._slots.get(attempt_id) is slot:
                del self._slots[attempt_id]

    async def dismiss(self, attempt_id: str) -> dict[str, Any]:
        """Give the slot of an attempt back that is elsewhere."""
        if slot := self._slots.get(attempt_id):
            slot.dismissed = True
            slot.news.set()
        return {}

    async def look(self, offsets: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """Tell who waits here, and of these attempts how they are and what their logs hold beyond that."""
        self.log.heard(offsets)
        found = {name: await self._seen(name, logs) for name, logs in offsets.items()}
        waiting = [name for name in self._slots if name not in found]
        return {
            "machine": self.machine,
            "version": self._version,
            "leaving": self.leaving,
            "waiting": waiting,
            "attempts": found,
        }

    async def _seen(self, attempt_id: str, logs: Mapping[str, int]) -> dict[str, Any]:
        state = await self._state(attempt_id)
        if state == "running" and attempt_id not in self._running:
            await self.adopt()
        attempt = await to_thread.run_sync(read, Attempt, self._place(attempt_id) / ATTEMPT)
        told: dict[str, bytes] = {}
        if attempt is not None:
            told = await to_thread.run_sync(growth, Path(attempt.directory), logs)
        more = any(len(data) == MOST_LOG_BYTES for data in told.values())
        return {"state": state, "held": attempt_id in self._slots, "logs": told, "more": more}

    async def _state(self, attempt_id: str) -> str:
        if attempt_id in self._running:
            return "running"
        return await state_of(self._place(attempt_id), attempt_id)

    async def have(self, project: str, clone: str) -> dict[str, Any]:
        """Name the commits of a project that need not be sent."""
        return {"commits": list(await self._checkouts.have(project, clone))}

    async def put(self, attempt_id: str, offset: int, data: bytes) -> dict[str, Any]:
        """Take a piece of the bundle of an attempt."""
        folder = self._place(attempt_id)
        make_private_folder(folder)
        await to_thread.run_sync(put, folder / SENT, offset, data)
        return {}

    async def begin(self, order: bytes) -> dict[str, Any]:
        """Begin an attempt unless it has begun, or was stopped; asked twice, it is spawned once.

        Where its setup has failed that is told instead, once: who asks again has it tried again.
        """
        wanted = understood(WorkOrder, order)
        name = wanted.request.id
        folder = self._place(name)
        make_private_folder(folder)
        async with self._alone(name):
            if failed := self._failed.pop(name, None):
                return {"state": "absent", "failed": str(failed), "tail": failed.tail}
            if await self._state(name) == "absent":
                prepared = None if self.leaving else await self._prepare(wanted, folder)
                if self.leaving:
                    (folder / STOP).touch(mode=0o600)
                # Who stops an attempt does not wait for its workspace to be made.
                if prepared is not None and not (folder / STOP).exists():
                    self.log.begins(wanted)
                    self._attend(*prepared, wanted)
                    self._chores.prepare(wanted.shipment)
        return {"state": await self._state(name)}

    async def _prepare(self, order: WorkOrder, folder: Path) -> tuple[Attempt, Runner]:
        bundle = folder / SENT
        tree = await self._checkouts.check_out(
            order.holder, order.shipment, bundle if bundle.exists() else None
        )
        await to_thread.run_sync(write, folder / ORDER, order.without_values)
        bundle.unlink(missing_ok=True)
        runner = runner_of(order, folder, self._shared)
        attempt = await runner.open(await to_thread.run_sync(here, order, tree, folder))
        await to_thread.run_sync(write, folder / ATTEMPT, attempt)
        return attempt, runner

    def _attend(self, attempt: Attempt, runner: Runner, order: WorkOrder | None = None) -> None:
        setup = setup_runner(order, self._place(attempt.id), self._shared) if order is not None else None

        async def attend() -> None:
            directory, saved = Path(attempt.directory), None
            try:
                if setup is not None:
                    await setup.run(self._checkouts, directory / SETUP)
                report = await runner.run(attempt)
                saved = await to_thread.run_sync(attempt_files.read_result, directory, attempt.id)
            except SetupFailed as error:
                self._failed[attempt.id] = error
                self.log.not_set_up(attempt.id, str(error))
                return
            except OrchestratorError as error:
                report = AgentReport(Outcome.CRASHED, detail=str(error))
            # A gate has no such record of its own: what is there its program has written.
            if saved is None or not isinstance(runner, LocalAgents):
                await attempt_files.save(attempt, report)
            self.log.ends(attempt.id, report.outcome)

        def gone(_: object) -> None:
            self._running.pop(attempt.id, None)
            self._tell(attempt.id)
            self.ring(attempt.id)

        task = asyncio.create_task(attend())
        self._running[attempt.id] = _Running(attempt, runner, setup, task)
        task.add_done_callback(gone)
        self._tell(attempt.id)

    def _tell(self, attempt_id: str) -> None:
        if slot := self._slots.get(attempt_id):
            slot.news.set()

    async def stop(self, attempts: Iterable[str] | None, grace_s: float) -> dict[str, Any]:
        """Stop attempts, None for all; those that have not begun here never will."""
        names = list(self._running) if attempts is None else list(attempts)
        for name in names:
            folder = self._place(name)
            # Where the disk is full, what runs is stopped all the same: it does not begin again.
            with suppress(OSError) if name in self._running else nullcontext():
                make_private_folder(folder)
                (folder / STOP).touch(mode=0o600)
            self._tell(name)
        running = [self._running[name] for name in names if name in self._running]
        async with anyio.create_task_group() as tasks:
            for one in running:
                tasks.start_soon(one.stop, grace_s)
        for one in running:
            with suppress(asyncio.CancelledError, TimeoutError):
                # Its report is still to be made of what it left.
                await asyncio.wait_for(asyncio.shield(one.task), 10.0)
        return {"states": {name: await self._state(name) for name in names}}

    async def pack(self, attempt_id: str) -> dict[str, Any]:
        """Make ready what an attempt that has ended hands back; its processes are gone."""
        folder = self._place(attempt_id)
        async with self._alone(attempt_id):
            if (delivery := await to_thread.run_sync(read, Delivery, folder / DELIVERY)) is None:
                attempt, order = await to_thread.run_sync(begun, folder)
                if attempt is None or order is None or await self._state(attempt_id) != "ended":
                    raise WorkspaceError(f"attempt {attempt_id} has not ended here")
                report = await to_thread.run_sync(
                    attempt_files.read_result, Path(attempt.directory), attempt_id
                )
                assert report is not None
                packed = await self._checkouts.pack(order.holder, order.shipment, folder / BACK)
                found = (folder, Path(attempt.directory), report, packed)
                delivery = await to_thread.run_sync(delivery_of, *found)
                await to_thread.run_sync(write, folder / DELIVERY, delivery)
        return {"delivery": spelled(delivery)}

    async def get(self, attempt_id: str, name: str, offset: int) -> dict[str, Any]:
        """Return a piece of a file that a delivery names, or of its bundle, which has the name ""."""
        folder = self._place(attempt_id)
        if not name:
            return {"data": await to_thread.run_sync(piece, folder / BACK, offset, PIECE_BYTES)}
        attempt = await to_thread.run_sync(read, Attempt, folder / ATTEMPT)
        if attempt is None or name not in KEPT:
            raise WorkspaceError(f"there is no {name!r} of attempt {attempt_id}")
        path = path_of(Path(attempt.directory), name)
        return {"data": await to_thread.run_sync(piece, path, offset, PIECE_BYTES)}

    async def drop(self, attempt_id: str) -> dict[str, Any]:
        """Forget an attempt but for a mark with which nothing begins that was asked for before."""
        folder = self._place(attempt_id)
        make_private_folder(folder)
        (folder / STOP).touch(mode=0o600)
        async with self._alone(attempt_id):
            if attempt_id in self._running:
                await self.stop([attempt_id], 0.0)
            self._failed.pop(attempt_id, None)
            order = await to_thread.run_sync(read, WorkOrder, folder / ORDER)
            if order is not None:
                await self._checkouts.drop(order.holder, order.shipment.project)
            await to_thread.run_sync(empty, folder)
        self.log.taken(attempt_id)
        self._tell(attempt_id)
        self._chores.tidy(idle=not self._running)
        return {}

    async def unclaimed(self) -> list[str]:
        """Name the attempts that have begun here and that no coordinator has taken over yet."""
        found = self._attempts.glob(f"*/{ATTEMPT}")
        return [one.parent.name for one in await to_thread.run_sync(list, found)]

    async def close(self) -> None:
        """Attend nothing any more; attempts go on."""
        tasks = [one.task for one in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._chores.close(), return_exceptions=True)

    def _place(self, attempt_id: str) -> Path:
        if not attempt_id.replace("-", "").isalnum():
            raise WorkspaceError(f"{attempt_id!r} is not the id of an attempt")
        return self._attempts / attempt_id

    @asynccontextmanager
    async def _alone(self, attempt_id: str) -> AsyncIterator[None]:
        """Keep others out of an attempt: in this process, and in others with the same state folder."""
        async with self._turns.setdefault(attempt_id, asyncio.Lock()):
            path = self._place(attempt_id) / "lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                await to_thread.run_sync(fcntl.flock, descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
