"""One turn of the gates: on the commit that they are for, and without a trace in the worktree."""

from spec_kitty_orchestrator.core.commands import RunGates
from spec_kitty_orchestrator.core.events import (
    Event,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
)
from spec_kitty_orchestrator.core.model import WorkPackage
from spec_kitty_orchestrator.ports import Gates, Workspaces


async def run_gates(gates: Gates | None, workspaces: Workspaces, wp: WorkPackage, command: RunGates) -> Event:
    """Run the gates and put the workspace back as it was before them.

    What a gate leaves (build output) must neither get into the next commit nor make the worktree dirty for
    the host. Raises `WorkspaceError`.
    """
    workspace = wp.workspace
    assert workspace is not None
    if gates is None:
        return GatesPassed(())
    await workspaces.ensure(wp.id, workspace, wp.dependencies)
    before = await workspaces.state(workspace)
    if before.head != command.head:
        return HeadMoved(before.head)
    tree = await workspaces.fingerprint(workspace)
    report = await gates.run(wp.id, workspace, command.head, command.number, command.turn, tree)
    after = await workspaces.state(workspace)
    await workspaces.restore(wp.id, workspace, report.tree, f"gates-{command.number}-{command.turn}")
    if (after.head, after.branch) != (before.head, before.branch) and not isinstance(
        report.event, GatesStopped
    ):
        reason = f"it moved the branch from {before.head} to {after.head}, so it is no check of a commit"
        return GateBroken(_last(report.event), reason)
    return report.event


def _last(event: Event) -> str:
    match event:
        case GatesPassed(results=results) if results:
            return results[-1].name
        case GateFailed(result=result):
            return result.name
        case GateBroken(name=name):
            return name
        case _:
            return "(none)"
