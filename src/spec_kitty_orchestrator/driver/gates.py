"""One turn of the gates: on the commit that they are for, and without a trace in the worktree."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from spec_kitty_orchestrator.core.commands import RunGates
from spec_kitty_orchestrator.core.events import Event, GateBegun, GateBroken, GatesPassed, HeadMoved
from spec_kitty_orchestrator.core.model import Rescue, Workspace
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.ports import Gates, Workspaces

MOST_NAMED = 10
"""Paths in a reason; who needs more looks at the worktree."""


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


async def _put_back(workspaces: Workspaces, wp_id: str, workspace: Workspace, tree: str, name: str) -> Rescue:
    """Undo what gates left that nobody waited for."""
    if tree:
        return (await workspaces.restore(wp_id, workspace, tree, name)).rescued
    return await workspaces.rescue(wp_id, workspace, name)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
