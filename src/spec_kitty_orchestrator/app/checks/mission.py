"""Whether a mission can be run: what its work packages would come to, and what an earlier run has left."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, edit, error, errors, line, ok, warning
from spec_kitty_orchestrator.app.plan import PlannedWorkPackage, cyclic
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
    MISSIONS,
    branch_of,
    current_branch,
    mission_files,
    missions,
    status_checkout,
    unsaved,
)
from spec_kitty_orchestrator.app.runs import describe_end, known_run, strays
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.errors import (
    HostRefusal,
    JournalError,
    OrchestratorError,
    RunActive,
    UsageError,
)
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.ports import Host

PROGRAM = "spec-kitty-orchestrator"
PROTECTED = ("main", "master")
"""Branches on which the host crashes, or refuses to commit its status."""


def check_branch(root: Path, slug: str) -> list[Finding]:
    """Compare the branch that is checked out with the mission's own."""
    files = mission_files(root, slug)
    target, here = files.target_branch or branch_of(root, slug), current_branch(root)
    meta = root / MISSIONS / slug / "meta.json"
    found = []
    if target in PROTECTED:
        text = f"the mission's target branch is {target}, which the host does not commit to"
        found.append(error("mission.target", text, edit(meta)))
    if target and target != here:
        at = f"the branch {here}" if here else "a detached HEAD"
        text = f"{root} is on {at}, but the mission lives on {target}"
        # The host has shown work packages before this is asked; with the mission's files, a run goes on.
        make = warning if meta.exists() else error
        found.append(make("git.branch", text, line("git", "-C", root, "switch", target)))
    elif target:
        found.append(ok("git.branch", f"{root} is on {target}, as the mission wants it"))
    if not files.has_lanes and meta.exists():
        text = "the mission has no lanes.json: it can be run, but the host cannot merge it"
        found.append(warning("mission.lanes", text, _finalize(slug)))
    return found


def check_saved(root: Path, slug: str) -> list[Finding]:
    """Look for uncommitted changes that the host's merge would throw away."""
    files = mission_files(root, slug)
    lost = unsaved(root, files)
    if not lost:
        return []
    coordination = status_checkout(root, files)
    checkouts = dict.fromkeys(coordination if one.is_relative_to(coordination) else root for one in lost)
    names = [str(one) for one in lost]
    text = f"uncommitted changes would be lost in a merge: {', '.join(names[:3])}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    mend = " && ".join(line("git", "-C", one, "commit", "--all") for one in checkouts)
    return [warning("git.clean", text + more, mend)]


def check_dependencies(state: MissionState) -> list[Finding]:
    """Find work packages that wait for each other."""
    never = cyclic(state)
    if not never:
        return [ok("mission.cycle", "the work packages can be put in an order")]
    text = f"{', '.join(never)} depend on each other, so none of them can start"
    return [error("mission.cycle", text, _finalize(state.slug))]


def check_fates(state: MissionState, planned: Sequence[PlannedWorkPackage]) -> list[Finding]:
    """Say which work packages a run would not take further, and which wait for those."""
    by_id = {wp.id: wp for wp in planned}
    open_ones = [wp for wp in planned if not wp.lane.complete]
    stuck = _stuck(by_id)
    found = []
    for wp in planned:
        reason = stuck.get(wp.id)
        if reason is not None:
            found.append(
                warning("mission.stuck", f"{wp.id} {reason}", _way_on(state.slug, wp, by_id, stuck), wp.id)
            )
    if open_ones and all(wp.id in stuck for wp in open_ones):
        text = "nothing can be scheduled: every work package that is not done is stuck"
        found.append(error("mission.stalled", text, line(PROGRAM, "status", "--mission", state.slug)))
    if not open_ones:
        found.append(ok("mission.open", "every work package is approved or done: there is nothing to run"))
    return found or [ok("mission.open", f"{len(open_ones)} work packages can be worked on")]


def _stuck(by_id: Mapping[str, PlannedWorkPackage]) -> Mapping[str, str]:
    stuck = {wp.id: f"is {wp.lane}: {wp.fate}" for wp in by_id.values() if wp.left}
    grown = True
    while grown:
        grown = False
        for wp in by_id.values():
            needed = [one for one in wp.dependencies if one in stuck]
            if wp.lane is Lane.PLANNED and needed and wp.id not in stuck:
                stuck[wp.id] = f"cannot start: it needs {', '.join(needed)}"
                grown = True
    return stuck


def _way_on(
    slug: str, wp: PlannedWorkPackage, by_id: Mapping[str, PlannedWorkPackage], stuck: Mapping[str, str]
) -> str:
    """Return the command that frees what a stuck work package waits for."""
    waiting, seen = [wp], {wp.id}
    while waiting:
        wp = waiting.pop(0)
        if wp.left:
            break
        needed = [one for one in wp.dependencies if one in stuck and one not in seen]
        seen.update(needed)
        waiting += [by_id[one] for one in needed]
    if wp.lane is Lane.BLOCKED:
        return line(PROGRAM, "retry", wp.id, "--mission", slug)
    # A canceled one stays so: those that need it must be told to need another.
    return edit(wp.workspace.prompt_path) if wp.lane is not Lane.CANCELED else _finalize(slug)


