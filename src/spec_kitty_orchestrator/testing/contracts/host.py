"""What every `ports.Host` promises: lanes move by its rules, and a refusal comes with its code and words."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import Host, ReviewResult
from spec_kitty_orchestrator.testing.contracts import Contract
from spec_kitty_orchestrator.testing.missions import MissionSpec, chain, diamond

__all__ = ["HostContract", "HostStage", "OpenMission"]

_ACTOR = "orchestrator"
_POLICY = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none")
_REJECTED = ReviewResult("codex", "changes_requested", "attempt-1@abc", "a test is missing")
_APPROVED = ReviewResult("codex", "approved", "attempt-2@def", "good")


@dataclass
class HostStage:
    """A host with a mission, and the two things that agents do behind the host's back.

    Attributes:
        mission: its slug.
        write: changes a file in a workspace.
        commit: commits what is uncommitted in a workspace.
    """

    host: Host
    mission: str
    write: Callable[[Workspace], None]
    commit: Callable[[Workspace], None]

    async def lanes(self) -> dict[str, Lane]:
        """Return the lane of each work package."""
        return dict((await self.host.mission_state(self.mission)).lanes)

    async def start(self, wp: str, actor: str = _ACTOR) -> Workspace:
        """Start to implement a work package."""
        return await self.host.start_implementation(self.mission, wp, actor, _POLICY)

    async def review(self, wp: str) -> None:
        """Start to review a work package."""
        await self.host.start_review(self.mission, wp, _ACTOR, _POLICY)

    async def move(
        self, wp: str, to: Lane, *, note: str = "", review: ReviewResult | None = None, force: bool = False
    ) -> None:
        """Move a work package to a lane."""
        await self.host.transition(
            self.mission, wp, to, _ACTOR, policy=_POLICY, note=note, review=review, force=force
        )


OpenMission = Callable[[MissionSpec], HostStage]
"""Makes a mission and returns a host that has it."""


class HostContract(Contract):
    """The suite for a `ports.Host`.

    A subclass gives the fixture `open_mission`.

    Attributes:
        story_limit_s: bounds each test, in seconds; a real host takes seconds for a call.
    """

    story_limit_s: float = 900.0

    @pytest.fixture
    def open_mission(self) -> OpenMission:
        """Return a function that makes a mission in the host."""
        raise NotImplementedError("give the class a fixture open_mission that returns such a function")

    async def test_a_work_package_is_rejected_reworked_and_approved(self, open_mission: OpenMission) -> None:
        """Starts, lanes and refusals of one work package from planned to done."""
        with anyio.fail_after(self.story_limit_s):
            here = open_mission(diamond(3).on("lanes"))
            assert await here.lanes() == dict.fromkeys(("WP01", "WP02", "WP03"), Lane.PLANNED)
            async with _refused("DEPENDENCIES_NOT_SATISFIED", "WP02 depends on WP01"):
                await here.start("WP02")

            promised = await here.host.resolve_workspace(here.mission, "WP01")
            workspace = await here.start("WP01")
            assert workspace == promised
            assert workspace.branch == f"kitty/mission-{here.mission}-{workspace.lane_id}"
            assert await here.start("WP01") == workspace
            async with _refused("WP_ALREADY_CLAIMED", f"by '{_ACTOR}'"):
                await here.start("WP01", actor="somebody-else")

            async with _refused("TRANSITION_REJECTED", "no implementation commit on lane"):
                await here.move("WP01", Lane.FOR_REVIEW)
            here.write(workspace)
            async with _refused("LANE_ALLOCATION_FAILED", "has uncommitted changes"):
                await here.start("WP01")
            here.commit(workspace)
            async with _refused("TRANSITION_REJECTED", "requires completed subtasks"):
                await here.move("WP01", Lane.FOR_REVIEW)
            async with _refused("SUBTASKS_NOT_FOUND", "T099"):
                await here.host.tick_subtasks(here.mission, "WP01", ["T001", "T099"])
            await here.move("WP01", Lane.FOR_REVIEW, note="ready")
            async with _refused("TRANSITION_REJECTED", "Illegal transition: for_review -> for_review"):
                await here.move("WP01", Lane.FOR_REVIEW)

            await _review_rework_approve(here)

    async def test_what_cannot_be_is_refused_with_the_words_that_decide_what_a_run_does(
        self, open_mission: OpenMission
    ) -> None:
        """Approved, blocked and canceled lanes, force, and malformed requests."""
        with anyio.fail_after(self.story_limit_s):
            here = open_mission(diamond(3).on("lanes"))
            await _submit(here, "WP01", ["T001"])
            await here.review("WP01")
            async with _refused("USAGE_ERROR", "requires non-empty reviewer"):
                await here.move("WP01", Lane.APPROVED, review=ReviewResult("", "approved", "r", ""))
            async with _refused("USAGE_ERROR", "verdict must be"):
                await here.move("WP01", Lane.APPROVED, review=ReviewResult("codex", "fine", "r", ""))
            await here.move("WP01", Lane.APPROVED, review=_APPROVED)
            async with _refused("TRANSITION_REJECTED", "requires review_ref"):
                await here.move("WP01", Lane.IN_PROGRESS)
            async with _refused("TRANSITION_REJECTED", "requires evidence"):
                await here.move("WP01", Lane.DONE)

            await here.start("WP02")
            async with _refused("TRANSITION_REJECTED", "requires reason"):
                await here.move("WP02", Lane.PLANNED)
            await here.move("WP02", Lane.BLOCKED, note="parked")
            async with _refused("TRANSITION_REJECTED", "is in 'blocked', cannot start implementation"):
                await here.start("WP02")
            await here.move("WP02", Lane.CANCELED)
            assert await here.lanes() == {
                "WP01": Lane.APPROVED,
                "WP02": Lane.CANCELED,
                "WP03": Lane.PLANNED,
            }
            async with _refused("MISSION_NOT_READY"):
                await here.host.accept_mission(here.mission, _ACTOR)

            async with _refused("TRANSITION_REJECTED", "Force transitions require actor and reason"):
                await here.move("WP03", Lane.IN_PROGRESS, force=True)
            for lane in (Lane.IN_PROGRESS, Lane.FOR_REVIEW):
                await here.move("WP03", lane, note="without a worktree", force=True)
            assert (await here.lanes())["WP03"] is Lane.FOR_REVIEW
            place = await here.host.resolve_workspace(here.mission, "WP03")
            assert not await anyio.Path(place.path).exists()

            await _malformed(here)

    async def test_what_was_canceled_for_a_reason_keeps_nobody_who_depends_on_it(
        self, open_mission: OpenMission
    ) -> None:
        """Without a reason it keeps them waiting."""
        with anyio.fail_after(self.story_limit_s):
            here = open_mission(diamond(3).on("lanes"))
            await here.move("WP01", Lane.CANCELED)
            await here.move("WP02", Lane.CANCELED, note="WP03 does it too")
            assert (await here.host.mission_state(here.mission)).ready == ("WP03",)
            await here.start("WP03")

            here = open_mission(diamond(3).on("lanes"))
            await here.move("WP01", Lane.CANCELED)
            assert (await here.host.mission_state(here.mission)).ready == ()
            with pytest.raises(HostRefusal) as caught:
                await here.start("WP02")
            assert caught.value.data["unsatisfied_dependencies"] == ["WP01"]

    async def test_two_work_packages_of_one_worktree_are_delivered_accepted_and_merged(
        self, open_mission: OpenMission
    ) -> None:
        """They share a lane."""
        with anyio.fail_after(self.story_limit_s):
            here = open_mission(chain(2).on("lanes_with_coord"))
            first = await here.host.resolve_workspace(here.mission, "WP01")
            second = await here.host.resolve_workspace(here.mission, "WP02")
            assert first.key == second.key
            for wp, task in (("WP01", "T001"), ("WP02", "T002")):
                await _submit(here, wp, [task])
                await here.review(wp)
                await here.move(wp, Lane.DONE, review=_APPROVED)
            await here.host.merge_mission(here.mission)
            await here.host.accept_mission(here.mission, _ACTOR)


@asynccontextmanager
async def _refused(code: str, words: str = "") -> AsyncIterator[None]:
    """Expect a refusal with this code whose message contains these words."""
    with pytest.raises(HostRefusal) as caught:
        yield
    assert caught.value.code == code
    assert words in caught.value.message


async def _submit(stage: HostStage, wp: str, tasks: Sequence[str]) -> None:
    workspace = await stage.start(wp)
    stage.write(workspace)
    stage.commit(workspace)
    await stage.host.tick_subtasks(stage.mission, wp, tasks)
    await stage.move(wp, Lane.FOR_REVIEW, note="please\nreview")


async def _review_rework_approve(here: HostStage) -> None:
    """Take WP01 from for_review to done, with a rejection on the way."""
    await here.review("WP01")
    await here.review("WP01")
    async with _refused("TRANSITION_REJECTED", "is in 'in_review', cannot start implementation"):
        await here.start("WP01")
    async with _refused("TRANSITION_REJECTED", "requires review_result"):
        await here.move("WP01", Lane.DONE)
    async with _refused("TRANSITION_REJECTED", "requires evidence"):
        await here.move("WP01", Lane.DONE, review=_REJECTED)
    await here.move("WP01", Lane.IN_PROGRESS, review=_REJECTED, note="a test is missing")
    assert (await here.lanes())["WP01"] is Lane.IN_PROGRESS

    await here.move("WP01", Lane.FOR_REVIEW)
    await here.review("WP01")
    await here.move("WP01", Lane.DONE, review=_APPROVED, note="good")
    assert (await here.lanes())["WP01"] is Lane.DONE
    async with _refused("TRANSITION_REJECTED", "Illegal transition: done -> in_progress"):
        await here.move("WP01", Lane.IN_PROGRESS)


async def _malformed(here: HostStage) -> None:
    """Ask for what cannot be, in each way."""
    async with _refused("WP_NOT_FOUND", "Work package 'WP77' not found in"):
        await here.review("WP77")
    async with _refused("MISSION_NOT_FOUND", "Mission 'nonesuch' not found"):
        await here.host.mission_state("nonesuch")
    async with _refused("POLICY_METADATA_REQUIRED", "transitioning to 'for_review'"):
        await here.host.transition(here.mission, "WP01", Lane.FOR_REVIEW, _ACTOR)
    monkey = PolicyMetadata("monkey", "1", "a", "b", "c", "d")
    async with _refused("POLICY_VALIDATION_FAILED"):
        await here.host.start_review(here.mission, "WP01", _ACTOR, monkey)
    yolo = PolicyMetadata("sko", "1", "a", "b", "c", "d", ("--yolo",))
    async with _refused("POLICY_VALIDATION_FAILED", "--yolo"):
        await here.host.start_review(here.mission, "WP01", _ACTOR, yolo)
