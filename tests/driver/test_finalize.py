"""The end of a mission: merged and accepted only when it is complete, in the order that works."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.finalize import finalize
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostCrash, HostRefusal, HostTimeout
from spec_kitty_orchestrator.testing.fake_host import FakeHost

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
    *,
    merge: bool = True,
    accept: bool = True,
    coordinated: bool = False,
) -> tuple[bool, Sequence[str]]:
    return await finalize(host, result, "me", merge=merge, accept=accept, coordinated=coordinated)


def complete(lane: Lane = Lane.DONE) -> FakeHost:
    host = FakeHost({"WP01": (), "WP02": ()})
    host.lanes = dict.fromkeys(host.lanes, lane)
    return host


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
