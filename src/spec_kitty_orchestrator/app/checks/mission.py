"""Checks of a mission: its branch, the fate of its work packages, and what an earlier run left."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, ok, some, warning
from spec_kitty_orchestrator.app.mission import finalize_command, on_branch
from spec_kitty_orchestrator.app.plan import PlannedWorkPackage, cyclic
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
    MISSIONS,
    current_branch,
    mission_files,
)
from spec_kitty_orchestrator.app.runs import describe_end, known_run, orphans, pids
from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.errors import RunActive
from spec_kitty_orchestrator.machine.lock import MissionLock

PROGRAM = "spec-kitty-orchestrator"
PROTECTED = ("main", "master")
"""Branches on which the host crashes, or refuses to commit its status."""


def check_branch(root: Path, slug: str) -> list[Finding]:
    """Compare the branch that is checked out with the mission's own."""
    files = mission_files(root, slug)
    target, here = files.home, current_branch(root)
    meta = root / MISSIONS / slug / "meta.json"
    found = []
    if target in PROTECTED:
        text = f"the mission's target branch is {target}, which the host does not commit to"
        found.append(error("mission.target", text, edit(meta)))
    if target and target != here:
        text = f"{root} is on {on_branch(root)}, but the mission lives on {target}"
        # The host does show work packages, so if the mission's files are here, a run works.
        make = warning if meta.exists() else error
        found.append(make("git.branch", text, line("git", "-C", root, "switch", target)))
    elif target:
        found.append(ok("git.branch", f"{root} is on {target}, as the mission wants it"))
    if not files.has_lanes and meta.exists():
        text = "the mission has no lanes.json: it can be run, but the host cannot merge it"
        found.append(warning("mission.lanes", text, finalize_command(slug)))
    return found


def check_saved(root: Path, slug: str) -> list[Finding]:
    """Look for uncommitted changes that the host's merge would throw away."""
    files = mission_files(root, slug)
    lost = files.unsaved()
    if not lost:
        return []
    coordination = files.status_checkout
    checkouts = dict.fromkeys(coordination if one.is_relative_to(coordination) else root for one in lost)
    fix = " && ".join(line("git", "-C", one, "commit", "--all") for one in checkouts)
    return [warning("git.clean", f"uncommitted changes would be lost in a merge: {some(lost)}", fix)]


def check_dependencies(state: MissionState) -> list[Finding]:
    """Find dependency cycles."""
    never = cyclic(state)
    if not never:
        return [ok("mission.cycle", "the work packages can be put in an order")]
    text = f"{', '.join(never)} depend on each other, so none of them can start"
    return [error("mission.cycle", text, finalize_command(state.slug))]


def check_fates(slug: str, planned: Sequence[PlannedWorkPackage]) -> list[Finding]:
    """Name the work packages that a run would leave alone, and those that wait for them."""
    blockers = _blockers(planned)
    found = []
    for wp in planned:
        if wp.id in blockers:
            needed = ", ".join(one for one in wp.dependencies if one in blockers)
            reason = f"is {wp.lane}: {wp.fate}" if wp.left else f"cannot start: it needs {needed}"
            way_on = _way_on(slug, blockers[wp.id])
            found.append(warning("mission.stuck", f"{wp.id} {reason}", way_on, wp.id))
    left_to_do = [wp.id for wp in planned if not wp.lane.complete]
    if not left_to_do:
        found.append(ok("mission.open", "every work package is approved or done: there is nothing to run"))
    elif blockers.keys() >= set(left_to_do):
        text = "nothing can be scheduled: every work package that is not done is stuck"
        found.append(error("mission.stalled", text, line(PROGRAM, "status", "--mission", slug)))
    return found or [ok("mission.open", f"{len(left_to_do)} work packages can be worked on")]


def _blockers(planned: Sequence[PlannedWorkPackage]) -> Mapping[str, PlannedWorkPackage]:
    """Return for each stuck work package the one that a person must unblock: itself, or what it waits for."""
    found = {wp.id: wp for wp in planned if wp.left}
    for _ in planned:  # no chain of dependencies is longer
        for wp in planned:
            needed = [found[one] for one in wp.dependencies if one in found]
            if needed and wp.lane is Lane.PLANNED:
                found.setdefault(wp.id, needed[0])
    return found


def _way_on(slug: str, wp: PlannedWorkPackage) -> str:
    if wp.lane is Lane.BLOCKED:
        return line(PROGRAM, "retry", wp.id, "--mission", slug)
    # A canceled one stays canceled: the dependencies on it must be changed.
    if wp.lane is Lane.CANCELED or wp.workspace is None:
        return finalize_command(slug)
    return edit(wp.workspace.prompt_path)


async def check_earlier_run(root: Path, slug: str) -> list[Finding]:
    """Report what an earlier run of the mission left."""
    run = await known_run(root, slug)
    alive = await to_thread.run_sync(orphans, root, slug)
    found = []
    if run.damage is not None:
        text = f"the journal of the earlier run is damaged: {run.damage}"
        fix = line(PROGRAM, "orchestrate", "--mission", slug, "--fresh")
        found.append(error("run.journal", text.replace("\n", "; "), fix))
    elif run.unfinished and run.owner is None:
        text = f"an earlier run {describe_end(run)}; a run goes on with it, unless it is told `--fresh`"
        found.append(warning("run.earlier", text, line(PROGRAM, "resume", "--mission", slug)))
    if alive and run.owner is None:
        text = f"agents of an earlier run are still running (processes {pids(alive)}); a run picks them up"
        found.append(warning("run.agents", text, line(PROGRAM, "abort", "--mission", slug)))
    return found or [ok("run.earlier", "no earlier run is left unfinished")]


def check_lock(project: Project, mission: str) -> Finding:
    """Say who holds the mission's lock, without taking it."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return ok("lock", "no other run of the mission is active")
    text = f"another run of {mission} is active: process {owner.pid} on {owner.host}"
    fix = line(PROGRAM, "abort", "--mission", mission)
    return error("lock", text, fix, kind=RunActive)