async def check_earlier_run(root: Path, slug: str) -> list[Finding]:
    """Say what an earlier run of the mission has left."""
    run = await known_run(root, slug)
    alive = await to_thread.run_sync(strays, root, slug)
    found = []
    if run.damage is not None:
        text = f"the journal of the earlier run is damaged: {run.damage}"
        mend = line(PROGRAM, "orchestrate", "--mission", slug, "--fresh")
        found.append(error("run.journal", text.replace("\n", "; "), mend, kind=JournalError))
    elif run.unfinished and run.owner is None:
        text = f"an earlier run {describe_end(run)}; a run goes on with it, unless it is told `--fresh`"
        found.append(warning("run.earlier", text, line(PROGRAM, "resume", "--mission", slug)))
    if alive and run.owner is None:
        pids = ", ".join(str(one.child.pid) for one in alive)
        text = f"agents of an earlier run are still at work (processes {pids}); a run picks them up"
        found.append(warning("run.agents", text, line(PROGRAM, "abort", "--mission", slug)))
    return found or [ok("run.earlier", "no earlier run is left unfinished")]


async def read_mission(project: Project, host: Host, mission: str) -> MissionState:
    """Read the mission from the host and check that there is something to run.

    Raises:
        HostError: the host cannot be used.
        UsageError: there is no such mission.
        PreflightError: its tasks are not finalized, or no work package is visible.
    """
    found = await find_mission(project, host, mission)
    if isinstance(found, Finding):
        raise found.error
    return found


async def find_mission(project: Project, host: Host, mission: str) -> MissionState | Finding:
    """Read the mission from the host, or say why there is nothing to run.

    Raises:
        HostError: the host cannot be used.
    """
    try:
        state = await host.mission_state(mission)
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            return _no_mission(project.root, mission)
        if refusal.code == "TASKS_NOT_FINALIZED":
            slug = str(refusal.data.get("mission_slug") or mission)
            return error("mission.tasks", refusal.message, _finalize(slug))
        raise
    return state if state.lanes else _no_work_packages(project.root, state.slug)


def _no_mission(root: Path, mission: str) -> Finding:
    found = missions(root)
    if not found:
        text = f"there is no mission {mission!r}: {root} has no missions in kitty-specs/ on {_on(root)}"
        return error("mission.exists", text, line("git", "-C", root, "branch", "--all"), kind=UsageError)
    hint = nearest(mission, found) or ";"
    text = f"there is no mission {mission!r}{hint} missions here: {', '.join(found)}"
    (close,) = get_close_matches(mission, found, n=1, cutoff=0) or found[:1]
    mend = line("spec-kitty-orchestrator", "doctor", "--mission", close)
    return error("mission.exists", text, mend, kind=UsageError)


def _no_work_packages(root: Path, slug: str) -> Finding:
    files = mission_files(root, slug)
    home = files.target_branch or branch_of(root, slug)
    if home and current_branch(root) != home:
        mend = line("git", "-C", root, "switch", home)
        text = (
            f"the host sees no work packages of {slug}: {root} is on {_on(root)}, but the mission "
            f"lives on {home}; run: {mend}"
        )
        return error("mission.branch", text, mend)
    if files.work_packages:
        text = (
            f"the host sees no work packages of {slug}, although there are "
            f"{len(files.work_packages)} files in tasks/; run: {_finalize(slug)}"
        )
        return error("mission.tasks", text, _finalize(slug))
    text = (
        f"{slug} has no work packages on {_on(root)}: switch to the branch where it was planned, "
        "or plan it first (tasks.md and tasks/WP*.md)"
    )
    return error("mission.tasks", text, line("git", "-C", root, "branch", "--all"))


def _finalize(slug: str) -> str:
    return line("spec-kitty", "agent", "mission", "finalize-tasks", "--mission", slug)


def _on(root: Path) -> str:
    branch = current_branch(root)
    return f"the branch {branch}" if branch else "a detached HEAD"


def check_free(project: Project, mission: str) -> list[OrchestratorError]:
    """Check without taking it that nobody holds the mission's lock."""
    return errors([check_lock(project, mission)])


def check_lock(project: Project, mission: str) -> Finding:
    """Say who holds the mission's lock, without taking it."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return ok("lock", "no other run of the mission is active")
    text = f"another run of {mission} is active: process {owner.pid} on {owner.host}"
    mend = line("spec-kitty-orchestrator", "abort", "--mission", mission)
    return error("lock", text, mend, kind=RunActive)
