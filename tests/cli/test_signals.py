"""What a signal does to the command: before the run, during it, and when it is to drain."""

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import anyio
import pytest

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.cli import own_signals
from spec_kitty_orchestrator.cli.options import OnInterrupt, RunOptions
from spec_kitty_orchestrator.cli.running import Work, stopping_signals
from spec_kitty_orchestrator.machine.children import start
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.plain import PlainView

Project = Any  # the class lives in conftest, which tests cannot import


class Told:
    """Stands for an orchestrator and remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def drain(self, signum: int) -> None:
        self.calls.append(("drain", signum))

    def interrupt(self, signum: int) -> None:
        self.calls.append(("interrupt", signum))


def work(project: Project, *, drains: bool = False, merge: bool = False) -> Work:
    chosen = RunOptions(on_interrupt=OnInterrupt.DRAIN if drains else OnInterrupt.STOP, merge=merge)
    return Work(open_project(project.root, {}, {}), "m", chosen)


def test_exit_codes_reach_a_command_whose_parent_ignores_the_ends_of_children(project: Project) -> None:
    project.git("config", "commit.gpgsign", "true")
    project.git("config", "gpg.program", "false")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        # The child inherits both; what it left is told by what it printed, since its exit code is lost here.
        done = project.run("doctor")
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert "git cannot sign commits" in done.stdout


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_before_the_run_ends_the_command_and_a_closed_terminal_is_sigterm(
    project: Project, signum: signal.Signals, code: int
) -> None:
    async def waits(_: Work) -> int:
        os.kill(os.getpid(), signum)
        with anyio.fail_after(30):
            await anyio.sleep_forever()
        return 0

    with disposition(signum, signal.SIG_DFL):
        assert anyio.run(work(project).main, waits) == code


@pytest.mark.parametrize(
    ("drains", "calls"),
    [
        (False, [("interrupt", signal.SIGTERM), ("interrupt", signal.SIGTERM)]),
        (True, [("drain", signal.SIGTERM), ("interrupt", signal.SIGTERM)]),
    ],
)
def test_the_first_signal_drains_only_if_that_was_asked_for(
    project: Project, drains: bool, calls: list[tuple[str, int]]
) -> None:
    told, doing = Told(), work(project, drains=drains)
    doing.interrupts(cast("Any", told))
    doing.interrupt(signal.SIGTERM)
    doing.interrupt(signal.SIGTERM)
    assert told.calls == calls


@pytest.mark.parametrize("drains", [False, True])
def test_a_closed_terminal_is_told_by_its_own_name_and_asks_for_what_kill_asks(
    project: Project, drains: bool
) -> None:
    told, doing, shown = Told(), work(project, drains=drains), io.StringIO()
    doing.show(PlainView(SteadyConsole(file=shown)))
    doing.interrupts(cast("Any", told))
    doing.interrupt(signal.SIGHUP)
    assert [signum for _, signum in told.calls] == [signal.SIGTERM]
    assert "SIGHUP: " in shown.getvalue()


def test_a_second_signal_while_the_host_merges_ends_the_command_with_what_to_run_next(
    project: Project,
) -> None:
    doing, shown = work(project, merge=True), io.StringIO()
    doing.show(PlainView(SteadyConsole(file=shown)))

    async def merges(_: Work) -> int:
        doing.interrupts_finalizing("m-01AB")
        doing.interrupt(signal.SIGINT)
        assert "m-01AB" not in shown.getvalue()
        doing.interrupt(signal.SIGINT)
        with anyio.fail_after(30):
            await anyio.sleep_forever()
        return 0

    assert anyio.run(doing.main, merges) == 130
    assert "spec-kitty-orchestrator orchestrate --mission m-01AB --merge\n" in shown.getvalue()


@contextmanager
def disposition(signum: signal.Signals, action: signal.Handlers) -> Iterator[None]:
    before = signal.signal(signum, action)
    try:
        yield
    finally:
        signal.signal(signum, before)


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_an_inherited_choice_to_ignore_a_signal_is_kept(ignored: signal.Signals) -> None:
    with disposition(ignored, signal.SIG_DFL):
        assert ignored in stopping_signals()
    with disposition(ignored, signal.SIG_IGN):
        assert ignored not in stopping_signals()


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_children_can_be_stopped_by_a_signal_that_we_were_started_to_ignore(ignored: signal.Signals) -> None:
    with disposition(ignored, signal.SIG_IGN):
        own_signals()
        assert (ignored in stopping_signals()) == (ignored is signal.SIGTERM)
        line = ["/bin/sh", "-c", f"kill -{ignored.value} $$; sleep 60"]
        assert subprocess.run(line, check=False, timeout=30).returncode == -ignored


def test_a_program_that_ignores_the_ends_of_children_is_told_before_it_believes_a_failure() -> None:
    with (
        disposition(signal.SIGCHLD, signal.SIG_IGN),
        pytest.raises(OSError, match="ignores SIGCHLD"),
    ):
        start(["false"])


def test_abort_is_heard_by_a_run_that_was_started_to_ignore_sigterm() -> None:
    with disposition(signal.SIGTERM, signal.SIG_IGN):
        assert signal.SIGTERM in stopping_signals()
