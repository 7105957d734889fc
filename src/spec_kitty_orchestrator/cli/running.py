"""What `orchestrate` and `resume` share: signals, and a run from its lock to its summary."""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from spec_kitty_orchestrator.app.build import build, build_agents, build_host, run_log
from spec_kitty_orchestrator.app.checks import stop_at
from spec_kitty_orchestrator.app.checks.agent_programs import Installed, find_installed
from spec_kitty_orchestrator.app.checks.agents import (
    dependent_reviews,
    find_problems,
    uncounted_costs,
    untried_versions,
)
from spec_kitty_orchestrator.app.checks.mission import read_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import mission_files, unsaved
from spec_kitty_orchestrator.app.runs import archive_journal, describe_end, known_run
from spec_kitty_orchestrator.cli import summary
from spec_kitty_orchestrator.cli.options import OnInterrupt, RunOptions
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.landing import land
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import configure_logging
from spec_kitty_orchestrator.machine.sleep import kept_awake
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.plain import PlainView

NOT_LANDED = 1
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Work:
    """One call of a command: what was asked, and who is told of signals."""

    def __init__(
        self,
        project: Project,
        mission: str,
        chosen: RunOptions,
        *,
        fresh: bool = False,
    ) -> None:
        self.project = project
        self.mission = mission
        self.chosen = chosen
        self.fresh = fresh
        self.agents = build_agents(project, self.say)
        self.interrupt: Callable[[int], None] = self._leave
        self._drains = chosen.on_interrupt is OnInterrupt.DRAIN
        self._received: int | None = None
        self._scope: anyio.CancelScope | None = None
        self._view: LiveView | PlainView | None = None
        self._unsaid: list[str] = []
        self.calls: Counter[str] = Counter()
        self.installed: Mapping[str, Installed] = {}

    async def main(self, action: "Callable[[Work], Awaitable[int]]") -> int:
        """Perform the action while signals are received as events; return the exit code."""
        code = 0
        with anyio.open_signal_receiver(*STOPPING_SIGNALS) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, signals)
                with anyio.CancelScope() as self._scope:
                    code = await action(self)
                tasks.cancel_scope.cancel()
        return code if self._received is None else 128 + self._received

    async def _listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for received in signals:
            # A terminal that is closed asks for the same as `kill`.
            self.interrupt(signal.SIGTERM if received == signal.SIGHUP else received)

    def _leave(self, received: int) -> None:
        """Stop at once: nothing that must be saved runs yet."""
        self._received = received
        if self._scope is not None:
            self._scope.cancel()

    def note_call(self, name: str) -> None:
        """Count a call of the host."""
        self.calls[name] += 1

    def say(self, message: str) -> None:
        """Tell people something of the whole run, as soon as there is a view of it."""
        if self._view is None:
            self._unsaid.append(message)
        else:
            self._view.said(message)

    def show(self, view: LiveView | PlainView) -> None:
        """Say from now on in this view what there is to say."""
        self._view = view
        for message in self._unsaid:
            view.said(message)

    def tell(self, orchestrator: Orchestrator, view: LiveView | PlainView) -> None:
        """Let the orchestrator hear of signals from now on."""

        def interrupt(received: int) -> None:
            name = signal.Signals(received).name
            if self._drains:
                self._drains = False
                view.said(f"{name}: nothing more is started, running agents may end; a second signal stops")
                orchestrator.drain(received)
                return
            view.said(f"{name}: stopping the agents and saving their work; a second signal hurries")
            orchestrator.interrupt(received)

        self.interrupt = interrupt

    def tell_of_landing(self, view: LiveView | PlainView) -> None:
        """Let a signal stop a merge or an acceptance only when it is repeated: half of one helps nobody."""

        def interrupt(_received: int) -> None:
            view.said("the host is still at work on the merge or the acceptance; a second signal stops it")
            self.interrupt = self._leave

        self.interrupt = interrupt


