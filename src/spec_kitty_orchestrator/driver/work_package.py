"""Performs one command of one work package and says in an event what happened.

Every command can be performed again after a crash. Refusals and lost replies become events with the lane
read after them; only what is broken for the whole run is an exception.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Commit,
    OpenAttempt,
    Park,
    Record,
    RunAgent,
    RunGates,
    Submit,
    TickSubtasks,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    AgentExited,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    HostRefused,
    Parked,
    Recorded,
    ReviewClaimed,
    Submitted,
    SubtasksTicked,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.model import (
    Lane,
    Policy,
    PolicyMetadata,
    Role,
    WorkPackage,
    Workspace,
)
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.driver.gates import run_gates
from spec_kitty_orchestrator.driver.mission import MissionView
from spec_kitty_orchestrator.driver.opening import Opener
from spec_kitty_orchestrator.errors import HostError, HostNoReply, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import (
    AgentRunner,
    CommitRefusal,
    Gates,
    Host,
    ReviewResult,
    Workspaces,
)


@dataclass(frozen=True)
class Performer:
    """The world as one work package sees it.

    Attributes:
        tick_command: how an implementer calls the host to tick subtasks: the executable, absolute.
        new_id: makes attempt ids, unguessable and unique.
        gates: None where there are none to run.
    """

    mission: str
    actor: str
    policy: Policy
    host: Host
    agents: AgentRunner
    workspaces: Workspaces
    view: MissionView
    prompts: Prompts
    tick_command: str
    new_id: Callable[[], str]
    gates: Gates | None = None

    async def perform(self, wp: WorkPackage, command: Command) -> Event:
        """Do what `command` says.

        Raises:
            OrchestratorError: nothing can go on: the host is missing, the journal or a bug of ours.
        """
        try:
            match command:
                case Claim():
                    return await self._claim(wp)
                case OpenAttempt():
                    return await self._opener.open(wp, command)
                case RunAgent():
                    return await self._run(wp, command)
                case Commit():
                    return await self._commit(wp, command)
                case RunGates():
                    return await run_gates(self.gates, self.workspaces, wp, command)
                case Submit():
                    return await self._submit(wp, command)
                case TickSubtasks():
                    return await self._tick(wp, command)
                case ClaimReview():
                    return await self._claim_review(wp)
                case Record():
                    return await self._record(wp, command)
                case Park():
                    return await self._park(wp, command)
                case _:
                    raise AssertionError(f"{command} is for the engine")
        except WorkspaceError as error:
            return WorkspaceFailed(str(error))

    async def _told(self, wp: WorkPackage, call: Awaitable[object], lane: Lane) -> HostRefused | None:
        """Await a mutation; None if the host acknowledged it, else what it said and the lane found after."""
        try:
            await call
        except HostRefusal as refusal:
            holder = refusal.data.get("claimed_by")
            code, message, name = refusal.code, refusal.message, refusal.call
        except HostNoReply as lost:
            holder, code, message, name = None, NO_REPLY, lost.message, lost.call
        else:
            self.view.note(wp.id, lane)
            return None
        await self.view.refresh()
        found = self.view.lanes.get(wp.id, Lane.CANCELED)
        return HostRefused(name, code, message, found, holder if isinstance(holder, str) else "")

    async def _claim(self, wp: WorkPackage) -> Event:
        # A claim of ours whose answer was lost is not adopted work: nobody else can have begun it.
        adopted = wp.lane is not Lane.PLANNED and not wp.ours and not wp.base
        policy = self.agents.policy(wp.agent(Role.IMPLEMENT, self.policy), Role.IMPLEMENT)
        refused = await self._told(
            wp, self.host.start_implementation(self.mission, wp.id, self.actor, policy), Lane.IN_PROGRESS
        )
        if refused is not None:
            return refused
        workspace = self._workspace(wp)
        await self.workspaces.ensure(wp.id, workspace, wp.dependencies)
        state = await self.workspaces.state(workspace)
        workspace = replace(workspace, branch=workspace.branch or state.branch or None)
        head = await self.workspaces.fork_point(workspace) if adopted else state.head
        return Claimed(workspace, head)

    async def _run(self, wp: WorkPackage, command: RunAgent) -> Event:
        attempt = command.attempt
        if attempt.role is Role.IMPLEMENT:
            return AgentExited(attempt.id, await self.agents.run(attempt))
        refused: HostRefused | None = None
        broken: WorkspaceError | None = None

        async def tell() -> None:
            nonlocal refused
            try:
                refused = await self._told_of_review(wp)
            except HostError as error:
                # A host that is broken is found out once more when the review is over; the reviewer goes on.
                refused = HostRefused("start-review", NO_REPLY, str(error), wp.lane)

        # The host takes seconds to note that the review has begun; the reviewer need not wait for that.
        async with anyio.create_task_group() as tg:
            if not wp.review_claimed:
                tg.start_soon(tell)
            try:
                report = await self.agents.run(attempt)
            except WorkspaceError as error:
                broken = error
        if broken is not None:
            raise broken
        tampered = await self.workspaces.restore(wp.id, self._workspace(wp), attempt.tree, attempt.id)
        return AgentExited(attempt.id, report, tampered, refused)

    async def _told_of_review(self, wp: WorkPackage) -> HostRefused | None:
        policy = self.agents.policy(wp.agent(Role.REVIEW, self.policy), Role.REVIEW)
        call = self.host.start_review(self.mission, wp.id, self.actor, policy)
        return await self._told(wp, call, Lane.IN_REVIEW)

    async def _commit(self, wp: WorkPackage, command: Commit) -> Event:
        found = await self.workspaces.commit(
            wp.id, self._workspace(wp), wp.base, command.message, command.empty_reason
        )
        return CommitRefused(found.message) if isinstance(found, CommitRefusal) else Committed(found)

    async def _submit(self, wp: WorkPackage, command: Submit) -> Event:
        policy = self._metadata(wp, Role.IMPLEMENT)
        call = self.host.transition(
            self.mission, wp.id, Lane.FOR_REVIEW, self.actor, policy=policy, note=command.note
        )
        return await self._told(wp, call, Lane.FOR_REVIEW) or Submitted()

    async def _tick(self, wp: WorkPackage, command: TickSubtasks) -> Event:
        task = await self.workspaces.task(self._workspace(wp))
        # A report may name what it likes; other work packages' subtasks are not its to tick.
        ids = tuple(one for one in command.ids if re.search(rf"(?<![\w.-]){re.escape(one)}(?![\w-])", task))
        if not ids:
            named = ", ".join(command.ids)
            return HostRefused(
                "mark-status", "SUBTASKS_NOT_FOUND", f"{wp.id} has no subtasks {named}", wp.lane
            )
        call = self.host.tick_subtasks(self.mission, wp.id, ids)
        return await self._told(wp, call, wp.lane) or SubtasksTicked(ids)

    async def _claim_review(self, wp: WorkPackage) -> Event:
        refused = await self._told_of_review(wp)
        if refused is not None:
            return refused
        workspace = self._workspace(wp)
        await self.workspaces.ensure(wp.id, workspace, wp.dependencies)
        base = wp.base or await self.workspaces.fork_point(workspace)
        return ReviewClaimed(base, (await self.workspaces.state(workspace)).head)

    async def _record(self, wp: WorkPackage, command: Record) -> Event:
        verdict = command.verdict
        state = await self.workspaces.state(self._workspace(wp))
        if state.head != verdict.head:
            # The verdict is bound to a commit that is no longer what the branch holds.
            return ReviewClaimed(wp.base, state.head)
        rescued = ""
        if command.to.complete:
            # The host gives the worktree to the next work package of its lane only if it is clean.
            rescued = await self.workspaces.rescue(wp.id, self._workspace(wp), f"left-{len(wp.attempts)}")
        review = ReviewResult(
            reviewer=verdict.reviewer,
            verdict=verdict.ruling.value,
            reference=f"{verdict.attempt_id}@{verdict.head}",
            summary=verdict.summary or verdict.ruling.value,
        )
        call = self.host.transition(
            self.mission,
            wp.id,
            command.to,
            self.actor,
            policy=self._metadata(wp, Role.REVIEW),
            note=command.note,
            review=review,
        )
        return await self._told(wp, call, command.to) or Recorded(command.to, rescued)

    async def _park(self, wp: WorkPackage, command: Park) -> Event:
        rescued = ""
        if wp.workspace is not None and wp.base:
            rescued = await self.workspaces.rescue(wp.id, wp.workspace, f"parked-{len(wp.attempts)}")
        if not command.block:
            return Parked(wp.lane, rescued)
        note = command.reason + (f"\n\nuncommitted work is saved under {rescued}" if rescued else "")
        call = self.host.transition(
            self.mission,
            wp.id,
            Lane.BLOCKED,
            self.actor,
            policy=self._metadata(wp, Role.IMPLEMENT),
            note=note,
        )
        return await self._told(wp, call, Lane.BLOCKED) or Parked(Lane.BLOCKED, rescued)

    @property
    def _opener(self) -> Opener:
        return Opener(
            self.mission,
            self.agents,
            self.workspaces,
            self.prompts,
            self.tick_command,
            self.new_id,
            self.policy.without_shell,
        )

    def _workspace(self, wp: WorkPackage) -> Workspace:
        assert wp.workspace is not None
        return wp.workspace

    def _metadata(self, wp: WorkPackage, role: Role) -> PolicyMetadata:
        return self.agents.policy(wp.last_agent(role, self.policy), role)
