"""Asks git whether branches hold what was approved: before a claim, before a merge and after it."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace

from spec_kitty_orchestrator.core.approval import (
    Approved,
    approved,
    built_on,
    by_others,
    merged_by_host,
    objection,
    strange,
    unknown,
    unsettled,
)
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import HostNoReply, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import Host, Workspaces

__all__ = ["landed", "locate", "misdelivered", "strange_base", "unapproved", "unreviewed_below"]


async def unapproved(
    host: Host, workspaces: Workspaces, mission: str, wps: Iterable[WorkPackage]
) -> Sequence[str]:
    """Say in lines what on the branches of a complete mission nobody approved, and what to do; () if nothing.

    Where that is not known, it is said too.
    """
    try:
        located = await locate(host, mission, wps, {})
        told = await _objections(workspaces, approved(located), mission)
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


async def _objections(workspaces: Workspaces, branches: Sequence[Approved], mission: str) -> list[str]:
    known = [sha for one in branches for sha in one.known]
    told = [line for one in branches for line in objection(one, await workspaces.tip(one, known), mission)]
    # The host merges the lanes into the mission's own branch first, where there is one.
    for base in dict.fromkeys(one.workspace.base_ref for one in branches):
        if base and await workspaces.sha(f"refs/heads/{base}"):
            told += strange(base, *await workspaces.beyond(f"refs/heads/{base}", (*known, "HEAD")))
    return told


async def unreviewed_below(workspaces: Workspaces, wp: WorkPackage, wps: Mapping[str, WorkPackage]) -> str:
    """Say what a work package would be built on that nobody approved, "" if nothing.

    Raises:
        WorkspaceError: git does not say.
    """
    known = [sha for one in approved(wps.values()) for sha in one.known]
    told: list[str] = []
    for one in built_on(wp, wps):
        told += objection(one, await workspaces.tip(one, known, worktree=False), joins=True)
    return _in_a_line(told)


async def strange_base(
    workspaces: Workspaces, wp: WorkPackage, wps: Mapping[str, WorkPackage], base: str
) -> str:
    """Say what the commit that a work package begins at holds that nobody approved, "" if nothing.

    Raises:
        WorkspaceError: git does not say.
    """
    space, going_on = wp.workspace, unsettled(wps)
    if space is None or space.branch in going_on:
        return ""
    known = [sha for one in approved(wps.values()) for sha in one.known]
    known += [*(f"refs/heads/{branch}" for branch in going_on), *merged_by_host(wps.values())]
    commits, more = await workspaces.beyond(base, (*known, "HEAD", space.base_ref or "HEAD"))
    return _in_a_line(strange(f"what {wp.id} is built on", commits, more))


async def misdelivered(
    workspaces: Workspaces, wps: Iterable[WorkPackage], target: str, before: str
) -> list[str]:
    """Say in lines where the target of a merge does not hold exactly what was approved."""
    wps = tuple(wps)
    heads = [sha for one in approved(wps) for sha in one.known]
    try:
        after = await workspaces.sha(target)
        lacks = await workspaces.undelivered(before, after, heads)
        told = strange(
            "the target branch", *await workspaces.beyond(after, (before, *heads, *merged_by_host(wps)))
        )
    except WorkspaceError as error:
        return [f"merged, but what the target branch holds now is not known: {error}"]
    if lacks:
        told = [f"the target branch does not hold what was approved: {', '.join(lacks[:10])}", *told]
    undo = f"  it stood at {short(before)} before the merge and stands at {short(after)} now"
    return [f"merged, but {told[0]}", *told[1:], undo] if told else []


async def landed(workspaces: Workspaces, wps: Iterable[WorkPackage]) -> bool:
    """Tell whether the target holds all that was approved of a complete mission, as far as is known here."""
    branches = approved(wps)
    known = [sha for one in branches for sha in one.known]
    try:
        tips = [await workspaces.tip(one, known, worktree=False) for one in branches]
    except WorkspaceError:
        # This is for an advice only.
        return False
    return any(one.heads for one in branches) and all(tip.merged for tip in tips)


async def locate(
    host: Host, mission: str, wps: Iterable[WorkPackage], known: MutableMapping[str, Workspace]
) -> list[WorkPackage]:
    """Look up where the work of others is; of ours it is known.

    Raises:
        HostRefusal, HostNoReply: the host does not say.
    """
    found = []
    for wp in wps:
        if wp.workspace is None and by_others(wp):
            if wp.id not in known:
                known[wp.id] = await host.resolve_workspace(mission, wp.id)
            wp = replace(wp, workspace=known[wp.id])
        found.append(wp)
    return found


def _in_a_line(told: Sequence[str]) -> str:
    return "; ".join(line.strip() for line in told)