@asynccontextmanager
async def prepared(work: Work) -> AsyncIterator[tuple[HostClient, MissionState]]:
    """Find everything that stands in the way, and raise it all at once; the host is closed at the end."""
    problems = find_problems(work.project, work.agents)
    for reason in uncounted_costs(work.project):
        work.say(reason)
    try:
        host = build_host(work.project, work.say, work.note_call)
    except OrchestratorError as error:
        stop_at([*problems, error])
        raise
    states: list[MissionState] = []
    incompatible: list[OrchestratorError] = []
    unreadable: list[OrchestratorError] = []

    async def check() -> None:
        try:
            await host.check_contract()
        except OrchestratorError as error:
            incompatible.append(error)

    async def look() -> None:
        try:
            states.append(await read_mission(work.project, host, work.mission))
        except OrchestratorError as error:
            unreadable.append(error)

    async def look_at_agents() -> None:
        work.installed = await find_installed(work.agents, work.project.agents, thorough=False)

    async with host:
        # A call of the host takes seconds, and none needs another's answer.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_at_agents)
            tasks.start_soon(check)
            tasks.start_soon(look)
        stop_at(problems + (incompatible or unreadable))
        yield host, states[0]


async def run(work: Work) -> int:
    """Run the mission, from where it was left or from the start; return the exit code."""
    async with AsyncExitStack() as stack:
        host, state = await stack.enter_async_context(prepared(work))
        project, mission = work.project, state.slug
        stack.enter_context(MissionLock(project.directory(mission), mission))
        stack.enter_context(configure_logging(run_log(project, mission), project.redactor))
        if not work.chosen.no_caffeinate:
            stack.enter_context(kept_awake())
        console = SteadyConsole(highlight=False, redactor=project.redactor)
        live = console.is_terminal and not console.is_dumb_terminal
        view = LiveView(console, state) if live else PlainView(console)
        work.show(view)
        said = await _begin(work, mission)
        if said:
            view.said(said)
        for name, found in work.installed.items():
            get_logger().info("agent", agent=name, version=found.version, path=found.path)
        for warning in (*dependent_reviews(project), *untried_versions(work.agents, work.installed)):
            view.said(f"warning: {warning}")
        orchestrator = build(project, mission, host=host, agents=work.agents, observer=view)
        work.tell(orchestrator, view)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.keep_showing)
            result = await orchestrator.run(state)
            tasks.cancel_scope.cancel()
        work.tell_of_landing(view)
        complete, landed = await _land(work, host, result)
        get_logger().info("host calls", calls=dict(work.calls))
    console = SteadyConsole(highlight=False, soft_wrap=True, redactor=project.redactor)
    summary.show(result, project, landed, console, all_landed=bool(landed) and complete)
    return result.exit_code if complete else NOT_LANDED


async def _begin(work: Work, mission: str) -> str:
    """Put an earlier run aside, or say in one line that this start goes on with it; "" if there is none."""
    root = work.project.root
    if work.fresh:
        archived = archive_journal(root, mission)
        kept = f"; the earlier journal is kept as {archived.relative_to(root)}" if archived else ""
        return f"{mission}: a fresh start{kept}"
    earlier = await known_run(root, mission)
    if earlier.unfinished:
        return f"{mission}: goes on with the run that {describe_end(earlier)}"
    return ""


async def _land(work: Work, host: HostClient, result: RunResult) -> tuple[bool, Sequence[str]]:
    """Merge and accept, if that was asked for and every work package is approved or done."""
    if not (work.chosen.merge or work.chosen.accept) or result.exit_code != 0:
        return True, ()
    root, slug = work.project.root, result.state.slug
    files = mission_files(root, slug)
    lost = unsaved(root, files) if work.chosen.merge else []
    if lost:
        names = ", ".join(str(path) for path in lost)
        return False, [
            f"not merged: the host's merge throws away what is not committed; commit or undo {names}"
        ]
    done, lines = await land(
        host,
        slug,
        work.project.settings.run.actor,
        merge=work.chosen.merge,
        accept=work.chosen.accept,
        coordinated=files.coordinated,
    )
    return done, [*lines, *summary.after_acceptance(root, files)] if done and work.chosen.accept else lines
