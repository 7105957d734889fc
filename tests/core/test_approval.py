"""A branch may be merged while it stands at the last approved commit and holds the others."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.approval import (
    MOST_COMMITS,
    Approved,
    Commit,
    Tip,
    approved,
    approved_head,
    merged_by_host,
    objection,
    targets,
    unknown,
)
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.model import PLANNING_LANE, Lane, MissionState, Phase, Result, Workspace
from spec_kitty_orchestrator.core.run import RunState, begin
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import Review, WorkPackage

from .builders import BASE, HEAD, OTHER, POLICY, SPACE, start_at

BRANCH = "mission-lane-a"
ONE = Approved(SPACE, ("WP01",), (HEAD,))
TIP = Tip(HEAD, HEAD, path=SPACE.path)
LATER = Commit(OTHER, "Mallory", "Add a back door")


def finished(head: str = HEAD, name: str = "WP01", **parts: object) -> WorkPackage:
    """Return a work package that our review approved; without a head, one that others completed."""
    verdict = Verdict(Ruling.APPROVED, head, "r1", "bob", "fine") if head else None
    wp = WorkPackage(name, (), Lane.DONE, Phase.FINISHED, SPACE, review=Review(verdict=verdict))
    return replace(replace(wp, result=Result.DONE), **parts)  # type: ignore[arg-type]


def told(tip: Tip, one: Approved = ONE) -> str:
    return "\n".join(objection(one, tip))


def test_a_branch_at_the_commit_that_was_approved_is_what_was_approved() -> None:
    assert objection(ONE, TIP) == ()


def test_commits_after_the_approval_are_named_with_what_to_do() -> None:
    text = told(replace(TIP, head=OTHER, unreviewed=(LATER,)))
    assert text.splitlines() == [
        f"1 commit of {BRANCH} was not reviewed:",
        f"  {short(OTHER)} Mallory: Add a back door",
        f"  to look at them: git -C {SPACE.path} log -p {short(HEAD)}..{BRANCH}",
        f"  to take them off: git -C {SPACE.path} reset --keep {short(HEAD)}",
    ]


def test_of_many_commits_the_newest_are_named_and_the_rest_is_counted() -> None:
    text = told(replace(TIP, head=OTHER, unreviewed=(LATER,) * MOST_COMMITS, more=5))
    assert f"{MOST_COMMITS + 5} commits of {BRANCH} were not reviewed" in text
    assert text.count("Mallory") == MOST_COMMITS
    assert "and 5 more" in text


def test_what_a_commit_says_of_itself_acts_on_no_terminal() -> None:
    evil = Commit(OTHER, "\x1b]0;x\x07M", "fine\x1b[2K\rnothing to see")
    text = told(replace(TIP, head=OTHER, unreviewed=(evil,)))
    assert "\x1b" not in text
    assert "\r" not in text


@pytest.mark.parametrize(
    ("tip", "words"),
    [
        (replace(TIP, head=BASE, lacks=(HEAD,)), f"approved commit {short(HEAD)} is no longer on {BRANCH}"),
        (Tip("", HEAD), f"the branch {BRANCH} is gone, which held the approved commit {short(HEAD)}"),
        (replace(TIP, head=OTHER), f"{BRANCH} stands at {short(OTHER)}; approved was {short(HEAD)}"),
        (replace(TIP, hidden_by=f"refs/tags/{BRANCH}"), f"refs/tags/{BRANCH} has the name of the branch"),
        (replace(TIP, uncommitted=("a.py",)), f"{SPACE.path} holds what is not on its branch"),
    ],
    ids=["reset", "deleted", "elsewhere", "hidden", "uncommitted"],
)
def test_a_branch_that_is_not_what_was_approved_is_named(tip: Tip, words: str) -> None:
    assert words in told(tip)


def test_a_branch_that_is_gone_because_it_was_merged_is_no_objection() -> None:
    assert told(Tip("", HEAD, merged=True)) == ""


def test_work_packages_that_share_a_branch_are_all_to_be_on_it_and_one_of_them_last() -> None:
    (both,) = approved([finished(HEAD), finished(OTHER, "WP02")])
    assert (both.wps, both.heads) == (("WP01", "WP02"), (HEAD, OTHER))
    assert told(replace(TIP, head=OTHER), both) == ""
    assert "no longer on" in told(replace(TIP, head=HEAD, lacks=(OTHER,)), both)


def test_an_approval_counts_only_where_it_finished_the_work_package() -> None:
    assert approved_head(finished()) == HEAD
    assert approved_head(finished(result=Result.UNREVIEWED)) == ""
    assert approved_head(finished(phase=Phase.RECORDING, result=None)) == ""


STARTS = MissionState("m", {"WP01": Lane.DONE}, {})


def test_what_others_completed_may_be_merged_as_the_first_start_that_knew_of_it_found_it() -> None:
    state = RunState(POLICY, {"WP01": finished("")})
    for tips in ({BRANCH: HEAD}, {BRANCH: OTHER}):
        state = begin(state, start_at(STARTS, tips=tips))
    wps = state.wps.values()
    (one,) = approved(wps)
    assert (one.heads, one.found, unknown(wps)) == ((), (HEAD,), ())
    assert told(TIP, one) == ""
    assert "was not reviewed" in told(replace(TIP, head=OTHER, unreviewed=(LATER,)), one)


def test_a_work_package_that_was_put_back_to_work_is_found_anew_when_others_complete_it_again() -> None:
    state = RunState(POLICY, {"WP01": finished("")})
    for lane, head in ((Lane.DONE, HEAD), (Lane.PLANNED, HEAD), (Lane.DONE, OTHER)):
        state = begin(state, start_at(MissionState("m", {"WP01": lane}, {}), tips={BRANCH: head}))
    assert state.wps["WP01"].found == {BRANCH: OTHER}


def test_a_branch_that_did_not_exist_when_others_completed_its_work_must_not_appear() -> None:
    (one,) = approved([finished("", found={})])
    assert told(Tip(""), one) == ""
    assert "was not reviewed" in told(Tip(OTHER, unreviewed=(LATER,)), one)


def test_what_others_completed_during_a_start_is_not_known() -> None:
    wps = [finished(""), finished(HEAD, "WP02")]
    assert unknown(wps) == ("WP01",)
    assert [one.wps for one in approved(wps)] == [("WP02",)]


PLANNING = Workspace("/w", "/w/WP01.md", PLANNING_LANE, "m-planning", "feature", "feature")


def test_an_approved_planning_artifact_must_be_on_its_target() -> None:
    (one,) = approved([finished(workspace=PLANNING)])
    assert told(replace(TIP, merged=True), one) == ""
    assert told(replace(TIP, head=OTHER, merged=True), one) == ""
    assert f"{short(HEAD)} is not on feature" in told(TIP, one)
    assert f"git merge {HEAD}" in told(TIP, one)
    assert "was not reviewed" in told(replace(TIP, head=OTHER, unreviewed=(LATER,), merged=True), one)


def test_dependents_begin_with_what_is_on_the_target_of_planning_artifacts() -> None:
    wp = WorkPackage("WP02", ("WP01", "WP03", "WP09"))
    wps = {"WP01": finished(workspace=PLANNING), "WP03": finished(OTHER, "WP03"), "WP02": wp}
    assert targets(wp, wps) == targets(wps["WP01"], wps) == ("refs/heads/feature",)
    assert targets(wps["WP03"], wps) == ()
    assert merged_by_host(wps.values()) == ("refs/heads/main",)
    assert merged_by_host([wp]) == ()


def test_work_in_the_primary_checkout_is_on_no_branch_of_its_own() -> None:
    planning = Workspace("/repo", "/repo/tasks/WP01.md", PLANNING_LANE, "main", "main")
    assert approved([finished("", workspace=planning, found={})]) == ()


def test_whoever_knows_the_mission_is_told_how_to_have_later_commits_reviewed() -> None:
    lines = objection(ONE, replace(TIP, head=OTHER, unreviewed=(LATER,)), "demo")
    assert lines[-1].startswith(
        "  to have them reviewed: spec-kitty agent tasks move-task WP01 --to for_review "
    )
