"""A run from preflight to summary, as `orchestrate` and `resume` share it, and what signals do to it."""

import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import build, build_agents
from spec_kitty_orchestrator.app.checks import line
from spec_kitty_orchestrator.app.checks.agents import find_installed
from spec_kitty_orchestrator.app.ci import Job
from spec_kitty_orchestrator.app.forecasts import Forecaster
from spec_kitty_orchestrator.app.mission import OpenMission, open_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.report import Format, reported
from spec_kitty_orchestrator.app.start import open_start
from spec_kitty_orchestrator.cli import PROGRAM, ignore, summary
from spec_kitty_orchestrator.cli.options import Ci, OnInterrupt, Output, RunOptions
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.result import RunResult, first_error
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.adopted import keep_reaping
from spec_kitty_orchestrator.machine.children import take_orphans
from spec_kitty_orchestrator.machine.logs import configure_logging
from spec_kitty_orchestrator.machine.sleep import kept_awake
from spec_kitty_orchestrator.views.ci import Service, service_around
from spec_kitty_orchestrator.views.console import PatientFile, SteadyConsole
from spec_kitty_orchestrator.views.json_lines import MOST_UNREAD_BYTES, JsonLines
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.plain import PlainView

if TYPE_CHECKING:
    from spec_kitty_orchestrator.machine.runner import LocalAgents

__all__ = ["Work", "run", "stopping_signals", "tell_versions"]

View = LiveView | PlainView | JsonLines

NOT_FINALIZED = 1

