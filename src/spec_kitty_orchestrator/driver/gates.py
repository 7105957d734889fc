"""One turn of the gates: on the commit that they are for, and without a trace in the worktree.

What a new worktree needs is run like them, but what it leaves in ignored files stays: that is what it is for.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from spec_kitty_orchestrator.core.commands import PrepareWorkspace, RunGates
from spec_kitty_orchestrator.core.events import (
    Event,
    GateBegun,
    GateBroken,
    GateFailed,
    GatesPassed,
    HeadMoved,
    SetUp,
)
from spec_kitty_orchestrator.core.model import Rescue, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.ports import Workspaces
from spec_kitty_orchestrator.ports.gates import Gates

__all__ = ["prepare", "run_gates"]

MOST_NAMED = 10
"""Paths in a reason; who needs more looks at the worktree."""
LAST_LINES = 10
"""Of the output of a setup that failed, for people."""


async def run_gates(
    gates: Gates | None,
    workspaces: Workspaces,
    wp: WorkPackage,
    command: RunGates,
    begun: Callable[[GateBegun], Awaitable[None]],
) -> Event:
    """Run the gates and put the workspace back as it was before them.

    What a gate leaves (build output) must neither get into the next commit nor make the worktree dirty for
    the host; `begun` is told of each gate before it begins. Raises `WorkspaceError`.
    """
    workspace = wp.workspace
    assert workspace is not None
    if gates is None:
        return GatesPassed(())
    await workspaces.ensure(wp.id, workspace, wp.dependencies)
    name = f"gates-{command.number}-{command.turn}"
    before = await workspaces.state(workspace)
    here = before.head == command.head
    standing = await gates.settle(wp.id, command.head if here else "", command.turn, wp.work.gates_begun)
    if not here:
        # What a gate was about to leave is not the work of whoever moved the branch.
        left = await workspaces.rescue(wp.id, workspace, name) if standing.stopped else Rescue()
        return HeadMoved(before.head, left)
    tree, left = standing.tree, Rescue()
    if not standing.running:
        if tree or standing.stopped:
            left = await _put_back(workspaces, wp.id, workspace, tree, name)
        found = await workspaces.uncommitted(workspace)
        if found:
            return GateBroken("", f"uncommitted changes: {_listed(found)}", rescued=left)
        tree = await workspaces.fingerprint(workspace)

    async def moved() -> str:
        after = await workspaces.state(workspace)
        if (after.head, after.branch) == (before.head, before.branch):
            return ""
        return f"it moved the branch from {before.head} to {after.head}, so it is no check of a commit"

    report = await gates.run(
        wp.id,
        workspace,
        command.head,
        command.number,
        command.turn,
        tree,
        wp.work.gates_begun,
        moved,
        begun,
    )
    left += (await workspaces.restore(wp.id, workspace, report.tree, name)).rescued
    return replace(report.event, rescued=left) if left else report.event


async def prepare(
    setup: Gates | None,
    wanted: Sequence[Gate],
    workspaces: Workspaces,
    wp: WorkPackage,
    command: PrepareWorkspace,
    done: Collection[str],
    begun: Callable[[GateBegun], Awaitable[None]],
) -> Event:
    """Run what a new worktree needs, unless it is among those where that is `done`.

    Git sees the worktree as it was before; ignored files stay. Raises `WorkspaceError`.
    """
    workspace = wp.workspace
    assert workspace is not None
    await workspaces.ensure(wp.id, workspace, wp.dependencies)
    before = await workspaces.state(workspace)
    lines = hashlib.sha256(json.dumps([one.command for one in wanted]).encode("utf-8", "replace")).hexdigest()
    mark = f"{before.mark}:{lines[:12]}"
    if setup is None or not before.mark or mark in done:
        return SetUp(mark)
    known = [one for one in wp.work.gates_begun if one.mark == mark]
    if elsewhere := [one for one in wp.work.gates_begun if one.mark != mark]:
        await setup.settle(wp.id, "", command.turn, elsewhere)
    standing = await setup.settle(wp.id, before.head, command.turn, known)
    tree = standing.tree or await workspaces.fingerprint(workspace)
    # What nobody has worked in yet holds nothing of an agent's.
    there = (await workspaces.before(workspace)).ignored if wp.attempts else ()

    async def moved() -> str:
        after = await workspaces.state(workspace)
        return "" if (after.head, after.branch) == (before.head, before.branch) else "it moved the branch"

    async def begins(one: GateBegun) -> None:
        await begun(replace(one, mark=mark))

    report = await setup.run(
        wp.id, workspace, before.head, command.number, command.turn, tree, known, moved, begins
    )
    name = f"setup-{command.number}-{command.turn}"
    left = (await workspaces.restore(wp.id, workspace, report.tree, name)).rescued
    shown = {one.name: one.line for one in wanted}
    match report.event:
        case GatesPassed(results=results):
            ignored = (await workspaces.before(workspace)).ignored
            made = tuple(one for one in ignored if one not in there)
            lasting = mark if await _stays(workspaces, workspace) else ""
            return SetUp(lasting, results, rescued=left, ignored=made)
        case GateFailed(result=result, tail=tail):
            end = "\n".join(tail.strip().splitlines()[-LAST_LINES:])
            reason = f"`{shown.get(result.name, result.name)}` failed; see {result.log}"
            return SetUp(mark, (), reason, end, left)
        case GateBroken(name=gate, reason=why, log=log):
            return SetUp(mark, (), f"`{shown.get(gate, gate)}` cannot run: {why}; see {log}", "", left)
        case stopped:
            return replace(stopped, rescued=left)


async def _stays(workspaces: Workspaces, workspace: Workspace) -> bool:
    """Tell whether git ignores all that was made; what it sees and never commits is cleaned away later."""
    seen = set((await workspaces.state(workspace)).dirty)
    return not seen or seen <= set(await workspaces.uncommitted(workspace))


async def _put_back(workspaces: Workspaces, wp_id: str, workspace: Workspace, tree: str, name: str) -> Rescue:
    """Undo what gates left that nobody waited for."""
    if tree:
        return (await workspaces.restore(wp_id, workspace, tree, name)).rescued
    return await workspaces.rescue(wp_id, workspace, name)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
