"""Performs one command of one work package and says in an event what happened.

Every command can be performed again after a crash. Refusals and lost replies become events with the lane
read after them; only what is broken for the whole run is an exception.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import anyio

from spec_kitty_orchestrator.core import commands, events, people
from spec_kitty_orchestrator.core.approval import alone, approved, targets
from spec_kitty_orchestrator.core.bounds import within_bounds
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Before,
    Lane,
    Outcome,
    PolicyMetadata,
    Rescue,
    Role,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.roles import last_agent, next_agent
from spec_kitty_orchestrator.core.transitions import why_by_hand
from spec_kitty_orchestrator.core.verdict import read_verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver import approval
from spec_kitty_orchestrator.driver import people as by_people
from spec_kitty_orchestrator.driver.attempts import Opener, changes, is_untouched
from spec_kitty_orchestrator.driver.gates import prepare, run_gates
from spec_kitty_orchestrator.driver.mission import HostCalls, Mission, refusal_of
from spec_kitty_orchestrator.errors import (
    HostError,
    HostMissing,
    HostNoReply,
    HostRefusal,
    WorkspaceError,
    WorkspaceMissing,
)
from spec_kitty_orchestrator.ports import (
    AgentRunner,
    CommitRefusal,
    Host,
    Workspaces,
)
from spec_kitty_orchestrator.ports.gates import Gates

__all__ = ["Performer"]


@dataclass(frozen=True)
class Performer:
    """The world as one work package sees it.

    Attributes:
        in_force: returns the policy of now.
        tell: takes an event that happens in the middle of a command.
        tick_command: how an implementer calls the host to tick subtasks: the executable, absolute.
        new_id: makes attempt ids, unguessable and unique.
        gates: None where there are none to run.
        setup: the same of what a new worktree needs.
        wps: returns every work package as it is now.
        places: where the work of others is, as far as it was asked for.
        calls: those to the host that are under way.
    """

    slug: str
    actor: str
    in_force: Callable[[], Policy]
    host: Host
    agents: AgentRunner
    workspaces: Workspaces
    mission: Mission
    tell: Callable[[str, events.Event], Awaitable[object]]
    prompts: Prompts
    tick_command: str
    new_id: Callable[[], str]
    gates: Gates | None = None
    setup: Gates | None = None
    wps: Callable[[], Mapping[str, WorkPackage]] = field(default_factory=lambda: dict)
    places: dict[str, Workspace] = field(default_factory=dict)
    calls: HostCalls = field(default_factory=HostCalls)

    @property
    def policy(self) -> Policy:
        """What decisions depend on, as it is now."""
        return self.in_force()

    async def perform(self, wp: WorkPackage, command: commands.Command) -> events.Event:
        """Do what `command` says.

        Raises:
            OrchestratorError: nothing can go on: the host is missing, the journal or a bug of ours.
        """
        try:
            match command:
                case commands.Resolve():
                    return await self._resolve(wp)
                case commands.Claim():
                    return await self._claim(wp)
                case commands.OpenAttempt():
                    return await self._opener.open(wp, command)
                case commands.RunAgent():
                    return await self._run(wp, command)
                case commands.Commit():
                    return await self._commit(wp, command)
                case commands.RunGates():
                    return await run_gates(self.gates, self.workspaces, wp, command, self._gate_begun(wp))
                case commands.PrepareWorkspace():
                    known = {one.work.set_up for one in self.wps().values()}
                    began = self._gate_begun(wp)
                    return await prepare(
                        self.setup, self.policy.setup, self.workspaces, wp, command, known, began
                    )
                case commands.Submit():
                    return await self._submit(wp, command)
                case commands.TickSubtasks():
                    return await self._tick(wp, command)
                case commands.ClaimReview():
                    return await self._claim_review(wp)
                case commands.Record():
                    return await self._record(wp, command)
                case commands.Park():
                    return await self._park(wp, command)
                case commands.Unblock():
                    return await self._unblock(wp, command)
                case _:
                    raise AssertionError(f"{command} is for the engine")
        except WorkspaceError as error:
            return events.WorkspaceFailed(str(error), missing=isinstance(error, WorkspaceMissing))

    async def _told(self, wp: WorkPackage, call: Awaitable[object], lane: Lane) -> events.HostRefused | None:
        """Await a mutation; None if the host acknowledged it, else what it said and the lane found after."""
        refused = await self._refusal(wp, call)
        if refused is None:
            self.mission.note(wp.id, lane)
            return None
        found = (await self.mission.refresh()).lanes.get(wp.id, Lane.CANCELED)
        return replace(refused, lane=found)

    async def _refusal(self, wp: WorkPackage, call: Awaitable[object]) -> events.HostRefused | None:
        """Await a call; None if the host did what was asked, else what it said."""
        try:
            await self.calls.make(call)
        except (HostRefusal, HostNoReply, HostMissing) as error:
            return refusal_of(error, wp.lane)
        return None

    async def _resolve(self, wp: WorkPackage) -> events.Event:
        found: list[Workspace] = []

        async def ask() -> None:
            found.append(await self.host.resolve_workspace(self.slug, wp.id))

        refused = await self._refusal(wp, ask())
        return refused or events.WorkspaceResolved(found[0])

    async def _claim(self, wp: WorkPackage) -> events.Event:
        # A claim of ours whose answer was lost is not adopted work: nobody else can have begun it.
        adopted = wp.lane is not Lane.PLANNED and not wp.work.ours and not wp.work.base
        first = not wp.work.base
        wps = await self._located() if first else {}
        if first and (wrong := await approval.unreviewed_below(self.workspaces, wp, wps)):
            return events.WorkspaceFailed(f"it is not begun: {wrong}")
        refused: events.Event | None
        policy = self.agents.policy(next_agent(wp, Role.IMPLEMENT, self.policy), Role.IMPLEMENT)
        if people.tells_host(wp):
            call = by_people.claim(self.host, self.slug, wp, self.actor, policy)
            refused = await self._told(wp, call, Lane.IN_PROGRESS)
        elif self._workspace(wp).planning:
            refused = await self._claim_planning(wp, policy)
        else:
            start = self.host.start_implementation(self.slug, wp.id, self.actor, policy)
            refused = await self._told(wp, start, Lane.IN_PROGRESS)
        if refused is not None:
            return refused
        workspace = self._workspace(wp)
        await self.workspaces.ensure(wp.id, workspace, wp.dependencies)
        if first:
            # The host does not bring planning artifacts to those who need them.
            await self.workspaces.bring(workspace, targets(wp, wps))
        state = await self.workspaces.state(workspace)
        workspace = replace(workspace, branch=workspace.branch or state.branch or None)
        wp = replace(wp, workspace=workspace)
        base = await self._where_adopted_work_begins(wp) if adopted else state.head
        wrong = await approval.strange_base(self.workspaces, wp, wps, base) if first else ""
        if wrong and not adopted and alone(wp, wps):
            # What somebody put on its branch before the claim is reviewed with it.
            base = await self.workspaces.fork_point(workspace)
            wrong = await approval.strange_base(self.workspaces, wp, wps, base)
        if wrong:
            return events.WorkspaceFailed(wrong)
        before = await self.workspaces.before(workspace) if base == state.head and not adopted else Before()
        return events.Claimed(workspace, base, before)

    async def _claim_planning(self, wp: WorkPackage, policy: PolicyMetadata) -> events.Event | None:
        """Tell the host that a planning artifact is begun; None if it knows.

        By `start-implementation`, and on the way through `claimed`, the host would check out `main` for it.
        """
        workspace, here = self._workspace(wp), await self.workspaces.primary_branch()
        if wrong := why_by_hand(workspace, wp.lane, ours=True, here=here):
            return events.WorkspaceFailed(wrong)
        if wp.lane is Lane.IN_PROGRESS:
            return None
        if moved := await self._moved(wp, wp.lane):
            return moved
        note = f"a planning artifact, worked on in {workspace.path} and merged into {workspace.target}"
        call = self.host.transition(
            self.slug, wp.id, Lane.IN_PROGRESS, self.actor, policy=policy, note=note, force=True
        )
        return await self._told(wp, call, Lane.IN_PROGRESS)

    async def _moved(self, wp: WorkPackage, since: Lane) -> events.HostRefused | None:
        """Say that somebody moved it: who forces a move is asked nothing by the host."""
        lane = (await self.mission.refresh()).lanes.get(wp.id, Lane.CANCELED)
        taken = events.HostRefused("transition", "WP_ALREADY_CLAIMED", f"it is {lane} meanwhile", lane)
        return None if lane is since else taken

    async def _located(self) -> Mapping[str, WorkPackage]:
        """Return every work package, with where the work of others is as far as the host tells."""
        wps = self.wps()
        with suppress(HostRefusal, HostNoReply, HostMissing):
            found = await approval.locate(self.host, self.slug, wps.values(), self.places)
            return {one.id: one for one in found}
        return wps

    async def _run(self, wp: WorkPackage, command: commands.RunAgent) -> events.Event:
        attempt = command.attempt
        if attempt.role is Role.IMPLEMENT:
            report = within_bounds(await self.agents.run(attempt))
            untouched = report.outcome is not Outcome.OK and await is_untouched(self.workspaces, wp, attempt)
            return events.AgentExited(attempt.id, report, untouched=untouched)
        refused: events.HostRefused | None = None

        async def tell() -> None:
            nonlocal refused
            try:
                refused = await self._told_of_review(wp)
            except HostError as error:
                # A host that is broken is found out once more when the review is over; the reviewer goes on.
                refused = events.HostRefused("start-review", events.NO_REPLY, str(error), wp.lane)

        reports: list[AgentReport] = []
        broken: list[WorkspaceError] = []
        # The host takes seconds to note that the review has begun; the reviewer need not wait for that.
        async with anyio.create_task_group() as tasks:
            if not wp.review.claimed:
                tasks.start_soon(tell)
            try:
                reports.append(within_bounds(await self.agents.run(attempt)))
            except WorkspaceError as error:
                broken.append(error)
        if broken:
            raise broken[0]
        report, changed = reports[0], await changes(self.workspaces, wp, attempt)
        verdict = None
        if report.outcome is Outcome.OK:
            verdict = read_verdict(
                report.text, attempt_id=attempt.id, head=attempt.head, reviewer=attempt.agent
            )
        return events.AgentExited(
            attempt.id, report, changed.differed, refused, verdict, rescued=changed.rescued
        )

    async def _told_of_review(self, wp: WorkPackage) -> events.HostRefused | None:
        policy = self.agents.policy(next_agent(wp, Role.REVIEW, self.policy), Role.REVIEW)
        call = self.host.start_review(
            self.slug, wp.id, *by_people.reviewer(wp.approved_by, self.actor, policy)
        )
        return await self._told(wp, call, Lane.IN_REVIEW)

    async def _commit(self, wp: WorkPackage, command: commands.Commit) -> events.Event:
        found = await self.workspaces.commit(
            wp.id, self._workspace(wp), wp.work.base, command.message, command.empty_reason, wp.work.before
        )
        return (
            events.CommitRefused(found.message, found.tree)
            if isinstance(found, CommitRefusal)
            else events.Committed(found)
        )

    def _gate_begun(self, wp: WorkPackage) -> Callable[[events.GateBegun], Awaitable[None]]:
        async def begun(gate: events.GateBegun) -> None:
            await self.tell(wp.id, gate)

        return begun

    async def _submit(self, wp: WorkPackage, command: commands.Submit) -> events.Event:
        policy, planning = self._metadata(wp, Role.IMPLEMENT), self._workspace(wp).planning
        if wp.lane is Lane.BLOCKED:
            # A person approved it.
            back = await self._unblock(wp, commands.Unblock((Lane.IN_PROGRESS,), wp.note))
            if isinstance(back, events.HostRefused):
                return back
        if planning and (moved := await self._moved(wp, Lane.IN_PROGRESS)):
            return moved
        # The host looks for a planning artifact's commits on a branch that they do not belong on.
        call = self.host.transition(
            self.slug, wp.id, Lane.FOR_REVIEW, self.actor, policy=policy, note=command.note, force=planning
        )
        return await self._told(wp, call, Lane.FOR_REVIEW) or events.Submitted()

    async def _tick(self, wp: WorkPackage, command: commands.TickSubtasks) -> events.Event:
        task = await self.workspaces.task(self._workspace(wp))
        # A report may name what it likes; other work packages' subtasks are not its to tick.
        ids = tuple(one for one in command.ids if re.search(rf"(?<![\w.-]){re.escape(one)}(?![\w-])", task))
        if not ids:
            named = ", ".join(command.ids)
            return events.HostRefused(
                "mark-status", "SUBTASKS_NOT_FOUND", f"{wp.id} has no subtasks {named}", wp.lane
            )
        call = self.host.tick_subtasks(self.slug, wp.id, ids)
        return await self._told(wp, call, wp.lane) or events.SubtasksTicked(ids)

    async def _claim_review(self, wp: WorkPackage) -> events.Event:
        workspace = self._workspace(wp)
        # A lane is moved only where there is something to review.
        await self.workspaces.ensure(wp.id, workspace, wp.dependencies)
        base = wp.work.base or await self._where_adopted_work_begins(wp)
        refused = await self._told_of_review(wp)
        if refused is not None:
            return refused
        return events.ReviewClaimed(base, (await self.workspaces.state(workspace)).head)

    async def _where_adopted_work_begins(self, wp: WorkPackage) -> str:
        """Return the last commit on its branch that we know to be another's approved work, or its start."""
        workspace = self._workspace(wp)
        for one in approved(self.wps().values()):
            if one.heads and one.branch == workspace.branch:
                tip = await self.workspaces.tip(replace(one, found=()), one.heads, worktree=False)
                if tip.last and tip.last not in tip.lacks:
                    return tip.last
        return await self.workspaces.fork_point(workspace)

    async def _record(self, wp: WorkPackage, command: commands.Record) -> events.Event:
        verdict = command.verdict
        state = await self.workspaces.state(self._workspace(wp))
        if state.head != verdict.head:
            # The verdict is bound to a commit that is no longer what the branch holds.
            return events.ReviewClaimed(wp.work.base, state.head)
        rescued = Rescue()
        if command.to.complete:
            # The host gives the worktree to the next work package of its lane only if it is clean.
            rescued = await self.workspaces.rescue(wp.id, self._workspace(wp), f"left-{len(wp.attempts)}")
            if self._workspace(wp).planning:
                async with self.calls.none():
                    await self.workspaces.deliver(wp.id, self._workspace(wp), verdict.head)
        actor, policy = self.actor, self._metadata(wp, Role.REVIEW)
        call = by_people.record(self.host, self.slug, wp.id, command, actor, policy)
        return await self._told(wp, call, command.to) or events.Recorded(command.to, rescued)

    async def _park(self, wp: WorkPackage, command: commands.Park) -> events.Event:
        rescued = Rescue()
        if command.rescue and wp.workspace is not None and wp.work.base:
            rescued = await self.workspaces.rescue(wp.id, wp.workspace, f"parked-{len(wp.attempts)}")
        if not command.block:
            return events.Parked(wp.lane, rescued, command.reason)
        note = command.reason + (f"\n\nuncommitted work: {rescued}" if rescued else "")
        call = self.host.transition(
            self.slug, wp.id, Lane.BLOCKED, self.actor, policy=self._metadata(wp, Role.IMPLEMENT), note=note
        )
        refused = await self._told(wp, call, Lane.BLOCKED)
        if refused is not None and refused.lane is not Lane.BLOCKED:
            return refused
        return events.Parked(Lane.BLOCKED, rescued, command.reason)

    async def _unblock(self, wp: WorkPackage, command: commands.Unblock) -> events.Event:
        policy = self._metadata(wp, Role.IMPLEMENT)
        for lane in command.to:
            call = self.host.transition(self.slug, wp.id, lane, self.actor, policy=policy, note=command.note)
            if refused := await self._told(wp, call, lane):
                return refused
        return events.Unblocked(command.to[-1])

    @property
    def _opener(self) -> Opener:
        return Opener(
            self.slug,
            self.agents,
            self.workspaces,
            self.prompts,
            self.tick_command,
            self.new_id,
            self.policy.without_shell,
            self.policy.confined,
            self.wps,
        )

    def _workspace(self, wp: WorkPackage) -> Workspace:
        assert wp.workspace is not None
        return wp.workspace

    def _metadata(self, wp: WorkPackage, role: Role) -> PolicyMetadata:
        return self.agents.policy(last_agent(wp, role, self.policy), role)
