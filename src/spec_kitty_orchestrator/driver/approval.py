"""Asks git whether a mission's branches hold what was approved."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from spec_kitty_orchestrator.core.approval import approved, by_others, objection, unknown
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import HostNoReply, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import Host, Workspaces


async def unapproved(
    host: Host, workspaces: Workspaces, mission: str, wps: Iterable[WorkPackage]
) -> Sequence[str]:
    """Say in lines what on the branches of a complete mission nobody approved, and what to do; () if nothing.

    Where that is not known, it is said too.
    """
    try:
        located = [await _located(host, mission, wp) for wp in wps]
        told = await objections(workspaces, located)
    except WorkspaceError as error:
        return (f"what the branches hold is not known: {error}",)
    except (HostRefusal, HostNoReply) as error:
        return (f"the host does not say where its work is: {error}",)
    if others := unknown(located):
        told = [
            *told,
            f"{', '.join(others)}: completed by others since this start began; nobody here reviewed the work",
            "  once you have looked at it, the next start takes it as it is then",
        ]
    return told


async def objections(workspaces: Workspaces, wps: Iterable[WorkPackage]) -> list[str]:
    """Say what on the branches of the complete ones among work packages nobody approved.

    Raises:
        WorkspaceError: git does not say.
    """
    branches = approved(wps)
    known = [sha for one in branches for sha in one.known]
    return [line for one in branches for line in objection(one, await workspaces.tip(one, known))]


async def _located(host: Host, mission: str, wp: WorkPackage) -> WorkPackage:
    """Look up where the work of others is; of ours it is known."""
    if wp.workspace is not None or not by_others(wp):
        return wp
    return replace(wp, workspace=await host.resolve_workspace(mission, wp.id))
