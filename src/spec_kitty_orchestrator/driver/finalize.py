"""The end of a mission, only when asked for: merge, then accept, each behind a fresh look at the lanes.

The host merges whatever the lanes are, and accepting before the merge crashes on the coordination
topologies and is thrown away by the merge on the others: so the merge comes first, and nothing happens
before every work package is approved or done, and while a branch is not what was approved.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.core.approval import is_planning
from spec_kitty_orchestrator.core.describe import count, duration
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.driver.approval import landed, locate, misdelivered, unapproved
from spec_kitty_orchestrator.driver.result import RunResult, first_error
from spec_kitty_orchestrator.errors import HostNoReply, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import Host, Workspaces

__all__ = ["UNCOMMITTED", "Finalized", "finalize"]

HEARTBEAT_S = 60.0
"""Between two lines while the host merges, which takes seconds for each branch: it tells nothing itself."""


UNCOMMITTED = "the host's merge would discard what is not committed; commit or stash it"


@dataclass(frozen=True)
class Finalized:
    """What became of what was asked for.

    Attributes:
        done: whether all of it happened.
        lines: for people, about each step.
        merged: whether the host merged.
        accepted: whether it recorded the acceptance.
        again: the option that asks for it again once its reason is settled, "" if that is not what it needs.
    """

    done: bool = True
    lines: Sequence[str] = ()
    merged: bool = False
    accepted: bool = False
    again: str = ""


async def _nothing() -> Sequence[str]:
    return ()


async def finalize(
    host: Host,
    workspaces: Workspaces,
    result: RunResult,
    actor: str,
    unsaved: Callable[[], Sequence[Path]] = tuple,
    record: Callable[[], Awaitable[Sequence[str]]] = _nothing,
    say: Callable[[str], None] = lambda _: None,
    *,
    merge: bool,
    accept: bool,
    coordinated: bool,
    target: str = "HEAD",
    coordination: Path | None = None,
) -> Finalized:
    """Merge and accept a mission as asked, if every work package is approved or done.

    Args:
        host: the port.
        workspaces: git.
        result: what its run came to.
        actor: who accepts.
        unsaved: finds, in a thread, what the merge would throw away.
        record: commits what of that is the host's own record, and says so in lines.
        say: is told what goes on.
        merge: merge the lanes into the target branch.
        accept: record the acceptance, after the merge if there is one.
        coordinated: whether the mission keeps its status in a coordination worktree; accepting it before the
            merge is not possible then.
        target: the ref that the lanes are merged into.
        coordination: that worktree, None if there is none.
    """
    if not (merge or accept) or result.exit_code != 0:
        return Finalized()
    asked = "--merge" if merge else "--accept"
    if result.interrupted is not None:
        return Finalized(False, ["not merged and not accepted: the run was interrupted"], again=asked)
    mission, wps = result.state.slug, result.work_packages
    if open_wps := await _open(host, mission, [one.id for one in wps]):
        return Finalized(
            False, [f"not merged and not accepted: {', '.join(open_wps)} neither approved nor done"]
        )
    lines: list[str] = []
    if merge:
        try:
            lines += await record()
            lost = await to_thread.run_sync(unsaved)
        except WorkspaceError as error:
            return Finalized(False, [f"not merged: what is uncommitted is not known: {error}"], again=asked)
        if lost:
            return Finalized(
                False, [*lines, f"not merged: {UNCOMMITTED}:", *(f"  {one}" for one in lost)], again=asked
            )
    # As late as can be: whatever comes onto a branch between this look and the merge is merged.
    if told := await unapproved(host, workspaces, mission, wps):
        return Finalized(False, [*lines, f"not {'merged' if merge else 'accepted'}: {told[0]}", *told[1:]])
    if merge:
        if why := await _follow(host, workspaces, result, target, coordination):
            return Finalized(False, [*lines, f"not merged: {why}"], again=asked)
        merged = await _merge(host, workspaces, result, target, say)
        if not merged.done:
            return replace(merged, lines=[*lines, *merged.lines])
        lines += merged.lines
    if not accept:
        return Finalized(True, lines, merged=merge)
    if coordinated and not merge and not await landed(workspaces, wps):
        return Finalized(False, ["not accepted: on this topology the host can accept only after its merge"])
    try:
        await host.accept_mission(mission, actor)
    except (HostRefusal, HostNoReply) as error:
        return Finalized(False, [*lines, f"not accepted: {error}"], merged=merge, again="--accept")
    try:
        lines += ["accepted", *await record()]
    except WorkspaceError as error:
        lines += ["accepted", f"the record of the acceptance is not committed: {error}"]
    return Finalized(True, lines, merged=merge, accepted=True)


async def _open(host: Host, mission: str, known: Collection[str]) -> list[str]:
    lanes = (await host.mission_state(mission)).lanes
    if not lanes:
        return [f"the host lists no work packages of {mission}, of which none is"]
    missing = [f"{wp} (not listed by the host)" for wp in known if wp not in lanes]
    return [*missing, *(f"{wp} ({lane})" for wp, lane in lanes.items() if not lane.complete)]


async def _follow(
    host: Host, workspaces: Workspaces, result: RunResult, target: str, coordination: Path | None
) -> str:
    """Bring the target to the coordination branch where it has planning artifacts; say why that failed.

    The host takes the target for the lane of those, and merges no lane that has not met the mission's status.
    """
    if coordination is None:
        return ""
    try:
        located = await locate(host, result.state.slug, result.work_packages, {})
        if any(map(is_planning, located)):
            await workspaces.bring(Workspace(str(coordination), ""), (target,))
    except (WorkspaceError, HostRefusal, HostNoReply) as error:
        return str(error)
    return ""


async def _merge(
    host: Host, workspaces: Workspaces, result: RunResult, target: str, say: Callable[[str], None]
) -> Finalized:
    wps = result.work_packages
    branches = len({one.workspace.key for one in wps if one.workspace is not None}) or len(wps)

    def refused(why: str) -> Finalized:
        return Finalized(False, [f"not merged: {why}"], again="--merge")

    try:
        before = await workspaces.sha(target)
    except WorkspaceError as error:
        return refused(f"where the target branch stands is not known: {error}")
    try:
        await _telling(
            lambda: host.merge_mission(result.state.slug, branches),
            f"spec-kitty merges {count(branches, 'branch', 'branches')}; a first Ctrl-C leaves that alone",
            say,
        )
    except HostRefusal as error:
        reasons = error.data.get("errors")
        listed = [str(one) for one in reasons] if isinstance(reasons, list) else []
        why = "; ".join([error.message, *listed])
        if await landed(workspaces, wps):
            before_it = "each artifact was put on its target when it was approved; the host says of a merge"
            merged = "it was merged before; the host says of another merge"
            told = before_it if all(map(is_planning, wps)) else merged
            return Finalized(True, [f"{told}: {why}"], merged=True)
        return refused(why)
    except HostNoReply as error:
        return refused(
            f"no answer ({error.message}); look at `git log` of the target branch before trying again"
        )
    if wrong := await misdelivered(workspaces, wps, target, before):
        return Finalized(False, wrong, merged=True)
    return Finalized(True, ["merged into the target branch"], merged=True)


async def _telling(call: Callable[[], Awaitable[object]], what: str, say: Callable[[str], None]) -> None:
    """Say what goes on, and now and then that it still does."""
    began = anyio.current_time()

    async def beat() -> None:
        while True:
            await anyio.sleep(HEARTBEAT_S)
            say(f"{what}: {duration(anyio.current_time() - began)} so far")

    say(what)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat)
            await call()
            tasks.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise first_error(group) from None
