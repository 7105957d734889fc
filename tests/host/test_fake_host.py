"""The fake's own tools: lost replies, latency on virtual time, and the record of what happened."""

import pytest
import trio
import trio.testing

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.errors import HostCrash, HostRefusal
from spec_kitty_orchestrator.ports import Host, ReviewResult
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.lane_rules import EDGES, Asked, objection

pytestmark = pytest.mark.anyio

POLICY = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none")
APPROVED = ReviewResult("codex", "approved", "attempt@sha", "good")


async def test_a_reply_can_be_lost_before_the_call_takes_effect() -> None:
    host = FakeHost({"WP01": ()})
    host.fail_next("start-implementation", HostCrash("start-implementation", "lost"))
    with pytest.raises(HostCrash):
        await host.start_implementation("demo", "WP01", "a", POLICY)
    assert host.lanes == {"WP01": Lane.PLANNED}
    await host.start_implementation("demo", "WP01", "a", POLICY)
    assert host.lanes == {"WP01": Lane.IN_PROGRESS}


async def test_a_reply_can_be_lost_after_the_call_took_effect() -> None:
    host = FakeHost({"WP01": ()})
    host.fail_next("transition", HostCrash("transition", "lost"), after_effect=True)
    with pytest.raises(HostCrash):
        await host.transition("demo", "WP01", Lane.BLOCKED, "a", note="why")
    assert host.lanes == {"WP01": Lane.BLOCKED}
    assert [(event.from_lane, event.to_lane, event.note) for event in host.events] == [
        (Lane.PLANNED, Lane.BLOCKED, "why")
    ]


async def test_failures_are_queued_per_call() -> None:
    host = FakeHost({"WP01": ()})
    host.fail_next("resolve-workspace", HostCrash("resolve-workspace", "first"))
    host.fail_next("resolve-workspace", HostCrash("resolve-workspace", "second"))
    await host.mission_state("demo")
    for words in ("first", "second"):
        with pytest.raises(HostCrash, match=words):
            await host.resolve_workspace("demo", "WP01")
    await host.resolve_workspace("demo", "WP01")
    assert host.calls == ["mission-state", "resolve-workspace", "resolve-workspace", "resolve-workspace"]


def test_latency_passes_on_virtual_time() -> None:
    async def main() -> float:
        host = FakeHost({"WP01": ()}, latency_s=3600)
        await host.mission_state("demo")
        return trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == pytest.approx(3600, abs=1)


async def test_a_start_records_the_claim_and_the_beginning_and_its_repetition_nothing() -> None:
    host = FakeHost({"WP01": ()})
    await host.start_implementation("demo", "WP01", "a", POLICY)
    await host.start_implementation("demo", "WP01", "a", POLICY)
    assert [event.to_lane for event in host.events] == [Lane.CLAIMED, Lane.IN_PROGRESS]
    assert all(event.policy is POLICY for event in host.events)


async def test_whoever_moved_a_work_package_last_holds_it() -> None:
    host = FakeHost({"WP01": ()})
    await host.start_implementation("demo", "WP01", "a", POLICY)
    await host.transition("demo", "WP01", Lane.BLOCKED, "a")
    await host.transition("demo", "WP01", Lane.IN_PROGRESS, "bob", policy=POLICY)
    with pytest.raises(HostRefusal) as refused:
        await host.start_implementation("demo", "WP01", "a", POLICY)
    assert refused.value.data["claimed_by"] == "bob"


async def test_merging_closes_approved_work_packages_and_checks_no_lane() -> None:
    host = FakeHost({"WP01": (), "WP02": ()})
    host.lanes["WP01"] = Lane.APPROVED
    await host.merge_mission("demo")
    assert host.lanes == {"WP01": Lane.DONE, "WP02": Lane.PLANNED}
    with pytest.raises(HostRefusal, match="PREFLIGHT_FAILED"):
        await host.merge_mission("demo")


async def test_a_mission_that_is_not_finalized_cannot_be_read() -> None:
    host = FakeHost({"WP01": ()})
    host.finalized = False
    with pytest.raises(HostRefusal, match="TASKS_NOT_FINALIZED"):
        await host.mission_state("demo")


@pytest.mark.parametrize("lane", Lane)
def test_no_lane_leads_to_itself_and_only_an_approved_review_to_done(lane: Lane) -> None:
    assert lane not in EDGES[lane]
    assert objection(lane, Asked(to=lane, actor="a")) == f"Illegal transition: {lane} -> {lane}"
    allowed = objection(lane, Asked(to=Lane.DONE, actor="a", review=APPROVED)) == ""
    assert allowed == (lane is Lane.IN_REVIEW)


def test_the_fake_is_a_host() -> None:
    host: Host = FakeHost({})
    assert host is not None
