"""A host in memory with the real host's rules, for tests on virtual time; runs on asyncio and trio.

Each call takes effect in one step, after `latency_s`, so calls interleave only between effects.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeVar

import anyio

from spec_kitty_orchestrator.core.model import PLANNING_LANE, Lane, MissionState, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import ReviewResult
from spec_kitty_orchestrator.testing import lane_rules
from spec_kitty_orchestrator.testing.lane_rules import Transition

__all__ = ["FakeHost"]

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Fault:
    exception: Exception
    after_effect: bool


class FakeHost:
    """Implements the port `Host`.

    Attributes:
        lanes: by work package; a test may move one by hand, as a person or an agent would.
        events: every recorded transition, oldest first.
        calls: the name of every call, oldest first.
        ticked: subtasks marked as done; a test may add one, as an agent would.
        has_commit: tells whether a work package's lane has a commit of its own; True by default.
        is_dirty: tells whether a work package's worktree has uncommitted changes; False by default.
        root: the folder that workspace paths start with.
        target: the mission's target branch, on which planning artifacts belong.
        latency_s: how long each call takes.
        contract: the version that it claims to speak.
        finalized: whether the mission's tasks are; if not, reading the state is refused.
        accepted_by: the actor who had the mission's acceptance recorded, "" before.
        merged: whether the mission was merged.
        canceled_for_a_reason: canceled work packages that keep nobody who depends on them.
    """

    def __init__(
        self,
        dependencies: Mapping[str, Sequence[str]],
        *,
        mission: str = "demo",
        subtasks: Mapping[str, Sequence[str]] | None = None,
        lane_ids: Mapping[str, str] | None = None,
        root: str = "/mission",
        latency_s: float = 0.0,
        legacy: bool = False,
    ) -> None:
        """Make a mission in which every work package is planned.

        Args:
            dependencies: ids of work packages with the ids that each depends on.
            mission: its slug.
            subtasks: ids of subtasks by work package; none where one is missing.
            lane_ids: work packages with the same value share a worktree; one of its own where one is missing.
            root: the folder that workspace paths start with.
            latency_s: how long each call takes.
            legacy: leave out the lane fields, as for a mission without lanes.json.
        """
        self.mission = mission
        self.dependencies: dict[str, tuple[str, ...]] = {
            wp: tuple(needed) for wp, needed in dependencies.items()
        }
        self.subtasks: dict[str, tuple[str, ...]] = {
            wp: tuple((subtasks or {}).get(wp, ())) for wp in dependencies
        }
        self.lane_ids: dict[str, str] = {wp: f"lane-{number}" for number, wp in enumerate(dependencies, 1)}
        self.lane_ids.update(lane_ids or {})
        self.legacy = legacy
        self.lanes: dict[str, Lane] = dict.fromkeys(dependencies, Lane.PLANNED)
        self.events: list[Transition] = []
        self.calls: list[str] = []
        self.ticked: set[str] = set()
        self.has_commit: Callable[[str], bool] = lambda _: True
        self.is_dirty: Callable[[str], bool] = lambda _: False
        self.root = root
        self.target = "main"
        self.latency_s = latency_s
        self.contract = "1.5.0"
        self.finalized = True
        self.accepted_by: str = ""
        self.merged: bool = False
        self.canceled_for_a_reason: set[str] = set()
        self._holders: dict[str, str] = {}
        self._faults: dict[str, deque[_Fault]] = defaultdict(deque)

    def fail_next(self, call: str, exception: Exception, *, after_effect: bool = False) -> None:
        """Let the next call of that name raise, before or after it takes effect; repeat to queue more."""
        self._faults[call].append(_Fault(exception, after_effect))

    async def check_contract(self) -> str:
        """Return `contract`; the fake is always compatible unless told to fail."""
        return await self._call("contract-version", lambda: self.contract)

    async def mission_state(self, mission: str) -> MissionState:
        """Read lanes and dependencies."""
        return await self._call("mission-state", lambda: self._state(mission))

    async def resolve_workspace(self, mission: str, wp: str) -> Workspace:
        """Read where a work package is worked on."""
        return await self._call(
            "resolve-workspace", lambda: self._workspace("resolve-workspace", mission, wp)
        )

    async def start_implementation(
        self, mission: str, wp: str, actor: str, policy: PolicyMetadata
    ) -> Workspace:
        """Move planned → in_progress; harmless to repeat for the same actor."""
        return await self._call("start-implementation", lambda: self._start(mission, wp, actor, policy))

    async def start_review(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> None:
        """Move for_review → in_review; repeating it is harmless."""
        await self._call("start-review", lambda: self._review(mission, wp, actor, policy))

    async def transition(
        self,
        mission: str,
        wp: str,
        to: Lane,
        actor: str,
        *,
        policy: PolicyMetadata | None = None,
        note: str = "",
        review: ReviewResult | None = None,
        force: bool = False,
    ) -> None:
        """Move a work package along one edge of the host's state machine, or by `force` along any other."""
        asked = lane_rules.Asked(
            to=to,
            actor=actor,
            note=note,
            review=review,
            subtasks_open=bool(set(self.subtasks.get(wp, ())) - self.ticked),
            force=force,
        )
        await self._call("transition", lambda: self._transition(mission, wp, asked, policy))

    async def accept_mission(self, mission: str, actor: str) -> None:
        """Set `accepted_by`; refused while a work package is neither approved nor done."""
        await self._call("accept-mission", lambda: self._accept(mission, actor))

    async def merge_mission(self, mission: str, branches: int = 1) -> None:
        """Set `merged` and close approved work packages; like the real host, lanes are not checked."""
        await self._call("merge-mission", lambda: self._merge(mission))

    async def tick_subtasks(self, mission: str, wp: str, ids: Sequence[str]) -> None:
        """Add to `ticked`; refused, after ticking the rest, if the mission lacks one of them."""
        await self._call("mark-status", lambda: self._tick(mission, wp, ids))

    async def _call(self, name: str, effect: Callable[[], Answer]) -> Answer:
        self.calls.append(name)
        await anyio.sleep(self.latency_s)
        fault = self._faults[name].popleft() if self._faults[name] else None
        if fault is None:
            return effect()
        if fault.after_effect:
            effect()
        raise fault.exception

    def _known(self, call: str, mission: str, wp: str | None = None) -> None:
        if mission != self.mission:
            raise HostRefusal(call, "MISSION_NOT_FOUND", f"Mission '{mission}' not found in kitty-specs/")
        if wp is not None and wp not in self.lanes:
            raise HostRefusal(call, "WP_NOT_FOUND", f"Work package '{wp}' not found in {mission}")

    def _state(self, mission: str) -> MissionState:
        self._known("mission-state", mission)
        if not self.finalized:
            words = "the tasks of this mission are not finalized"
            raise HostRefusal("mission-state", "TASKS_NOT_FINALIZED", words)
        state = MissionState(mission, dict(self.lanes), dict(self.dependencies))
        return replace(state, ready=tuple(wp for wp in state.held_by_canceled if not self._unmet(wp)))

    def _unmet(self, wp: str) -> tuple[str, ...]:
        return tuple(needed for needed in self.dependencies[wp] if not self._is_met(needed))

    def _is_met(self, needed: str) -> bool:
        lane = self.lanes.get(needed, Lane.PLANNED)
        return lane.complete or (lane is Lane.CANCELED and needed in self.canceled_for_a_reason)

    def _workspace(self, call: str, mission: str, wp: str) -> Workspace:
        self._known(call, mission, wp)
        root = PurePosixPath(self.root)
        prompt = str(root / "kitty-specs" / mission / "tasks" / f"{wp}.md")
        if self.legacy:
            return Workspace(str(root / ".worktrees" / f"{mission}-{wp}"), prompt)
        lane = self.lane_ids[wp]
        if lane == PLANNING_LANE:
            folder = root / ".worktrees" / f"{mission}-planning"
            return Workspace(str(folder), prompt, lane, f"{mission}-planning", self.target, self.target)
        return Workspace(
            path=str(root / ".worktrees" / f"{mission}-{lane}"),
            prompt_path=prompt,
            lane_id=lane,
            branch=f"kitty/mission-{mission}-{lane}",
            base_ref=f"kitty/mission-{mission}",
        )

    def _start(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> Workspace:
        call = "start-implementation"
        _check_policy(call, policy)
        workspace = self._workspace(call, mission, wp)
        lane = self.lanes[wp]
        unmet = self._unmet(wp) if lane in (Lane.PLANNED, Lane.CLAIMED) else ()
        if unmet:
            words = (
                f"dependencies_not_satisfied: {wp} depends on {', '.join(unmet)}; "
                "all dependencies must be approved or done before implementation can start"
            )
            raise HostRefusal(
                call, "DEPENDENCIES_NOT_SATISFIED", words, {"unsatisfied_dependencies": list(unmet)}
            )
        if not self.legacy and self.is_dirty(wp):
            words = (
                f"Lane {workspace.lane_id} worktree at {workspace.path} has uncommitted changes. "
                "Commit or stash before starting the next WP."
            )
            raise HostRefusal(call, "LANE_ALLOCATION_FAILED", words, {"reason": words})
        if lane not in (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS):
            raise HostRefusal(
                call, "TRANSITION_REJECTED", f"WP {wp} is in '{lane}', cannot start implementation"
            )
        holder = self._holders.get(wp, actor)
        if lane is not Lane.PLANNED and holder != actor:
            raise HostRefusal(
                call,
                "WP_ALREADY_CLAIMED",
                f"WP {wp} is already claimed for implementation by '{holder}'",
                {"claimed_by": holder, "requesting_actor": actor},
            )
        if lane is Lane.PLANNED:
            self._move(wp, Transition(wp, lane, Lane.CLAIMED, actor, policy=policy))
        if lane is not Lane.IN_PROGRESS:
            self._move(wp, Transition(wp, Lane.CLAIMED, Lane.IN_PROGRESS, actor, policy=policy))
        return workspace

    def _review(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> None:
        call = "start-review"
        _check_policy(call, policy)
        self._known(call, mission, wp)
        lane = self.lanes[wp]
        if lane is Lane.IN_REVIEW:
            return
        if lane is not Lane.FOR_REVIEW:
            raise HostRefusal(call, "TRANSITION_REJECTED", f"WP {wp} is in '{lane}', cannot start review")
        self._move(wp, Transition(wp, lane, Lane.IN_REVIEW, actor, policy=policy))

    def _transition(
        self, mission: str, wp: str, asked: lane_rules.Asked, policy: PolicyMetadata | None
    ) -> None:
        call = "transition"
        if policy is not None:
            _check_policy(call, policy)
        elif asked.to in lane_rules.NEED_POLICY:
            words = f"--policy is required when transitioning to '{asked.to}'"
            raise HostRefusal(call, "POLICY_METADATA_REQUIRED", words)
        if error := lane_rules.usage_error(asked.review):
            raise HostRefusal(call, "USAGE_ERROR", error)
        workspace = self._workspace(call, mission, wp)
        gated = asked.to is Lane.FOR_REVIEW and not self.legacy and not asked.force
        if gated and not self.has_commit(wp):
            words = (
                f"{wp} cannot move to for_review: no implementation commit on lane {workspace.lane_id} "
                f"({workspace.branch}) beyond {workspace.base_ref}. Commit the work in the lane worktree "
                "first, or pass --force if there is genuinely nothing to commit."
            )
            raise HostRefusal(call, "TRANSITION_REJECTED", words, {"lane_id": workspace.lane_id})
        lane = self.lanes[wp]
        if words := lane_rules.objection(lane, asked):
            raise HostRefusal(call, "TRANSITION_REJECTED", words)
        self._move(
            wp,
            Transition(
                wp=wp,
                from_lane=lane,
                to_lane=asked.to,
                actor=asked.actor,
                note=asked.note,
                review=asked.review,
                policy=policy,
            ),
        )

    def _accept(self, mission: str, actor: str) -> None:
        self._known("accept-mission", mission)
        open_wps = [wp for wp, lane in self.lanes.items() if not lane.complete]
        if open_wps:
            words = f"Mission has {len(open_wps)} incomplete WP(s)"
            raise HostRefusal("accept-mission", "MISSION_NOT_READY", words, {"incomplete_wps": open_wps})
        self.accepted_by = actor

    def _merge(self, mission: str) -> None:
        self._known("merge-mission", mission)
        if self.merged:
            raise HostRefusal("merge-mission", "PREFLIGHT_FAILED", "Lane branch does not exist")
        self.merged = True
        for wp, lane in self.lanes.items():
            if lane is Lane.APPROVED:
                self._move(wp, Transition(wp, lane, Lane.DONE, "merge"))

    def _tick(self, mission: str, wp: str, ids: Sequence[str]) -> None:
        call = "mark-status"
        self._known(call, mission, wp)
        known = {task for tasks in self.subtasks.values() for task in tasks}
        self.ticked.update(known.intersection(ids))
        missing = [task for task in ids if task not in known]
        if missing:
            words = f"no such subtasks in tasks.md: {', '.join(missing)}"
            raise HostRefusal(call, "SUBTASKS_NOT_FOUND", words, {"not_found": missing})

    def _move(self, wp: str, transition: Transition) -> None:
        self.lanes[wp] = transition.to_lane
        self._holders[wp] = transition.actor
        self.events.append(transition)
        if transition.to_lane is Lane.CANCELED and transition.note.strip():
            self.canceled_for_a_reason.add(wp)


def _check_policy(call: str, policy: PolicyMetadata) -> None:
    if error := lane_rules.policy_error(policy):
        raise HostRefusal(call, "POLICY_VALIDATION_FAILED", error)
