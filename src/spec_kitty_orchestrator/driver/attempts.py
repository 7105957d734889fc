"""Opens the next attempt of a work package: its prompt, and what the runner must know to start it."""

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from spec_kitty_orchestrator.core.commands import OpenAttempt
from spec_kitty_orchestrator.core.events import AttemptOpened, Event, NothingToReview, ReviewClaimed
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Rescue, Role, Workspace
from spec_kitty_orchestrator.core.prompts import (
    Prompts,
    elsewhere,
    implement_prompt,
    resumed_prompt,
    review_prompt,
)
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports import AgentRunner, AttemptRequest, Restored, Workspaces

__all__ = ["DIFF_LIMIT", "DIFF_LIMIT_WITHOUT_SHELL", "Opener", "changes", "is_untouched"]

DIFF_LIMIT = 60_000
"""Characters of a diff that a review prompt holds; the reviewer reads the rest in the workspace."""

DIFF_LIMIT_WITHOUT_SHELL = 240_000
"""The same for a reviewer that can see changes in its prompt only, and the rest as files without history."""

DELTA_LIMIT = 30_000
"""The same of what changed since the last rejection."""

STAT_LIMIT = 4_000


@dataclass(frozen=True)
class Opener:
    """Writes prompts of one mission.

    Attributes:
        tick_command: how an implementer calls the host to tick subtasks: the executable, absolute.
        new_id: makes attempt ids, unguessable and unique.
        without_shell: agents whose reviewer cannot run `git diff`.
        confined: whether the system confines agents.
        wps: returns every work package as it is now.
    """

    mission: str
    agents: AgentRunner
    workspaces: Workspaces
    prompts: Prompts
    tick_command: str
    new_id: Callable[[], str]
    without_shell: Collection[str] = ()
    confined: bool = False
    wps: Callable[[], Mapping[str, WorkPackage]] = dict

    async def open(self, wp: WorkPackage, command: OpenAttempt) -> Event:
        """Open an attempt, or say why its review cannot be asked for. Raises `WorkspaceError`."""
        workspace = wp.workspace
        assert workspace is not None
        await self.workspaces.ensure(wp.id, workspace, wp.dependencies)
        task = await self.workspaces.task(workspace) + elsewhere(wp, self.wps())
        request = AttemptRequest(
            self.new_id(),
            self.mission,
            wp.id,
            command.number,
            command.role,
            command.agent,
            workspace,
            prompt="",
            max_cost_usd=command.max_cost_usd,
        )
        if command.role is Role.IMPLEMENT:
            return await self._implementation(wp, replace(request, session=command.session), task)
        return await self._review(wp, request, task)

    async def _implementation(self, wp: WorkPackage, request: AttemptRequest, task: str) -> Event:
        rescued = Rescue()
        if wp.outcomes and wp.outcomes[-1] is not Outcome.OK:
            # The next attempt works on in the same tree, and may undo what the last one left there.
            rescued = await self.workspaces.keep(wp.id, request.workspace, f"before-{request.number}")
        head = (await self.workspaces.state(request.workspace)).head
        request = replace(request, head=head)
        if request.session and self.prompts.resumed:
            opened = await self.agents.open(replace(request, prompt=await self._resumed(wp, request)))
            if opened.session:
                return AttemptOpened(opened, rescued)
        prompt = implement_prompt(
            self.prompts,
            wp,
            mission=self.mission,
            attempt_id=request.id,
            task=task,
            tick=self._tick_help(),
            confined=self.confined,
            left=bool(rescued),
        )
        return AttemptOpened(await self.agents.open(replace(request, prompt=prompt)), rescued)

    async def _resumed(self, wp: WorkPackage, request: AttemptRequest) -> str:
        stat, _ = await self.workspaces.diff(request.workspace, wp.work.base, request.head, STAT_LIMIT)
        return resumed_prompt(self.prompts, wp, mission=self.mission, attempt_id=request.id, stat=stat)

    async def _review(self, wp: WorkPackage, request: AttemptRequest, task: str) -> Event:
        workspace = request.workspace
        state = await self.workspaces.state(workspace)
        if state.head != wp.work.head:
            # Somebody committed after the review was claimed: the range under review is a new one.
            return ReviewClaimed(wp.work.base, state.head)
        shell = request.agent not in self.without_shell
        limit = DIFF_LIMIT if shell else DIFF_LIMIT_WITHOUT_SHELL
        stat, diff = await self.workspaces.diff(workspace, wp.work.base, wp.work.head, limit)
        if not stat and not wp.work.report.no_change_reason:
            return NothingToReview(wp.work.head)
        prompt = review_prompt(
            self.prompts,
            wp,
            mission=self.mission,
            attempt_id=request.id,
            task=task,
            stat=stat,
            diff=diff,
            delta=await self._delta(wp, workspace),
            shell=shell,
            confined=self.confined,
        )
        tree = await self.workspaces.fingerprint(workspace)
        return AttemptOpened(
            await self.agents.open(replace(request, prompt=prompt, head=wp.work.head, tree=tree))
        )

    async def _delta(self, wp: WorkPackage, workspace: Workspace) -> str:
        if not wp.review.rejected or wp.review.rejected[-1].head == wp.work.head:
            return ""
        try:
            return (
                await self.workspaces.diff(workspace, wp.review.rejected[-1].head, wp.work.head, DELTA_LIMIT)
            )[1]
        except WorkspaceError:
            # A commit that was rewritten can be gone; the whole range is there to judge by.
            return ""

    def _tick_help(self) -> str:
        if self.confined or not self.tick_command:
            return ""
        example = (
            f"{shlex.quote(self.tick_command)} agent tasks mark-status T001 --status done "
            f"--mission {shlex.quote(self.mission)}"
        )
        return f"Tick each finished subtask, or several at once: `{example}`. Should it fail, go on."


async def is_untouched(workspaces: Workspaces, wp: WorkPackage, attempt: Attempt) -> bool:
    """Tell whether the workspace surely is as an implementer found it, which makes it no author."""
    assert wp.workspace is not None
    try:
        found = await workspaces.state(wp.workspace)
    except WorkspaceError:
        return False
    return not found.dirty and bool(attempt.head) and found.head == attempt.head


async def changes(workspaces: Workspaces, wp: WorkPackage, attempt: Attempt) -> Restored:
    """Return why a review is void: what it changed, or that nobody can tell; nothing if it is not."""
    assert wp.workspace is not None
    try:
        found = await workspaces.restore(wp.id, wp.workspace, attempt.tree, attempt.id)
    except WorkspaceError as error:
        return Restored((f"whether it changed the workspace cannot be told: {error}",))
    return Restored(tuple(f"it changed {one}" for one in found.differed), found.rescued)
