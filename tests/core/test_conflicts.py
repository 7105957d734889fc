"""Branches that will conflict are told once, with where they meet and how a person ends that."""

import shlex
from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.conflicts import advice, moved, news, pairs
from spec_kitty_orchestrator.core.describe import describe
from spec_kitty_orchestrator.core.model import Lane, Workspace
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import ConflictForecast
from spec_kitty_orchestrator.core.work_package import Work, WorkPackage

from .builders import POLICY

PAIR = ("lane-a", "lane-b")
FOUND = ConflictForecast("WP01", "WP02", PAIR, ("a.py",), "WP03")


def wp(
    name: str, lane: str, needs: tuple[str, ...] = (), head: str = "h1", at: Lane = Lane.DONE
) -> WorkPackage:
    space = Workspace(f"/w t/{lane}", "", lane, lane, "main")
    return WorkPackage(name, needs, at, workspace=space, work=Work(base="b" * bool(head), head=head))


def run(*wps: WorkPackage, known: tuple[ConflictForecast, ...] = ()) -> RunState:
    return RunState(POLICY, {one.id: one for one in wps}, conflicts=known)


ONE, TWO = wp("WP01", "lane-a"), wp("WP02", "lane-b")
BOTH = wp("WP03", "lane-c", ("WP01", "WP02"), head="", at=Lane.PLANNED)


def test_only_branches_with_work_are_looked_at_and_only_with_the_one_that_moved() -> None:
    canceled = wp("WP04", "lane-d", at=Lane.CANCELED)
    planning = replace(wp("WP05", "lane-planning"), workspace=Workspace("/p", "", "lane-planning", "main"))
    again, elsewhere = wp("WP06", "lane-b"), replace(wp("WP07", "lane-e"), workspace=None)
    state = run(ONE, TWO, BOTH, canceled, planning, again, elsewhere)
    assert pairs(state, "WP02") == (PAIR,)
    assert pairs(state, "WP01") == (PAIR,)
    assert pairs(state, "WP05") == pairs(state, "WP07") == pairs(state) == ()
    assert pairs(run(ONE, TWO, known=(FOUND,))) == (PAIR,)


def test_a_new_commit_is_a_reason_to_look_and_nothing_else() -> None:
    before = run(ONE, TWO)
    assert not moved(before, run(replace(ONE, lane=Lane.APPROVED), TWO), "WP01")
    assert moved(before, run(wp("WP01", "lane-a", head="h2"), TWO), "WP01")
    assert not moved(before, before, "")


@pytest.mark.parametrize(
    ("others", "needed_by"),
    [
        ((BOTH,), "WP03"),
        ((), ""),
        ((replace(BOTH, dependencies=("WP01",)),), ""),
        # It meets the other one in the branch that it shares.
        ((wp("WP03", "lane-b", ("WP01",), head="", at=Lane.PLANNED),), "WP03"),
        # Through what it needs, and behind who meets both before it.
        (
            (
                wp("WP04", "lane-d", ("WP05", "WP02"), head="", at=Lane.PLANNED),
                wp("WP05", "lane-e", ("WP01",), head="", at=Lane.PLANNED),
                wp("WP06", "lane-f", ("WP04",), head="", at=Lane.PLANNED),
            ),
            "WP04",
        ),
        ((wp("WP03", "lane-c", ("WP01", "WP02")),), ""),
    ],
)
def test_it_is_told_who_meets_both_first(others: tuple[WorkPackage, ...], needed_by: str) -> None:
    (told,) = news(run(ONE, TWO, *others), {PAIR: ("a.py",)})
    assert told == replace(FOUND, needed_by=needed_by)


def test_a_conflict_is_told_once_again_where_it_changes_and_when_it_is_gone() -> None:
    state = run(ONE, TWO, BOTH, known=(FOUND,))
    same = {PAIR: ("a.py",)}
    assert news(state, same) == []
    assert news(run(ONE, TWO), {PAIR: ()}) == []
    assert news(state, {PAIR: ("b.py",)}) == [replace(FOUND, files=("b.py",))]
    (gone,) = news(state, {PAIR: ()})
    assert gone.among(state.conflicts) == ()
    assert describe(gone) == "WP01 and WP02 can be merged with each other again"
    canceled = run(ONE, replace(TWO, lane=Lane.CANCELED), known=(FOUND,))
    assert [one.files for one in news(canceled, same)] == [()]


def test_a_conflict_is_described_in_one_calm_line() -> None:
    assert describe(FOUND) == (
        "WP01 and WP02 will conflict in a.py; WP03, which needs both, cannot start until a person merges them"
    )
    many = replace(FOUND, files=("a\n.py", "b", "c", "d", "e"), needed_by="")
    assert describe(many) == (
        "WP01 and WP02 will conflict in a .py, b, c and 2 more; "
        "the mission cannot be merged until a person merges them"
    )


def commands(lines: list[str]) -> list[list[str]]:
    return [shlex.split(line) for line in lines if line.startswith("  ")]


def test_the_mend_merges_what_came_first_into_what_is_reviewed_again_then() -> None:
    merge, commit, review = commands(advice((FOUND,), (ONE, TWO, BOTH), "demo"))
    assert merge == ["git", "-C", "/w t/lane-b", "merge", "--no-edit", "lane-a"]
    assert commit == ["git", "-C", "/w t/lane-b", "commit", "--no-edit"]
    assert review[:6] == ["spec-kitty", "agent", "tasks", "move-task", "WP02", "--to"]


def test_what_is_not_approved_yet_takes_the_other_one_in_and_is_reviewed_anyway() -> None:
    mend = commands(advice((FOUND,), (replace(ONE, lane=Lane.IN_PROGRESS), TWO), "demo"))
    assert [words[2:5:2] for words in mend] == [["/w t/lane-a", "--no-edit"], ["/w t/lane-a", "--no-edit"]]
    assert mend[0][-1] == "lane-b"


def test_many_conflicts_are_named_and_the_first_of_them_mended() -> None:
    many = [replace(FOUND, branches=(f"a{n}", "lane-b")) for n in range(9)]
    told = advice(many, (ONE, TWO), "demo")
    assert sum("will conflict" in line for line in told) == 9
    assert len(commands(told)) == 15