LAST_WORDS_S = 1.0
"""For output that is still unread when a signal ends the command at once."""


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that stop a run, without those that we were started to ignore, as by `nohup`."""
    ignored = (signal.SIG_IGN, ignore)
    kept = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) not in ignored]
    return [*kept, signal.SIGTERM]  # `abort` sends it


class Work:
    """One call of a command: what was asked, and who handles signals."""

    def __init__(self, project: Project, mission: str, given: RunOptions, *, fresh: bool = False) -> None:
        self.project = project
        self.mission = mission
        self.given = given
        self.fresh = fresh
        self._unsaid: list[str] = []
        self.say: Callable[[str], None] = self._unsaid.append
        self.agents: LocalAgents = build_agents(project, lambda message: self.say(message))
        self.interrupt: Callable[[signal.Signals], None] = self._leave
        self._exit_code: int | None = None
        self._scope: anyio.CancelScope | None = None
        self.calls: list[str] = []

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

    def show(self, view: View) -> None:
        """Show lines about the whole run in this view from now on, and those that waited for it."""
        self.say = view.said
        for message in self._unsaid:
            view.said(message)

    def interrupts(self, orchestrator: Orchestrator) -> None:
        """Pass signals to the orchestrator from now on."""

        def stop(received: signal.Signals) -> None:
            self.say(f"{received.name}: stopping the agents and saving their work; a second signal hurries")
            orchestrator.interrupt(_asked(received))

        def drain(received: signal.Signals) -> None:
            self.interrupt = stop
            what = "nothing more is started, running agents may end; a second signal stops them"
            self.say(f"{received.name}: {what}")
            orchestrator.drain(_asked(received))

        self.interrupt = drain if self.given.on_interrupt is OnInterrupt.DRAIN else stop

    def interrupts_finalizing(self, mission: str) -> None:
        """Let only a second signal stop a merge or an acceptance, because half of one is worse than none."""
        asked = {"--merge": self.given.merge, "--accept": self.given.accept}
        again = line(
            PROGRAM, "orchestrate", "--mission", mission, *(one for one, given in asked.items() if given)
        )

        def leave(received: signal.Signals) -> None:
            self.say(f"{received.name}: stopped; what the host had merged by then stays on the branches")
            self.say(f"this looks at them, and goes on or says how to put them back: {again}")
            self._leave(received)

        def interrupt(received: signal.Signals) -> None:
            self.say(f"{received.name}: the host still merges or accepts; a second signal stops it")
            self.interrupt = leave

        self.interrupt = interrupt

    async def finish_output(self, *outputs: PatientFile) -> None:
        """Wait until readers have read everything, a signal arrives, or a reader pauses for too long."""
        limit_s = None if self._exit_code is None else LAST_WORDS_S
        with anyio.move_on_after(limit_s, shield=True) as scope:
            self.interrupt = lambda _: scope.cancel()
            for output in outputs:
                await output.drain()


def _asked(received: signal.Signals) -> signal.Signals:
    """Return the signal that counts: closing the terminal means the same as `kill`."""
    return signal.SIGTERM if received is signal.SIGHUP else received


async def run(work: Work) -> int:
    """Run the mission from where it is, finalize it and sum it up; return the exit code."""
    project = work.project
    written = files_of(work.given)
    view, console, outputs = _open_view(project, work.given)
    job = _job(work, outputs[-1], console, grouped=not isinstance(view, LiveView))
    try:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(_opened(work, view, console, job))
            state = opened.state
            if work.given.output is Output.JSONL:
                # What a plug-in prints is no event.
                stack.enter_context(redirect_stdout(sys.stderr))
            stack.callback(job.closes)
            told_of = reported(project, state.slug, work.say, written, job.deliver)
            page = await stack.enter_async_context(told_of)
            stack.enter_context(configure_logging(project.root, state.slug, project.redactor))
            take_orphans()
            if not work.given.no_caffeinate:
                stack.enter_context(kept_awake())
            job.opens(f"The run of {state.slug}", folded=False)
            view.began(state)
            forecaster = Forecaster(project.root, view)
            ring = console.bell if console.is_terminal and not console.is_dumb_terminal else None
            starting = open_start(
                project, opened, work.agents, forecaster, ring=ring, samples=lambda: forecaster.samples
            )
            start = await stack.enter_async_context(starting)
            orchestrator = build(project, state.slug, start.parts)
            result = await _drive(work, view, forecaster, orchestrator, state)
            work.interrupts_finalizing(state.slug)
            end = await start.finalize(result, work.say, merge=work.given.merge, accept=work.given.accept)
            get_logger().info("host calls", calls=dict(Counter(work.calls)))
        # It asks git, which may be slow; signals must be handled meanwhile.
        told = (result, project, end.finalized, end.wrong, console, end.merged, page.path)
        await to_thread.run_sync(summary.show, *told)
    finally:
        job.ends()
        await work.finish_output(*outputs)
    return result.exit_code if end.finalized.done else NOT_FINALIZED


def files_of(given: RunOptions) -> dict[Format, Path]:
    """Return what is to be written for CI, and where. Raises `UsageError` where that cannot be a file."""
    wanted = {Format.JUNIT: given.junit, Format.SARIF: given.sarif}
    files = {form: path for form, path in wanted.items() if path is not None}
    for form, path in files.items():
        parent = next(one for one in path.absolute().parents if one.exists())
        if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UsageError(f"--{form} {path}: no file can be written there; name another one")
    return {form: path.absolute() for form, path in files.items()}


def _job(work: Work, file: PatientFile, console: SteadyConsole, *, grouped: bool) -> Job:
    """Return the job that we are a part of; its commands go past the console, which lets none through."""

    def write(text: str) -> None:
        file.write(f"{text}\n")
        file.flush()

    service = service_of(work.given.ci)
    return Job(service, work.project, os.environ, write if grouped else lambda _: None, console.tell)


def service_of(wanted: Ci) -> Service | None:
    """Return the service whose job we are."""
    if wanted is Ci.AUTO:
        return service_around(os.environ)
    return None if wanted is Ci.OFF else Service(wanted)


@asynccontextmanager
async def _opened(work: Work, view: View, console: SteadyConsole, job: Job) -> AsyncIterator[OpenMission]:
    """Open the mission; in a job of CI, what a person must do is told before what was checked."""
    if job.service is None:
        work.show(view)
    else:
        console.tell(f"asking spec-kitty for the mission {work.mission}")
    opened = open_mission(
        work.project,
        work.mission,
        work.agents,
        lambda message: work.say(message),
        work.calls.append,
        fresh=work.fresh,
    )
    async with AsyncExitStack() as stack:
        try:
            await job.complete(work.mission)
            mission = await stack.enter_async_context(opened)
            for text in await job.answer(mission.state):
                console.tell(text)
        except Exception as error:
            job.refused(str(first_error(error)))
            raise
        finally:
            if job.service is not None:
                job.opens("Checks before the run")
                work.show(view)
                job.closes()
        yield mission


def _open_view(project: Project, given: RunOptions) -> tuple[View, SteadyConsole, Sequence[PatientFile]]:
    """Return what shows the run, the console for everything else, and the files to which both write."""
    wanted, in_ci = given.output, service_of(given.ci) is not None
    if wanted is Output.JSONL:
        errors = PatientFile(sys.stderr)
        console = SteadyConsole(file=errors, soft_wrap=False, redactor=project.redactor, in_ci=in_ci)

        def missing(lines: int) -> str:
            console.tell(f"{lines} events were not read in time and are not on stdout; `events` has them")
            return ""

        output = PatientFile(sys.stdout, MOST_UNREAD_BYTES, missing)
        view = JsonLines(cast("TextIO", output), console, str(project.root), project.redactor)
        return view, console, (output, errors)
    output = PatientFile(sys.stdout)
    console = SteadyConsole(file=output, soft_wrap=False, redactor=project.redactor, in_ci=in_ci)
    terminal = console.is_terminal and not console.is_dumb_terminal
    if wanted is Output.LIVE and not terminal:
        raise UsageError("--output live needs a terminal; `plain` and `jsonl` do not")
    live = terminal and wanted is not Output.PLAIN
    shown: View = LiveView(console) if live else PlainView(console, verbose=given.verbose)
    return shown, console, (output,)


async def _drive(
    work: Work, view: View, forecaster: Forecaster, orchestrator: Orchestrator, state: MissionState
) -> RunResult:
    """Let the mission run while it is shown, and foreseen."""
    work.interrupts(orchestrator)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(view.keep_showing)
        tasks.start_soon(forecaster.keep_foreseeing)
        tasks.start_soon(keep_reaping)
        tasks.start_soon(tell_versions, work)
        result = await orchestrator.run(state)
        tasks.cancel_scope.cancel()
    return result


async def tell_versions(work: Work) -> None:
    """Log the version of each agent's CLI, and warn of untested ones; the run does not wait for this."""
    if work.project.settings.run.elsewhere:
        return
    try:
        installed = await find_installed(work.agents, work.project.agents, thorough=False)
    except OSError as error:
        work.say(f"warning: the versions of the agents are not known: {error}")
        return
    for name, found in installed.items():
        work.agents.versions[name] = found.version
        get_logger().info("agent", agent=name, version=found.version, path=found.path)
        for warning in found.untested:
            work.say(f"warning: {warning}")
