"""A run from preflight to summary, as `orchestrate` and `resume` share it, and what signals do to it."""

import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import build, build_agents, run_log
from spec_kitty_orchestrator.app.checks.agents import find_installed
from spec_kitty_orchestrator.app.mission import open_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import mission_files
from spec_kitty_orchestrator.cli import summary
from spec_kitty_orchestrator.cli.options import OnInterrupt, RunOptions
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.finalize import finalize
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.logs import configure_logging
from spec_kitty_orchestrator.machine.sleep import kept_awake
from spec_kitty_orchestrator.views.console import PatientFile, SteadyConsole
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.plain import PlainView

NOT_FINALIZED = 1

LAST_WORDS_S = 1.0
"""For output that is still unread when a signal ends the command at once."""


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that stop a run, without those that we were started to ignore, as by `nohup`.

    SIGTERM always counts, because `abort` sends it.
    """
    kept = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    return [*kept, signal.SIGTERM]


class Work:
    """One call of a command: what was asked, and who handles signals."""

    def __init__(self, project: Project, mission: str, given: RunOptions, *, fresh: bool = False) -> None:
        self.project = project
        self.mission = mission
        self.given = given
        self.fresh = fresh
        self.agents = build_agents(project, self.say)
        self._view: LiveView | PlainView | None = None
        self._unsaid: list[str] = []
        self.interrupt: Callable[[signal.Signals], None] = self._leave
        self._drains = given.on_interrupt is OnInterrupt.DRAIN
        self._exit_code: int | None = None
        self._scope: anyio.CancelScope | None = None
        self.calls: Counter[str] = Counter()

    async def main(self, action: "Callable[[Work], Awaitable[int]]") -> int:
        """Perform the action while signals are received as events; return the exit code."""
        code = 0
        with anyio.open_signal_receiver(*stopping_signals()) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, signals)
                with anyio.CancelScope() as self._scope:
                    code = await action(self)
                tasks.cancel_scope.cancel()
        return code if self._exit_code is None else self._exit_code

    async def _listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for received in signals:
            self.interrupt(received)

    def _leave(self, received: signal.Signals) -> None:
        """Stop at once: there is nothing to save yet."""
        self._exit_code = 128 + _asked(received)
        if self._scope is not None:
            self._scope.cancel()

    def say(self, message: str) -> None:
        """Show a line about the whole run, as soon as there is a view."""
        if self._view is None:
            self._unsaid.append(message)
        else:
            self._view.said(message)

    def show(self, view: LiveView | PlainView) -> None:
        """Show lines in this view from now on, and those that waited for it."""
        self._view = view
        for message in self._unsaid:
            view.said(message)

    def interrupts(self, orchestrator: Orchestrator) -> None:
        """Pass signals to the orchestrator from now on."""

        def interrupt(received: signal.Signals) -> None:
            if self._drains:
                self._drains = False
                self.say(
                    f"{received.name}: nothing more is started, running agents may end; "
                    "a second signal stops them"
                )
                orchestrator.drain(_asked(received))
                return
            self.say(f"{received.name}: stopping the agents and saving their work; a second signal hurries")
            orchestrator.interrupt(_asked(received))

        self.interrupt = interrupt

    def interrupts_finalizing(self) -> None:
        """Let only a second signal stop a merge or an acceptance, because half of one is worse than none."""

        def interrupt(received: signal.Signals) -> None:
            self.say(f"{received.name}: the host still merges or accepts; a second signal stops it")
            self.interrupt = self._leave

        self.interrupt = interrupt

    async def finish_output(self, output: PatientFile) -> None:
        """Wait until the reader has read everything, a signal arrives, or the reader pauses for too long."""
        limit_s = None if self._exit_code is None else LAST_WORDS_S
        with anyio.move_on_after(limit_s, shield=True) as scope:
            self.interrupt = lambda _: scope.cancel()
            await output.drain()


def _asked(received: signal.Signals) -> signal.Signals:
    """Return the signal that counts: closing the terminal means the same as `kill`."""
    return signal.SIGTERM if received is signal.SIGHUP else received


async def run(work: Work) -> int:
    """Run the mission from where it is; return the exit code."""
    redactor = work.project.redactor
    output = PatientFile(sys.stdout)
    console = SteadyConsole(file=output, soft_wrap=False, redactor=redactor)
    live = console.is_terminal and not console.is_dumb_terminal
    view = LiveView(console) if live else PlainView(console)
    work.show(view)
    try:
        result, finalized, told = await _run(work, view)
        console = SteadyConsole(file=output, redactor=redactor)
        complete = bool(told) and finalized
        # It asks git, which may be slow; signals must be handled meanwhile.
        await to_thread.run_sync(summary.show, result, work.project, told, console, complete)
    finally:
        await work.finish_output(output)
    return result.exit_code if finalized else NOT_FINALIZED


async def _run(work: Work, view: LiveView | PlainView) -> tuple[RunResult, bool, Sequence[str]]:
    """Run the mission and finalize it; return the result, then what `finalize` returns."""
    async with AsyncExitStack() as stack:
        project = work.project
        opened = open_mission(
            project,
            work.mission,
            work.agents,
            fresh=work.fresh,
            say=work.say,
            note_call=lambda call: work.calls.update([call]),
        )
        host, state = await stack.enter_async_context(opened)
        stack.enter_context(configure_logging(run_log(project, state.slug), project.redactor))
        if not work.given.no_caffeinate:
            stack.enter_context(kept_awake())
        view.began(state)
        orchestrator = build(project, state.slug, host=host, agents=work.agents, observer=view)
        work.interrupts(orchestrator)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.keep_showing)
            tasks.start_soon(tell_versions, work)
            result = await orchestrator.run(state)
            tasks.cancel_scope.cancel()
        work.interrupts_finalizing()
        files = mission_files(project.root, state.slug)
        finalized, told = await finalize(
            host,
            result,
            project.settings.run.actor,
            merge=work.given.merge,
            accept=work.given.accept,
            coordinated=files.coordinated,
            unsaved=files.unsaved,
        )
        if told and finalized and work.given.accept:
            told = [*told, summary.after_acceptance(files)]
        get_logger().info("host calls", calls=dict(work.calls))
    return result, finalized, told


async def tell_versions(work: Work) -> None:
    """Log the version of each agent's CLI, and warn of untried ones; the run does not wait for this."""
    try:
        installed = await find_installed(work.agents, work.project.agents, thorough=False)
    except OSError as error:
        work.say(f"warning: the versions of the agents are not known: {error}")
        return
    for name, found in installed.items():
        work.agents.versions[name] = found.version
        get_logger().info("agent", agent=name, version=found.version, path=found.path)
        for warning in found.untried:
            work.say(f"warning: {warning}")
