"""Checks of a mission: its branch, the fate of its work packages, and what an earlier run left."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app import repository
from spec_kitty_orchestrator.app.checks import Finding, Level, edit, error, line, noted, ok, some, warning
from spec_kitty_orchestrator.app.checks.clone import CLONE, WORKTREE, check_clone
from spec_kitty_orchestrator.app.checks.git import check_worktree
from spec_kitty_orchestrator.app.checks.lanes import cancel_for_a_reason, stuck
from spec_kitty_orchestrator.app.checks.target import check_target
from spec_kitty_orchestrator.app.checks.task_files import unusable_files, without_file
from spec_kitty_orchestrator.app.cluster import check_left
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.record import own_record
from spec_kitty_orchestrator.app.repository import finalize_command, held_elsewhere, on_branch, switch_command
from spec_kitty_orchestrator.app.runs import begun_here, describe_end, known_run, orphans, pids
from spec_kitty_orchestrator.core.describe import command_line
from spec_kitty_orchestrator.core.graph import waves
from spec_kitty_orchestrator.core.model import Lane, MissionState, Workspace
from spec_kitty_orchestrator.core.transitions import why_by_hand
from spec_kitty_orchestrator.core.work_package import WORKSPACE_LANES
from spec_kitty_orchestrator.errors import HostError, HostRefusal, RunActive
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.ports import Host

__all__ = [
    "PlannedWorkPackage",
    "check_lock",
    "check_mission",
    "check_start",
    "cyclic",
    "place_of_first",
    "plan_work_packages",
]

_LANE = re.compile(r"lane-[a-z]{1,3}")


async def check_mission(
    project: Project, host: Host, state: MissionState, known: Workspace | None, told: list[Finding]
) -> None:
    """Check a mission, and add to `told` as far as host and git answer; raises why they do not.

    `known` is as of `plan_work_packages`.
    """
    root, slug = project.root, state.slug
    told += await check_start(root, state)
    if any(one.id in (CLONE, WORKTREE) for one in told):
        return
    lock = check_lock(project, slug)
    told.append(lock)
    told += await to_thread.run_sync(check_left, project, slug)
    told += await _earlier_run(root, slug)
    if never := cyclic(state):
        text = f"{', '.join(never)} depend on each other, so none of them can start"
        told.append(error("mission.cycle", text, finalize_command(slug)))
    else:
        told.append(ok("mission.cycle", "the work packages can be put in an order"))
    if not (root / repository.MISSIONS / slug).is_dir():
        return  # it is on another branch, as reported, and the host cannot resolve its workspaces
    planned = await plan_work_packages(project, host, state, known)
    told += _fates(state, planned)
    if lock.level is not Level.OK:
        return  # an active run has uncommitted work of its own
    with noted(told, "git.works", who=f"git in {root}"):
        told += await to_thread.run_sync(_unsaved, root, slug)
        told += await _worktrees(root, planned, await begun_here(root, slug))


async def check_start(root: Path, state: MissionState) -> list[Finding]:
    """Check what every start of a mission needs: with an error among these, the host refuses what is asked.

    `doctor`, a dry run and the start of a run share it.
    """
    found: list[Finding] = []
    with noted(found, "git.works", who=f"git in {root}"):
        found += await to_thread.run_sync(_branches, root, state)
        found += await to_thread.run_sync(lambda: [*unusable_files(root, state)])
    return found


def _branches(root: Path, state: MissionState) -> list[Finding]:
    slug = state.slug
    files = repository.mission_files(root, slug)
    target, here = files.home, repository.current_branch(root)
    meta = files.folder / "meta.json"
    left = [lane for lane in state.lanes.values() if not lane.complete and lane is not Lane.CANCELED]
    found = check_clone(root, slug, starts=Lane.PLANNED in left) if left else []
    if found:
        return found
    found = list(check_target(files, here, os.environ)) if left else []
    if found:
        pass  # what is wrong with the target comes before who has it
    elif target and target != here:
        text = (
            f"{root} is on {on_branch(root)}, but the mission lives on {target}{held_elsewhere(root, target)}"
        )
        # With the mission's files here the host shows lanes, but it commits them to the target alone.
        make = error if not meta.exists() or files.status_branch(here) == target else warning
        found.append(make("git.branch", text, switch_command(root, target)))
    elif target:
        found.append(ok("git.branch", f"{root} is on {target}, as the mission wants it"))
    if not files.has_lanes and meta.exists():
        text = "the mission has no lanes.json: it can be run, but the host cannot merge it"
        found.append(warning("mission.lanes", text, finalize_command(slug)))
    return found


def _unsaved(root: Path, slug: str) -> list[Finding]:
    files = repository.mission_files(root, slug)
    coordination, own, found = files.status_checkout, own_record(files), []
    if own:
        text = f"spec-kitty left its own record uncommitted, which `--merge` commits: {some(own)}"
        fix = line("git", "-C", coordination, "commit", "-m", f"Record of {slug}", "--", *own)
        found.append(warning("git.record", text, fix))
    kept = {coordination / one for one in own}
    lost = [one for one in files.unsaved() if one not in kept]
    if not lost:
        return found
    checkouts = dict.fromkeys(coordination if one.is_relative_to(coordination) else root for one in lost)
    fix = " && ".join(line("git", "-C", one, "commit", "--all") for one in checkouts)
    return [*found, warning("git.clean", f"uncommitted changes would be lost in a merge: {some(lost)}", fix)]


def cyclic(state: MissionState) -> tuple[str, ...]:
    """Return the work packages in a dependency cycle, and those that depend on one."""
    placed = {wp for wave in waves(state.dependencies) for wp in wave}
    return tuple(wp for wp in state.lanes if wp not in placed)


@dataclass(frozen=True)
class PlannedWorkPackage:
    """One work package as a run would find it.

    Attributes:
        workspace: where it is worked on, None if the host refuses to say.
        fate: what a run would do with it, for people.
        left: whether a run leaves it alone although it is not complete.
        fix: a command after which a run takes it up, "" if its lane tells.
    """

    id: str
    lane: Lane
    dependencies: tuple[str, ...]
    workspace: Workspace | None
    fate: str
    left: bool
    fix: str = ""


async def plan_work_packages(
    project: Project, host: Host, state: MissionState, known: Workspace | None = None
) -> tuple[PlannedWorkPackage, ...]:
    """Ask the host where work packages are worked on, and say what a run would do with each.

    `known` is what it has said already, of any work package of the mission.
    """
    actor = project.settings.run.actor
    here = await to_thread.run_sync(repository.current_branch, project.root)
    begun = await begun_here(project.root, state.slug)
    files = await to_thread.run_sync(repository.task_files, project.root, state.slug)
    folder = project.root / repository.MISSIONS / state.slug / "tasks"
    told = await _places(project, host, state, known)
    places = {wp: place for wp, place in told.items() if isinstance(place, Workspace)}
    found: dict[str, PlannedWorkPackage] = {}
    for wp, lane in state.lanes.items():
        place, refusal, fix = places.get(wp), "", ""
        if place is not None:
            refusal = why_by_hand(place, lane, ours=wp in begun, here=here)
            fix = _fix_of_planning(project, here, state.slug, wp, place) if refusal else ""
        elif wp in told:
            refusal = f"{told[wp]}{'' if wp in files else f'; {without_file(wp)}'}"
        if place is None and wp not in files:
            fix = edit(folder / f"{wp}.md")
        fate, left = _fate(lane, place, refusal, actor)
        needed = state.dependencies.get(wp, ())
        found[wp] = PlannedWorkPackage(wp, lane, needed, place, fate, left, fix)
    left_alone = await to_thread.run_sync(stuck, project.root, state, actor, begun, places)
    for wp, one in left_alone.items():
        if not found[wp].left or found[wp].workspace is None:
            found[wp] = replace(found[wp], fate=one.fate, left=True, fix=one.fix)
    return tuple(found[wp] for wp in state.lanes)


async def place_of_first(root: Path, host: Host, mission: str) -> Workspace | None:
    """Ask where the first work package with a lane is worked on; nothing else of it needs to be known.

    None if no lane is known by what the mission is called, or the host does not say.
    """
    with suppress(HostError):
        for wp in _lanes(await to_thread.run_sync(repository.mission_files, root, mission)):
            return await host.resolve_workspace(mission, wp)
    return None


async def _places(
    project: Project, host: Host, state: MissionState, known: Workspace | None
) -> Mapping[str, Workspace | str]:
    """Return where work packages are worked on that are not over, or why the host does not say so.

    The host takes a while for each. Worktrees of lanes differ in the lane alone, so one tells of them all.
    Raises `HostError`.
    """
    root, found = project.root, dict[str, Workspace | str]()
    open_ones = [wp for wp, lane in state.lanes.items() if not lane.complete and lane is not Lane.CANCELED]
    if open_ones and (example := known or await place_of_first(root, host, state.slug)):
        lanes = _lanes(await to_thread.run_sync(repository.mission_files, root, state.slug))
        alike = {wp: _beside(example, lane, wp) for wp, lane in lanes.items() if wp in open_ones}
        found |= {wp: place for wp, place in alike.items() if place is not None}
    failures: list[HostError] = []

    async def ask(wp: str) -> None:
        try:
            found[wp] = await host.resolve_workspace(state.slug, wp)
        except HostRefusal as refused:
            found[wp] = refused.message
        except HostError as failure:
            failures.append(failure)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for wp in open_ones:
            if wp not in found:
                tasks.start_soon(ask, wp)
    if failures:
        raise failures[0]
    return found


def _lanes(files: repository.MissionFiles) -> Mapping[str, str]:
    """Return by work package the lane for which it gets a worktree, as far as lanes.json tells."""
    found: dict[str, str] = {}
    listed = files.lanes.get("lanes")
    for lane in listed if isinstance(listed, list) else ():
        if isinstance(lane, dict) and _LANE.fullmatch(str(lane.get("lane_id"))):
            wps = lane.get("wp_ids")
            found |= {str(wp): str(lane["lane_id"]) for wp in (wps if isinstance(wps, list) else ())}
    return found


def _beside(known: Workspace, lane_id: str, wp: str) -> Workspace | None:
    """Return the workspace of another lane of the mission, None if the host is to be asked for it."""
    ours, branch = known.lane_id, known.branch
    if not ours or not branch or not known.path.endswith(f"-{ours}") or not branch.endswith(f"-{ours}"):
        return None
    prompt = next(iter(Path(known.prompt_path).parent.glob(f"{wp}*.md")), None)
    if prompt is None:
        return None
    return Workspace(
        known.path.removesuffix(ours) + lane_id,
        str(prompt),
        lane_id,
        branch.removesuffix(ours) + lane_id,
        known.base_ref,
    )


_FATES = {
    Lane.PLANNED: "implemented and reviewed",
    Lane.CLAIMED: "adopted: implementation goes on, if {actor} holds it",
    Lane.IN_PROGRESS: "adopted: implementation goes on, if {actor} holds it",
    Lane.FOR_REVIEW: "adopted: reviewed, if its branch holds work of it; else implemented first",
    Lane.IN_REVIEW: "adopted: the review goes on",
    Lane.APPROVED: "nothing to do",
    Lane.DONE: "nothing to do",
    Lane.BLOCKED: "left alone: a person must unblock it",
    Lane.CANCELED: "left alone",
}


def _fate(lane: Lane, place: Workspace | None, refusal: str, actor: str) -> tuple[str, bool]:
    """Return what a run would do with a work package, and whether it leaves an incomplete one alone."""
    if not lane.complete and lane is not Lane.CANCELED:
        if place is None:
            return f"parked: the host does not say where it is worked on: {refusal}", True
        if refusal:
            return f"parked: {refusal}", True
        if place.planning and lane is not Lane.BLOCKED:
            return f"{_FATES[lane].format(actor=actor)}; merged into {place.target} once approved", False
    return _FATES[lane].format(actor=actor), lane in (Lane.BLOCKED, Lane.CANCELED)


def _fates(state: MissionState, planned: Sequence[PlannedWorkPackage]) -> list[Finding]:
    """Name the work packages that a run would leave alone, and those that wait for them."""
    slug = state.slug
    blockers = _blockers(state, planned)
    found = []
    for wp in planned:
        blocker = blockers.get(wp.id)
        # What is canceled is in nobody's way by itself.
        if blocker is not None and wp.lane is not Lane.CANCELED:
            fix = _fix_of_blocker(slug, blocker)
            found.append(warning("mission.stuck", f"{wp.id} {_why_stuck(state, wp, blockers)}", fix, wp.id))
    left_to_do = [wp.id for wp in planned if not wp.lane.complete and wp.lane is not Lane.CANCELED]
    if not left_to_do:
        found.append(
            ok("mission.open", "nothing is left to run: every work package is approved, done or canceled")
        )
    elif blockers.keys() >= set(left_to_do):
        text = "nothing can be scheduled: every work package that is not done is stuck"
        found.append(error("mission.stalled", text, _fix_of_blocker(slug, blockers[left_to_do[0]])))
    return found or [ok("mission.open", f"{len(left_to_do)} work packages can be worked on")]


def _why_stuck(
    state: MissionState, wp: PlannedWorkPackage, blockers: Mapping[str, PlannedWorkPackage]
) -> str:
    if wp.left:
        return f"is {wp.lane}: {wp.fate}"
    needed = [one for one in wp.dependencies if one in blockers]
    if not needed:
        return f"cannot start: {blockers[wp.id].id} has its worktree"
    if not any(blockers[one].id == one and blockers[one].lane is Lane.CANCELED for one in needed):
        return f"cannot start: it needs {', '.join(needed)}"
    if wp.id in state.held_by_canceled:
        return f"cannot start: it needs {', '.join(needed)}, canceled without a reason"
    return f"may not start: it needs {', '.join(needed)}, canceled, which the host may want a reason for"


def _blockers(state: MissionState, planned: Sequence[PlannedWorkPackage]) -> Mapping[str, PlannedWorkPackage]:
    """Return for each stuck work package the one that a person must unblock: itself, or what it waits for."""
    found = {wp.id: wp for wp in planned if wp.left}
    # Where the host lets one start without what was canceled, nobody else is kept by that either.
    settled = {one for wp in state.ready for one in state.dependencies.get(wp, ())}
    for _ in planned:  # no chain of dependencies is longer
        for wp in planned:
            keep = [found[one] for one in wp.dependencies if one in found]
            needed = [one for one in keep if one.lane is not Lane.CANCELED or one.id not in settled]
            needed += [one for one in planned if one.left and _has_worktree_of(one, wp)]
            if needed and wp.lane is Lane.PLANNED:
                found.setdefault(wp.id, needed[0])
    return found


def _has_worktree_of(holder: PlannedWorkPackage, wp: PlannedWorkPackage) -> bool:
    if holder.workspace is None or wp.workspace is None or holder.lane not in WORKSPACE_LANES:
        return False
    return holder.id != wp.id and holder.workspace.key == wp.workspace.key


def _fix_of_blocker(slug: str, wp: PlannedWorkPackage) -> str:
    if wp.fix:
        return wp.fix
    if wp.lane is Lane.BLOCKED:
        return command_line("retry", wp.id, "--mission", slug)
    if wp.lane is Lane.CANCELED:
        return cancel_for_a_reason(slug, wp.id)
    if wp.workspace is None:
        return finalize_command(slug)
    return edit(wp.workspace.prompt_path)


def _fix_of_planning(project: Project, here: str, slug: str, wp: str, place: Workspace) -> str:
    """Return the command after which a planning artifact that is left to a person goes on, or is done."""
    if not place.target:
        return edit(project.root / repository.MISSIONS / slug / "meta.json")
    if here != place.target:
        return switch_command(project.root, place.target)
    told = ("--to", Lane.APPROVED, "--actor", "a person", "--force", "--reason", "reviewed by hand")
    return line("spec-kitty", "agent", "status", "emit", wp, *told, "--mission", slug)


async def _worktrees(
    root: Path, planned: Sequence[PlannedWorkPackage], begun: Collection[str]
) -> list[Finding]:
    """Check those of work packages that are not complete; an earlier run goes on with its own in `begun`."""
    by_path: dict[str, list[PlannedWorkPackage]] = {}
    for wp in planned:
        if wp.workspace is not None and not wp.lane.complete and wp.lane is not Lane.CANCELED:
            by_path.setdefault(wp.workspace.path, []).append(wp)
    found: list[Finding] = []
    for path, wps in by_path.items():
        ours = any(wp.id in begun and wp.lane is not Lane.PLANNED for wp in wps)
        found += await check_worktree(root, Path(path), ", ".join(wp.id for wp in wps), ours=ours)
    return found or [ok("worktree.clean", "no worktree of the mission stands in the way")]


async def _earlier_run(root: Path, slug: str) -> list[Finding]:
    run = await known_run(root, slug)
    alive = await to_thread.run_sync(orphans, root, slug)
    found = []
    if run.damage is not None:
        text = f"the journal of the earlier run is damaged: {run.damage}"
        fix = command_line("orchestrate", "--mission", slug, "--fresh")
        found.append(error("run.journal", text.replace("\n", "; "), fix))
    elif run.unfinished and run.owner is None:
        text = f"an earlier run {describe_end(run)}; a run goes on with it, unless it is told `--fresh`"
        found.append(warning("run.earlier", text, command_line("resume", "--mission", slug)))
    if alive and run.owner is None:
        text = f"agents of an earlier run are still running (processes {pids(alive)}); a run picks them up"
        found.append(warning("run.agents", text, command_line("abort", "--mission", slug)))
    return found or [ok("run.earlier", "no earlier run is left unfinished")]


def check_lock(project: Project, mission: str) -> Finding:
    """Say who holds the mission's lock, without taking it."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return ok("lock", "no other run of the mission is active")
    text = f"another run of {mission} is active: process {owner.pid} on {owner.host}"
    fix = command_line("abort", "--mission", mission)
    return error("lock", text, fix, kind=RunActive)
