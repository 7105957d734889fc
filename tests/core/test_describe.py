"""One bounded, printable line per event."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.describe import (
    LONGEST_LINE,
    LONGEST_REASON,
    clean,
    count,
    describe,
    duration,
    note,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    AgentExited,
    Assigned,
    AttemptOpened,
    BudgetSpent,
    Claimed,
    CommitRefused,
    Committed,
    Deferred,
    Event,
    GateBegun,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
    HostRefused,
    LaneSeen,
    NothingToReview,
    Parked,
    Recorded,
    Resolving,
    ReviewClaimed,
    Scheduled,
    SetUp,
    Submitted,
    SubtasksTicked,
    Unblocked,
    WorkspaceFailed,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.lifecycle import LONGEST_STORY, told
from spec_kitty_orchestrator.core.model import AgentReport, Evidence, Lane, Outcome, Rescue, Role, Usage
from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
    Told,
)
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_events import (
    AgentBack,
    AgentSuspended,
    BudgetNearing,
    ClockJumped,
    ConflictForecast,
    Continued,
    Ending,
    Failed,
    Finalized,
    HandedOver,
    Imported,
    Notified,
    Paused,
    ResourcesShort,
    RunEvent,
    SettingsChanged,
    Signaled,
    SpentBefore,
    Waiting,
)
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import (
    BASE,
    CLAIMING,
    HEAD,
    NOON,
    PASSED,
    REVIEW_RUNNING,
    SPACE,
    attempt,
    drive,
    exited,
    refused,
    results,
    verdict_text,
)

LOGS = "/repo/.kittify/logs/m/WP01"
CODER = replace(attempt("i1"), directory=f"{LOGS}/01-implement-alice")
REVIEWER = replace(attempt("r1", Role.REVIEW), number=2, directory=f"{LOGS}/02-review-bob")
SAVED = Rescue(("refs/x",))
WP = WorkPackage("WP01", attempts=(REVIEWER, CODER))
RED = results(ok=False)
STAT = " a.py | 90 ++\n 1 file changed, 82 insertions(+), 8 deletions(-)"


def ended(
    outcome: Outcome, detail: str = "", usage: Usage | None = None, attempt_id: str = "i1"
) -> AgentExited:
    return AgentExited(attempt_id, AgentReport(outcome, detail=detail, usage=usage or Usage()))


def reviewed(text: str, **parts: object) -> AgentExited:
    report = AgentReport(Outcome.OK, text, usage=Usage(20_000, 1_000))
    return replace(exited(REVIEWER, text=text), report=report, **parts)  # type: ignore[arg-type]


CHANGES = verdict_text("r1", verdict="changes_requested", summary="rename\nit", findings=["x", "y"])

LINES: dict[str, Event | RunEvent] = {
    "spec-kitty is asked for its workspace": Resolving(),
    "its workspace is lane-a": WorkspaceResolved(SPACE),
    "is canceled on the host": LaneSeen(Lane.CANCELED, ()),
    "has a slot, in lane-a": Scheduled(Lane.PLANNED, SPACE),
    "is claimed ahead of a slot, in lane-a": Scheduled(Lane.PLANNED, SPACE, ahead=True),
    "gave its slot back: waits for bob, at most 2 at once": Deferred("waits for bob, at most 2 at once"),
    "alice is to implement": Assigned(Role.IMPLEMENT, "alice"),
    "ann is to review (again: bob crashed)": Assigned(Role.REVIEW, "ann", "again: bob crashed"),
    "claimed on the host; work begins at bbbbbbbbbb": Claimed(SPACE, BASE),
    "alice implements, attempt 1": AttemptOpened(CODER),
    "alice implements, attempt 1, continuing its session; leftovers of the last attempt: "
    "saved, `git show refs/x`": AttemptOpened(replace(CODER, session="s", directory="/elsewhere"), SAVED),
    "bob reviews aaaaaaaaaa, attempt 2": AttemptOpened(REVIEWER),
    "alice finished after 14s, $0.11 (attempt 1)": ended(Outcome.OK, usage=Usage(9, 9, 0.11)),
    "alice finished after 14s, 21k tokens (attempt 1)": ended(Outcome.OK, usage=Usage(20_000, 1_000)),
    "alice finished after 14s, 21 tokens (attempt 1)": ended(Outcome.OK, usage=Usage(20, 1)),
    "alice crashed after 14s (attempt 1): no such module": ended(Outcome.CRASHED, "no such\n module"),
    "alice hit its rate limit after 14s (attempt 1)": ended(Outcome.RATE_LIMITED),
    "alice showed no sign of life and was stopped after 14s (attempt 1)": ended(Outcome.STALLED),
    "an agent was lost in an interruption (its work is kept) after 14s": ended(Outcome.LOST, attempt_id="x"),
    "bob approved aaaaaaaaaa after 14s, 21k tokens (attempt 2)": reviewed(verdict_text("r1")),
    "bob asks for changes of aaaaaaaaaa after 14s, 21k tokens (attempt 2): rename it (2 findings)": reviewed(
        CHANGES
    ),
    "bob gave no usable verdict after 14s, 21k tokens (attempt 2): it holds no verdict object": reviewed(
        "LGTM"
    ),
    "bob's review does not count: it changed a.py": reviewed(CHANGES, tampered=("it changed a.py",)),
    "committed aaaaaaaaaa: 1 file, +82 -8": Committed(Evidence(BASE, HEAD, STAT)),
    "nothing changed, so nothing to commit": Committed(Evidence(BASE, BASE)),
    "committed aaaaaaaaaa; not committed: .env: a secret, x.bin: too big": Committed(
        Evidence(BASE, HEAD, left_out=(".env: a secret", "x.bin: too big"))
    ),
    "the commit was refused, back to the implementer: hook failed": CommitRefused("hook\nfailed"),
    "gate lint runs on aaaaaaaaaa": GateBegun("lint", HEAD),
    "setup-1 runs on aaaaaaaaaa": GateBegun("setup-1", HEAD, mark="m"),
    "gates green: lint 12s, tests 12s": PASSED,
    "there are no gates to pass": GatesPassed(()),
    "gate tests is red after 12s: 1 failed": GateFailed(results(ok=False)[1], "x\n1 failed\n"),
    "gate lint is red after 12s: (no output)": GateFailed(RED[0], " \n"),
    "gate tests could not run, a person must look: no pytest": GateBroken(
        "tests", "no pytest", "/logs/tests"
    ),
    "the gates could not run, a person must look: git is broken": GateBroken("", "git is broken"),
    "the gates were stopped, and are to run again": GatesStopped(),
    "the branch moved to aaaaaaaaaa; its gates run there": HeadMoved(HEAD),
    "its worktree is set up: lint 12s, tests 12s": SetUp("worktree", results()),
    "its worktree is set up: it was before": SetUp("worktree"),
    "the setup of its worktree failed, a person must look: `npm ci` failed: 404": SetUp(
        "worktree", (), "`npm ci` failed", "npm ERR!\n404\n"
    ),
    "handed over for review": Submitted(),
    "ticked T001, T002, as the implementer reported": SubtasksTicked(("T001", "T002")),
    "review of aaaaaaaaaa claimed on the host": ReviewClaimed(BASE, HEAD),
    "no review is paid for: up to aaaaaaaaaa the branch holds no work of it": NothingToReview(HEAD),
    "done: approved, and recorded on the host": Recorded(Lane.DONE),
    "approved: approved, and recorded on the host; files left out: saved, `git show refs/x`": Recorded(
        Lane.APPROVED, SAVED
    ),
    "back to its implementer, recorded on the host": Recorded(Lane.IN_PROGRESS),
    "blocked: the last rejection is recorded on the host": Recorded(Lane.BLOCKED),
    "needs you: rejected 3 times": Parked(Lane.BLOCKED, reason="rejected 3 times"),
    "needs you: disk full; uncommitted work: saved, `git show refs/x`": Parked(
        Lane.BLOCKED, SAVED, "disk full"
    ),
    "the host refused transition (the lane is done): no": refused(Lane.DONE),
    "subtasks are not ticked yet": refused(Lane.IN_PROGRESS, message="requires completed subtasks"),
    "the host gave no answer to transition (the lane is done): timed out": refused(
        Lane.DONE, NO_REPLY, "timed out"
    ),
    "needs you: it has cost too much": BudgetSpent("it has cost too much"),
    "git or the disk refused: disk full": WorkspaceFailed("disk full"),
    "is planned again on the host": Unblocked(Lane.PLANNED),
    "put back to work by a person": Retried(),
    "put back to work by kim": Retried(by="kim"),
    "stopped by kim, until `continue` or `retry`": Stopped("kim"),
    "kim says: use tabs": Told("use tabs", by="kim"),
    "kim says, at once: use tabs": Told("use tabs", now=True, by="kim"),
    "put back to work by a person: use a dict": Retried("use a dict"),
    "taken over by anna": TakenOver("anna"),
    "handed back by anna: mended": HandedBack("anna", "mended"),
    "anna, a person, approved aaaaaaaaaa: looks good": ApprovedByPerson("anna", "a" * 40, "looks good"),
    "left out by a person": Skipped(Lane.PLANNED),
    "left out by a person: later": Skipped(Lane.PLANNED, "later"),
    "WP02 waits for WP01; WP04 waits for a slot": Waiting(
        {"WP02": "waits for WP01", "WP03": "", "WP04": "waits for a slot"}
    ),
    "nobody waits": Waiting({"WP01": ""}),
    "nothing new starts: 100 MB of memory are left": ResourcesShort("100 MB of memory are left"),
    "the machine has room again; work goes on": ResourcesShort(""),
    "bob is paused: its quota is used up": AgentSuspended("bob", NOON, "its quota is used up"),
    "bob works again": AgentBack("bob"),
    "earlier runs of this mission, whose journals were put aside, used 5 tokens in, 7 out, $1.50 as reported "
    "by the agents": SpentBefore(Usage(5, 7, 1.5)),
    "the budget is nearly used up: $8.00 of $10.00 are spent": BudgetNearing(
        "cost", "$8.00 of $10.00 are spent"
    ),
    "the machine slept, or its clock was set, for 2h 10m": ClockJumped(7800),
    "WP01 and WP02 will conflict in a.py; WP03, which needs both, cannot start until a person merges them": (
        ConflictForecast("WP01", "WP02", ("a", "b"), ("a.py",), "WP03")
    ),
    "signal 2: agents are stopped": Signaled(2),
    "signal 15: running agents may end, nothing new starts": Signaled(15, drain=True),
    "drained by kim: running agents may end, nothing new starts": Signaled(15, drain=True, by="kim"),
    "the run is paused by kim: nothing new begins": Paused("kim"),
    "codex is paused by kim: nothing new begins": Paused("kim", agent="codex"),
    "WP03 goes on, says kim": Continued("kim", wp="WP03"),
    "kim sets max_cost=40": SettingsChanged("kim", {"max_cost": "40"}, {}, Policy((), ())),
    "the run ends: $10 are spent": Ending(7, "$10 are spent"),
    "the run ends, because something is broken: no disk": Failed("no disk"),
    "slack was told: WP03 needs you": Notified("needs_person", "WP03 needs you", ("WP03",), "slack"),
    "slack could not be told (no answer): WP03 needs you": Notified(
        "needs_person", "WP03 needs you", ("WP03",), "slack", "no answer"
    ),
    "merged and accepted": Finalized(merged=True, accepted=True),
    "handed over as the pack 1a2b, run.pack: it goes on where that is imported": HandedOver(
        "1a2b", "run.pack"
    ),
    "goes on here: pack 1a2b, from ci-7": Imported("1a2b", "ci-7"),
    "taken back: pack 1a2b": Imported("1a2b"),
}


@pytest.mark.parametrize(("line", "event"), LINES.items(), ids=LINES)
def test_an_event_is_told_in_one_line(line: str, event: Event | RunEvent) -> None:
    took_s = 14.0 if isinstance(event, AgentExited) else 0.0
    assert describe(event, WP, took_s) == line


def test_the_table_above_has_every_kind_of_event() -> None:
    assert {type(event) for event in LINES.values()} == {*get_args(Event), *get_args(RunEvent)}


@pytest.mark.parametrize("outcome", Outcome)
def test_each_end_of_an_attempt_has_words_of_its_own(outcome: Outcome) -> None:
    words = describe(ended(outcome), WP).removeprefix("alice ").removesuffix(" (attempt 1)")
    assert len(words.split()) > 1 or outcome in (Outcome.OK, Outcome.FAILED, Outcome.CRASHED)
    assert sum(words in line for line in {describe(ended(one), WP) for one in Outcome}) == 1


def test_a_commit_of_an_attempt_that_changed_nothing_is_none() -> None:
    again = replace(WP, attempts=(replace(CODER, head=HEAD),))
    assert describe(Committed(Evidence(BASE, HEAD)), again) == "nothing changed, so nothing to commit"


def test_an_attempt_on_a_cluster_is_told_with_its_machine() -> None:
    event = AgentExited("one", AgentReport(Outcome.OK, machine="box-1\x1b[2J"))
    assert describe(event, took_s=5.0) == "an agent finished on box-1 after 5.0s"


def test_an_attempt_that_nobody_knows_is_told_without_a_name() -> None:
    assert describe(ended(Outcome.CRASHED)) == "an agent crashed"


ODD = ["\x1b[31mred\x1b[0m", "a\r\nb\tc", "\x00\x9b\u202e\ud800", "x" * 5000, "\n" * 99]


@pytest.mark.parametrize("odd", ODD)
def test_a_line_is_printable_and_bounded_whatever_others_say(odd: str) -> None:
    for event in (
        HostRefused("c", "X", odd, Lane.DONE),
        ended(Outcome.FAILED, odd),
        CommitRefused(odd),
        GateFailed(results(ok=False)[0], odd),
        Parked(Lane.BLOCKED, Rescue((odd,), (odd,), (odd,)), odd),
        Failed(odd),
    ):
        line = describe(event, WP)
        assert line.isprintable()
        assert len(line) <= LONGEST_LINE


@given(st.text())
def test_any_text_becomes_a_line_that_can_be_written(text: str) -> None:
    line = clean(text)
    assert len(line) <= LONGEST_LINE
    assert clean(line) == line
    assert "\n" not in line
    line.encode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (12.7, "12s"),
        (60, "1m 00s"),
        (185, "3m 05s"),
        (3600, "1h 00m"),
        (7800, "2h 10m"),
        (360_000, "100h 00m"),
    ],
)
def test_a_span_of_time_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_is_not_many() -> None:
    assert [count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_a_line_of_a_story_begins_with_the_phase_that_the_event_met() -> None:
    assert told(drive((*CLAIMING, Deferred("x")))[0])[-1] == "claiming: gave its slot back: x"


def test_a_story_keeps_its_last_lines() -> None:
    wp, _ = drive((*CLAIMING, *[Deferred("x")] * 200))
    assert told(wp) == ("claiming: gave its slot back: x",) * LONGEST_STORY


def test_a_story_tells_a_commit_as_it_was_when_it_was_made() -> None:
    wp, _ = drive(REVIEW_RUNNING)
    assert any(line.startswith("committing: committed ") for line in told(wp))
    assert not any("nothing changed" in line for line in told(wp))


def test_what_to_do_is_not_cut_off_a_reason(tmp_path: Path) -> None:
    reason = f"{tmp_path / ('x' * 500)} is locked; remove it"

    assert note(reason, LONGEST_REASON).endswith("; remove it")
    assert len(note(reason)) == 400
