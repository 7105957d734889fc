"""The lines of a run are true and calm: nothing is told as refused or committed that was not."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.model import Outcome, Role, Usage
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_journal import LoopClock
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict
from spec_kitty_orchestrator.views.plain import PlainView

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


def rejects(request: AttemptRequest) -> Play:
    return Play(text=verdict(request, "changes_requested", "mend", summary="to be mended"))


class Plain:
    """The plain view of a run, and its lines."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._file = io.StringIO()
        self.view = PlainView(Console(file=self._file, width=400), LoopClock().now, verbose=verbose)

    def lines(self, *patterns: str) -> list[str]:
        """Return the lines in which each of these patterns is found."""
        told = self._file.getvalue().splitlines()
        return [one for one in told if all(re.search(pattern, one) for pattern in patterns)]


def ticks(request: AttemptRequest) -> Play:
    return Play(seconds=14, text=report(request, subtasks_done=["T001"]), usage=Usage(1000, 100, 0.25))


SUBTASKS = {"WP01": ("T001",)}


async def test_a_happy_run_tells_of_no_refusal(stage: Make) -> None:
    """The host takes work for review only with its subtasks ticked: it is asked, told, and asked again."""
    plain = Plain()
    mission = stage({"WP01": ()}, scripted(implement=ticks), subtasks=SUBTASKS, latency_s=1.0)
    assert (await mission.run(observer=plain.view)).exit_code == 0
    assert plain.lines("refused") == []
    assert plain.lines("REJECTED") == []
    assert plain.lines("WP01")


async def test_a_happy_run_takes_six_lines_for_a_work_package_and_none_alarms(stage: Make) -> None:
    plain = Plain()
    mission = stage({"WP01": ()}, scripted(implement=ticks), subtasks=SUBTASKS, latency_s=1.0)
    await mission.run(observer=plain.view)
    told = [one.split(maxsplit=2)[2] for one in plain.lines("WP01")]
    head = mission.workspaces.tree(await mission.host.where("WP01")).commits[-1][:10]
    assert told == [
        "ada implements, attempt 1",
        "ada finished after 14s, $0.25 (attempt 1)",
        f"committed {head}",
        f"rob reviews {head}, attempt 2",
        f"rob approved {head} after 1.0s (attempt 2)",
        "done: approved, and recorded on the host",
    ]


async def test_steps_that_always_happen_are_told_to_who_asks(stage: Make) -> None:
    lines = {}
    for verbose in (False, True):
        plain = Plain(verbose=verbose)
        await stage({"WP01": ()}).run(observer=plain.view)
        lines[verbose] = plain.lines("claimed on the host")
    assert (len(lines[False]), len(lines[True])) == (0, 1)


@pytest.mark.parametrize(
    "word", ["TRANSITION_REJECTED", "NO_REPLY", "rate_limited", "changes_requested", "RATE_LIMITED"]
)
async def test_no_code_of_a_program_is_read_where_words_will_do(stage: Make, word: str) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT:
            return (
                Play(outcome=Outcome.RATE_LIMITED, retry_after_s=60)
                if request.number == 1
                else ticks(request)
            )
        return rejects(request) if request.number == 3 else Play()

    plain = Plain()
    mission = stage({"WP01": ()}, script, subtasks=SUBTASKS)
    assert (await mission.run(observer=plain.view)).exit_code == 0
    assert plain.lines(word) == []


async def test_nothing_is_told_as_committed_when_nothing_was(stage: Make) -> None:
    plain = Plain()
    mission = stage({"WP01": ()}, scripted(implement=lambda r: Play(edits=(), text="I did nothing.")))
    await mission.run(observer=plain.view)
    assert plain.lines(r"committed [0-9a-f]") == []
    assert plain.lines(r"[0-9a-f]\.\.[0-9a-f]") == []
    assert plain.lines("nothing", "WP01")


async def test_rework_that_commits_nothing_is_not_told_as_the_commit_before_it(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT:
            return Play(edits=()) if request.number == 3 else Play()
        return rejects(request) if request.number == 2 else Play()

    plain = Plain()
    mission = stage({"WP01": ()}, script)
    await mission.run(observer=plain.view)
    assert len(plain.lines(r"committed [0-9a-f]")) == len(
        mission.workspaces.tree(await mission.host.where("WP01")).commits[1:]
    )


async def test_what_was_committed_is_told_with_its_commit(stage: Make) -> None:
    plain = Plain()
    mission = stage({"WP01": ()})
    await mission.run(observer=plain.view)
    assert len(plain.lines(r"committed .*[0-9a-f]{7}")) == 1


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.FAILED, Outcome.TIMEOUT])
async def test_the_end_of_an_attempt_is_told_with_its_outcome_its_time_and_its_cost(
    stage: Make, role: Role, outcome: Outcome
) -> None:
    def script(request: AttemptRequest) -> Play:
        first = request.number == (1 if role is Role.IMPLEMENT else 2)
        concerned = request.role is role and first
        return Play(seconds=14, usage=Usage(9, 9, 0.25), outcome=outcome) if concerned else Play()

    plain = Plain()
    mission = stage({"WP01": ()}, script)
    assert (await mission.run(observer=plain.view)).exit_code == 0
    agent = "ada" if role is Role.IMPLEMENT else "rob"
    (line,) = plain.lines(agent, r"\b14 ?s\b", r"\$0\.25")
    if outcome is Outcome.OK and role is Role.REVIEW:
        assert "approved" in line


async def test_a_verdict_is_told_with_its_commit(stage: Make) -> None:
    plain = Plain()
    mission = stage({"WP01": ()})
    await mission.run(observer=plain.view)
    (review,) = [one for one in mission.agents.requests if one.role is Role.REVIEW]
    assert plain.lines("rob", "approved", review.head[:7])
