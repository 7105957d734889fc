"""`orchestrate`: runs a mission, or with `--dry-run` shows what that would do."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app
from spec_kitty_orchestrator.app import Project
from spec_kitty_orchestrator.cli import dry_run, summary
from spec_kitty_orchestrator.cli.console import SteadyConsole
from spec_kitty_orchestrator.cli.live import LiveView
from spec_kitty_orchestrator.cli.plain import PlainView
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.driver.landing import land
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import configure_logging, secret_values

NOT_LANDED = 1
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def orchestrate(
    mission: Annotated[str, typer.Option("--mission", "-m", help="Slug of the mission.", show_default=False)],
    impl_agent: Annotated[
        str | None, typer.Option(help="Who implements; a,b is an order of fallback.", show_default=False)
    ] = None,
    review_agent: Annotated[
        str | None, typer.Option(help="Who reviews; a,b is an order of fallback.", show_default=False)
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Work packages in work at once.", show_default=False)
    ] = None,
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show the plan.")] = False,
    actor: Annotated[
        str | None, typer.Option(help="The name under which the host knows us.", show_default=False)
    ] = None,
    repo_root: Annotated[
        Path | None, typer.Option(help="The project; else the current directory's.", show_default=False)
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the mission if every WP is approved or done.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the mission if every WP is approved or done.")
    ] = False,
) -> None:
    """Take every work package of a mission from planned to done.

    Interrupt it at any time; the same command goes on where it was.
    """
    flags = {
        "impl_agents": impl_agent,
        "review_agents": review_agent,
        "max_concurrent": max_concurrent,
        "actor": actor,
    }
    project = app.open_project(repo_root or Path.cwd(), os.environ, flags)
    work = _Work(project, mission, merge=merge, accept=accept)
    code = anyio.run(work.main, _show_plan if plan_only else _run)
    raise typer.Exit(code)


class _Work:
    """One call of the command: what was asked, and who is told of signals."""

    def __init__(self, project: Project, mission: str, *, merge: bool, accept: bool) -> None:
        self.project = project
        self.mission = mission
        self.merge = merge
        self.accept = accept
        self.agents = app.build_agents(project)
        self.interrupt: Callable[[int], None] = self._leave
        self._received: int | None = None
        self._scope: anyio.CancelScope | None = None

    async def main(self, action: "Callable[[_Work], Awaitable[int]]") -> int:
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
            self.interrupt(received)

    def _leave(self, received: int) -> None:
        """Stop at once: nothing that must be saved runs yet."""
        self._received = received
        if self._scope is not None:
            self._scope.cancel()


async def _prepare(work: _Work) -> tuple[HostClient, MissionState]:
    """Find everything that stands in the way, and raise it all at once."""
    problems = app.find_problems(work.project, work.agents)
    try:
        host = await app.connect(work.project)
        state = await app.examine(work.project, host, work.mission)
    except OrchestratorError as error:
        problems.append(error)
    app.stop_at(problems)
    return host, state


async def _show_plan(work: _Work) -> int:
    problems = app.find_problems(work.project, work.agents)
    try:
        host = await app.connect(work.project)
        state = await app.examine(work.project, host, work.mission)
        problems += app.check_free(work.project, state.slug)
        plan = await app.make_plan(work.project, host, work.agents, state)
    except OrchestratorError as error:
        problems.append(error)
    else:
        dry_run.show(plan, SteadyConsole(highlight=False, soft_wrap=True))
    app.stop_at(problems)
    return 0


async def _run(work: _Work) -> int:
    host, state = await _prepare(work)
    project, mission = work.project, state.slug
    secrets = secret_values(os.environ)
    with (
        MissionLock(project.directory(mission), mission),
        configure_logging(app.run_log(project, mission), secrets),
    ):
        console = SteadyConsole(highlight=False)
        live = console.is_terminal and not console.is_dumb_terminal
        view = LiveView(console, state) if live else PlainView(console)
        orchestrator = app.build(project, mission, host=host, agents=work.agents, observer=view)

        def interrupt(received: int) -> None:
            name = signal.Signals(received).name
            view.said(f"{name}: stopping the agents and saving their work; a second signal hurries")
            orchestrator.interrupt(received)

        work.interrupt = interrupt
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.keep_showing)
            result = await orchestrator.run(state)
            tasks.cancel_scope.cancel()
        complete, landed = await _land(work, host, result)
    console = SteadyConsole(highlight=False, soft_wrap=True)
    summary.show(result, project, landed, console, all_landed=bool(landed) and complete)
    return result.exit_code if complete else NOT_LANDED


async def _land(work: _Work, host: HostClient, result: RunResult) -> tuple[bool, Sequence[str]]:
    """Merge and accept, if that was asked for and every work package is approved or done."""
    if not (work.merge or work.accept) or result.exit_code != 0:
        return True, ()
    root, slug = work.project.root, result.state.slug
    files = app.mission_files(root, slug)
    lost = app.unsaved(root, files) if work.merge else []
    if lost:
        names = ", ".join(str(path) for path in lost)
        return False, [
            f"not merged: the host's merge throws away what is not committed; commit or undo {names}"
        ]
    return await land(
        host,
        slug,
        work.project.settings.run.actor,
        merge=work.merge,
        accept=work.accept,
        coordinated=files.coordinated,
    )
