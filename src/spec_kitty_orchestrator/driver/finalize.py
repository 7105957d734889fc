"""The end of a mission, only when asked for: merge, then accept, each behind a fresh look at the lanes.

The host merges whatever the lanes are, and accepting before the merge crashes on the coordination
topologies and is thrown away by the merge on the others: so the merge comes first, and nothing happens
before every work package is approved or done, and while a branch is not what was approved.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.driver.approval import misdelivered, unapproved
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostNoReply, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import Host, Workspaces


async def finalize(
    host: Host,
    workspaces: Workspaces,
    result: RunResult,
    actor: str,
    unsaved: Callable[[], Sequence[Path]] = tuple,
    *,
    merge: bool,
    accept: bool,
    coordinated: bool,
    target: str = "HEAD",
) -> tuple[bool, Sequence[str]]:
    """Merge and accept a mission as asked, if every work package is approved or done.

    Args:
        host: the port.
        workspaces: git.
        result: what its run came to.
        actor: who accepts.
        unsaved: finds, in a thread, what the merge would throw away.
        merge: merge the lanes into the target branch.
        accept: record the acceptance, after the merge if there is one.
        coordinated: whether the mission keeps its status in a coordination worktree; accepting it before the
            merge is not possible then.
        target: the ref that the lanes are merged into.

    Returns:
        Whether everything that was asked for happened, and a line for people about each step.
    """
    if not (merge or accept) or result.exit_code != 0:
        return True, ()
    if result.interrupted is not None:
        return False, ["not merged and not accepted: the run was interrupted"]
    mission, lines = result.state.slug, []
    try:
        if merge and (lost := await to_thread.run_sync(unsaved)):
            names = ", ".join(map(str, lost))
            return False, [
                f"not merged: the host's merge discards what is not committed; commit or undo {names}"
            ]
    except WorkspaceError as error:
        return False, [f"not merged: what is uncommitted is not known: {error}"]
    if open_wps := await _open(host, mission, [one.id for one in result.work_packages]):
        return False, [f"not merged and not accepted: {', '.join(open_wps)} neither approved nor done"]
    # As late as can be: whatever comes onto a branch between this look and the merge is merged.
    if told := await unapproved(host, workspaces, mission, result.work_packages):
        return False, [f"not {'merged' if merge else 'accepted'}: {told[0]}", *told[1:]]
    if merge:
        try:
            before = await workspaces.sha(target)
        except WorkspaceError as error:
            return False, [f"not merged: where the target branch stands is not known: {error}"]
        if refused := await _merge(host, mission):
            return False, [f"not merged: {refused}"]
        if wrong := await misdelivered(workspaces, result.work_packages, target, before):
            return False, wrong
        lines.append("merged into the target branch")
    if not accept:
        return True, lines
    if coordinated and not merge:
        return False, ["not accepted: on this topology the host can accept a mission only after its merge"]
    try:
        await host.accept_mission(mission, actor)
    except (HostRefusal, HostNoReply) as error:
        return False, [*lines, f"not accepted: {error}"]
    return True, [*lines, "accepted"]


async def _open(host: Host, mission: str, known: Collection[str]) -> list[str]:
    lanes = (await host.mission_state(mission)).lanes
    if not lanes:
        return [f"the host lists no work packages of {mission}, of which none is"]
    missing = [f"{wp} (not listed by the host)" for wp in known if wp not in lanes]
    return [*missing, *(f"{wp} ({lane})" for wp, lane in lanes.items() if not lane.complete)]


async def _merge(host: Host, mission: str) -> str:
    """Merge; return why it did not happen, "" if it did."""
    try:
        await host.merge_mission(mission)
    except HostRefusal as error:
        reasons = error.data.get("errors")
        listed = [str(one) for one in reasons] if isinstance(reasons, list) else []
        return "; ".join([error.message, *listed])
    except HostNoReply as error:
        return f"no answer ({error.message}); look at `git log` of the target branch before trying again"
    return ""
