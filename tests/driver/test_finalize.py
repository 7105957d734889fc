"""The end of a mission: merged and accepted only when it is complete, in the order that works."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spec_kitty_orchestrator.core.approval import Approved, Tip
from spec_kitty_orchestrator.core.model import PLANNING_LANE, Lane, MissionState, Phase, Result, Workspace
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import Review, WorkPackage
from spec_kitty_orchestrator.driver.finalize import UNCOMMITTED, finalize
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostCrash, HostRefusal, HostTimeout, WorkspaceError
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces

pytestmark = pytest.mark.anyio

WPS = ("WP01", "WP02")
RESULT = RunResult(
    0,
    tuple(map(WorkPackage, WPS)),
    {},
    MissionState("demo", dict.fromkeys(WPS, Lane.DONE), dict.fromkeys(WPS, ())),
)


async def end(
    host: FakeHost,
    result: RunResult = RESULT,
    workspaces: FakeWorkspaces | None = None,
    *,
    merge: bool = True,
    accept: bool = True,
    coordinated: bool = False,
    coordination: Path | None = None,
) -> tuple[bool, Sequence[str]]:
    found = await finalize(
        host,
        workspaces or FakeWorkspaces(),
        result,
        "me",
        merge=merge,
        accept=accept,
        coordinated=coordinated,
        coordination=coordination,
    )
    assert host.merged or not found.merged
    assert found.accepted is bool(host.accepted_by)
    return found.done, found.lines


def complete(lane: Lane = Lane.DONE) -> FakeHost:
    host = FakeHost({"WP01": (), "WP02": ()})
    host.lanes = dict.fromkeys(host.lanes, lane)
    return host


@pytest.mark.parametrize("lane_ids", [{}, {"WP02": PLANNING_LANE}])
async def test_the_coordination_branch_gets_the_target_where_that_holds_planning_artifacts(
    lane_ids: dict[str, str],
) -> None:
    host, workspaces, place = FakeHost(dict.fromkeys(WPS, ()), lane_ids=lane_ids), FakeWorkspaces(), "/coord"
    host.lanes = dict.fromkeys(host.lanes, Lane.DONE)
    others = tuple(replace(one, lane=Lane.DONE, found={}) for one in RESULT.work_packages)
    result = replace(RESULT, work_packages=others)
    assert (await end(host, result, workspaces, coordinated=True, coordination=Path(place)))[0]
    assert workspaces.brought == ([(place, "HEAD")] if lane_ids else [])


@pytest.mark.parametrize("lane", [one for one in Lane if not one.complete])
async def test_nothing_happens_while_a_work_package_is_open(lane: Lane) -> None:
    host = complete()
    host.lanes["WP02"] = lane
    done, lines = await end(host)
    assert not done
    assert f"WP02 ({lane})" in lines[0]
    assert host.calls == ["mission-state"]


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (replace(RESULT, exit_code=1), (True, ())),
        (
            replace(RESULT, interrupted=2),
            (False, ["not merged and not accepted: the run was interrupted"]),
        ),
    ],
    ids=["incomplete", "interrupted"],
)
async def test_the_host_is_not_asked_after_a_run_that_did_not_complete_the_mission(
    result: RunResult, answer: tuple[bool, Sequence[str]]
) -> None:
    host = complete()
    assert await end(host, result) == answer
    assert host.calls == []


@pytest.mark.parametrize("coordinated", [False, True])
@pytest.mark.parametrize("lane", [Lane.APPROVED, Lane.DONE])
async def test_the_merge_comes_before_the_acceptance(lane: Lane, coordinated: bool) -> None:
    host = complete(lane)
    done, lines = await end(host, coordinated=coordinated)
    assert done
    assert host.calls == ["mission-state", "merge-mission", "accept-mission"]
    assert (host.merged, host.accepted_by) == (True, "me")
    assert [line.partition(" ")[0].strip(";") for line in lines] == ["merged", "accepted"]


async def test_only_what_was_asked_for_happens() -> None:
    host = complete()
    assert await end(host, accept=False, coordinated=True) == (
        True,
        ["merged into the target branch"],
    )
    assert host.accepted_by == ""
    host = complete()
    done, _ = await end(host, merge=False)
    assert (done, host.merged, host.accepted_by) == (True, False, "me")


async def test_a_coordinated_mission_is_not_accepted_before_its_merge() -> None:
    host = complete()
    done, lines = await end(host, merge=False, coordinated=True)
    assert (done, host.calls) == (False, ["mission-state"])
    assert "only after its merge" in lines[0]


async def test_a_refused_merge_is_told_and_nothing_is_accepted() -> None:
    host = complete()
    refusal = HostRefusal(
        "merge-mission", "PREFLIGHT_FAILED", "preflight failed", {"errors": ["dirty: a.py"]}
    )
    host.fail_next("merge-mission", refusal)
    done, lines = await end(host)
    assert (done, host.accepted_by) == (False, "")
    assert "preflight failed; dirty: a.py" in lines[0]


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_merge_without_an_answer_is_not_taken_for_one(after_effect: bool) -> None:
    host = complete()
    host.fail_next("merge-mission", HostTimeout("merge-mission", "120 s"), after_effect=after_effect)
    done, lines = await end(host)
    assert (done, host.accepted_by) == (False, "")
    assert "git log" in lines[0]
    assert host.calls.count("merge-mission") == 1


async def test_a_refused_acceptance_leaves_the_merge_told() -> None:
    host = complete()
    host.fail_next("accept-mission", HostCrash("accept-mission", "Traceback"))
    done, lines = await end(host)
    assert not done
    assert lines[0] == "merged into the target branch"
    assert "not accepted" in lines[1]


def approved_in(workspaces: FakeWorkspaces, name: str = "WP01") -> WorkPackage:
    """Return a work package whose branch stands at the commit that was approved."""
    space = Workspace(f"/{name}", "", name, f"lane-{name}", "main")
    verdict = Verdict(Ruling.APPROVED, workspaces.commit_by_hand(space), "r1", "rob", "fine")
    wp = WorkPackage(name, (), Lane.DONE, Phase.FINISHED, space, review=Review(verdict=verdict))
    return replace(wp, result=Result.DONE)


@pytest.mark.parametrize(("merge", "accept"), [(True, True), (True, False), (False, True)])
async def test_nothing_is_merged_or_accepted_while_a_branch_holds_what_nobody_approved(
    merge: bool, accept: bool
) -> None:
    host, workspaces = complete(), FakeWorkspaces()
    result = replace(RESULT, work_packages=tuple(approved_in(workspaces, one) for one in WPS))
    space = result.work_packages[1].workspace
    assert space is not None
    workspaces.edit(space, "a.py")
    workspaces.commit_by_hand(space)

    done, lines = await end(host, result, workspaces, merge=merge, accept=accept)

    assert (done, host.merged, host.accepted_by) == (False, False, "")
    refused = "not merged" if merge else "not accepted"
    assert lines[0] == f"{refused}: 1 commit of lane-WP02 was not reviewed:"

    del workspaces.tree(space).commits[-1]
    assert (await end(host, result, workspaces, merge=merge, accept=accept))[0]


async def test_what_others_completed_during_the_start_is_left_to_a_person() -> None:
    host, workspaces = complete(), FakeWorkspaces()
    others = WorkPackage("WP02", (), Lane.DONE, Phase.FINISHED, result=Result.DONE)
    result = replace(RESULT, work_packages=(approved_in(workspaces), others))
    done, lines = await end(host, result, workspaces)
    assert (done, host.merged) == (False, False)
    assert lines[0].startswith("not merged: WP02: completed by others since this start began")

    found = replace(others, found=await workspaces.branches())
    result = replace(result, work_packages=(result.work_packages[0], found))
    assert (await end(host, result, workspaces))[0]


async def test_nothing_is_merged_while_git_does_not_say_what_the_branches_hold() -> None:
    class Broken(FakeWorkspaces):
        async def tip(self, approved: Approved, known: Sequence[str], *, worktree: bool = True) -> Tip:
            raise WorkspaceError("git is gone")

    host, workspaces = complete(), Broken()
    result = replace(RESULT, work_packages=tuple(approved_in(workspaces, one) for one in WPS))
    done, lines = await end(host, result, workspaces)
    assert (done, host.merged) == (False, False)
    assert "git is gone" in lines[0]


class Merged(FakeWorkspaces):
    """Git after a merge: the target holds what was approved."""

    async def tip(self, approved: Approved, known: Sequence[str], *, worktree: bool = True) -> Tip:
        return Tip("", merged=True)


async def test_a_mission_that_was_merged_before_is_accepted_all_the_same() -> None:
    host, workspaces = complete(), Merged()
    result = replace(RESULT, work_packages=tuple(approved_in(workspaces, one) for one in WPS))
    host.fail_next("merge-mission", HostRefusal("merge-mission", "PREFLIGHT_FAILED", "no such branch"))
    ended = await finalize(host, workspaces, result, "me", merge=True, accept=True, coordinated=False)
    assert (ended.done, ended.merged, host.accepted_by) == (True, True, "me")
    assert ended.lines[0] == "it was merged before; the host says of another merge: no such branch"

    host = complete()
    ended = await finalize(host, workspaces, result, "me", merge=False, accept=True, coordinated=True)
    assert (ended.done, host.calls) == (True, ["mission-state", "accept-mission"])


async def test_planning_artifacts_alone_are_not_told_as_merged_by_the_host() -> None:
    host, workspaces = complete(), Merged()
    wps = [approved_in(workspaces, one) for one in WPS]
    wps = [
        replace(one, workspace=replace(one.workspace, lane_id=PLANNING_LANE)) for one in wps if one.workspace
    ]
    result = replace(RESULT, work_packages=tuple(wps))
    host.fail_next("merge-mission", HostRefusal("merge-mission", "PREFLIGHT_FAILED", "no lanes"))
    ended = await finalize(host, workspaces, result, "me", merge=True, accept=False, coordinated=False)
    told = "each artifact was put on its target when it was approved; the host says of a merge: no lanes"
    assert (ended.done, ended.lines) == (True, [told])


async def test_a_long_merge_tells_now_and_then_that_it_goes_on() -> None:
    host, told = complete(), list[str]()
    host.latency_s = 150.0
    workspaces = FakeWorkspaces()
    result = replace(RESULT, work_packages=tuple(approved_in(workspaces, one) for one in WPS))
    ended = await finalize(
        host, workspaces, result, "me", say=told.append, merge=True, accept=False, coordinated=False
    )
    assert ended.done
    begins = "spec-kitty merges 2 branches; a first Ctrl-C leaves that alone"
    assert told == [begins, f"{begins}: 1m 00s so far", f"{begins}: 2m 00s so far"]


@pytest.mark.parametrize("lost", [(), (Path("a.py"),)])
async def test_what_the_host_left_is_recorded_before_the_merge_and_after_the_acceptance(
    lost: tuple[Path, ...],
) -> None:
    host, recorded = complete(), list[bool]()

    async def record() -> Sequence[str]:
        recorded.append(host.merged)
        return [f"recorded {len(recorded)}"]

    ended = await finalize(
        host,
        FakeWorkspaces(),
        RESULT,
        "me",
        lambda: lost,
        record,
        merge=True,
        accept=True,
        coordinated=False,
    )
    if lost:
        assert (ended.done, ended.again, recorded) == (False, "--merge", [False])
        assert ended.lines[1:] == [f"not merged: {UNCOMMITTED}:", "  a.py"]
    else:
        assert ended.lines == ["recorded 1", "merged into the target branch", "accepted", "recorded 2"]
        assert recorded == [False, True]
