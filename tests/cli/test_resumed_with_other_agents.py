"""A run that was cut off, resumed or aborted with other agents and another quorum than it began with."""

import signal
from typing import Any

import pytest
from tests.cli.working import ONE, AtWork, at_work, attempts, host_of_one, lane_of

from spec_kitty_orchestrator.machine.orphans import find_orphans

SLUG = "demo-01ABC"
TWO = ("--impl-agent", "two", "--review-agent", "two")
Project = Any  # the class lives in conftest, which tests cannot import


@pytest.fixture(autouse=True)
def _host(project: Project) -> None:
    host_of_one(project)


def killed(working: AtWork) -> None:
    working.run.send_signal(signal.SIGKILL)
    working.run.wait()


@pytest.mark.parametrize("flags", [TWO, TWO[:2]], ids=["both", "implementer"])
def test_an_attempt_of_an_agent_that_is_chosen_no_more_is_harvested(
    project: Project, flags: tuple[str, ...]
) -> None:
    with at_work(project, *ONE) as working:
        killed(working)
        working.let_the_agent_end()
        done = project.run("resume", *flags)
    assert (done.returncode, lane_of(project)) == (0, "done"), done.stdout + done.stderr
    reviewer = "two" if "--review-agent" in flags else "one"
    assert attempts(project) == ["01-implement-one", f"02-review-{reviewer}"]


def test_an_attempt_of_an_agent_that_the_settings_name_no_more_is_harvested(project: Project) -> None:
    with at_work(project, run='impl_agents = ["one"]\nreview_agents = ["one"]') as working:
        killed(working)
        working.let_the_agent_end()
        file = project.root / ".kittify" / "orchestrator.toml"
        file.write_text(file.read_text().replace('agents = ["one"]', 'agents = ["two"]'))
        done = project.run("resume", *TWO)
    assert (done.returncode, lane_of(project)) == (0, "done"), done.stdout + done.stderr
    assert attempts(project) == ["01-implement-one", "02-review-two"]


def test_an_attempt_of_an_agent_that_is_chosen_no_more_is_stopped_by_an_abort(project: Project) -> None:
    with at_work(project, *ONE, run='impl_agents = ["two"]\nreview_agents = ["two"]') as working:
        killed(working)
        done = project.run("abort")
        assert done.returncode == 0, done.stderr
        assert working.agent_is_gone()
    assert find_orphans(project.root / ".kittify" / "logs" / SLUG) == []


def test_a_run_that_was_aborted_goes_on_with_other_agents(project: Project) -> None:
    with at_work(project, *ONE) as working:
        killed(working)
        assert project.run("abort").returncode == 0
        assert working.agent_is_gone()
    with at_work(project, *TWO) as working:
        working.let_the_agent_end()
        code, told = working.ended()
    assert (code, lane_of(project)) == (0, "done"), told


FILE = 'review_agents = ["one", "two"]\nreview_quorum = 2'


def all_of(reviewers: str) -> tuple[str, ...]:
    """Return options by which all of these reviewers must approve what `one` implements."""
    return ("--impl-agent", "one", "--review-agent", reviewers, "--review-quorum", "all")


@pytest.mark.parametrize(
    ("begun", "settings", "resumed", "reviews"),
    [
        pytest.param((*ONE, "--review-quorum", "1"), FILE, (), ["one"], id="given against the settings"),
        pytest.param(all_of("one,two"), "", ("--review-agent", "two"), ["two"], id="all of fewer"),
        pytest.param(all_of("two"), "", ("--review-agent", "two,three"), ["two", "three"], id="all of more"),
    ],
)
def test_a_quorum_is_kept_and_all_reviewers_are_those_that_the_resumed_run_has(
    project: Project, begun: tuple[str, ...], settings: str, resumed: tuple[str, ...], reviews: list[str]
) -> None:
    with at_work(project, *begun, run=settings) as working:
        killed(working)
        working.let_the_agent_end()
        done = project.run("resume", *resumed)
    assert (done.returncode, lane_of(project)) == (0, "done"), done.stdout + done.stderr
    expected = [f"{number:02d}-review-{name}" for number, name in enumerate(reviews, 2)]
    assert attempts(project) == ["01-implement-one", *expected]
