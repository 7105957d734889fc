"""The summary of a run: the result of each work package, and what to run next.

It claims only what the host's lanes and the run's own record show, and never that done means merged.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.app.checks import line
from spec_kitty_orchestrator.app.checks.lanes import Stuck, stuck
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import MISSIONS, MissionFiles, mission_files
from spec_kitty_orchestrator.core.advice import retry, to_go_on, together
from spec_kitty_orchestrator.core.approval import is_planning
from spec_kitty_orchestrator.core.conflicts import advice
from spec_kitty_orchestrator.core.describe import (
    LONGEST_REASON,
    PROGRAM,
    command_line,
    count,
    counted,
    note,
    short,
    totals,
)
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.finalize import Finalized
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import OrchestratorError, WorkspaceError
from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["show"]


def show(
    result: RunResult,
    project: Project,
    finalized: Finalized,
    unapproved: Sequence[str],
    console: SteadyConsole,
    merged: bool,
    report: Path | None = None,
) -> None:
    """Print the summary.

    Args:
        result: what the run came to.
        project: the user's.
        finalized: what became of a merge and an acceptance.
        unapproved: what on the branches of a complete mission nobody approved, in lines.
        console: prints.
        merged: whether nothing of the mission is left to be merged.
        report: the page that tells of the run, None if there is none.
    """
    files = mission_files(project.root, result.state.slug)
    lines = [_headline(result)]
    lines += [f"It ended before its work was done: {result.ended}"] if result.ended else []
    resting = result.resting.items()
    told_already = {agent for agent, one in resting if one.broken and one.broken in result.ended}
    lines += [
        f"{agent} is paused: {one.told_afterwards}" for agent, one in resting if agent not in told_already
    ]
    reasons, root = _reasons(result), project.root
    lines += ["", *(text for wp in result.work_packages for text in _work_package(wp, reasons, root))]
    lines += ["", totals(result.work_packages, result.spent_before), *finalized.lines]
    lines += [f"Report: {_below(report, root)}"] if report is not None else []
    wps = result.work_packages
    told = () if merged else advice(result.conflicts, wps, result.state.slug)
    lines += ["", *told] if told else []
    if not wps or not all(wp.lane.complete for wp in wps):
        lines += ["", *_go_on(result, project)]
    elif merged:
        lines += _accept(files, finalized, project, planned=all(map(is_planning, wps)))
    elif unapproved:
        told = [text for text in unapproved if not any(text in one for one in finalized.lines)]
        lines += ["", "This mission cannot be merged as it is.", *told, *_again(files, "--merge")]
    elif not finalized.done:
        lines += _again(files, finalized.again)
    else:
        lines += [*_uncommitted(files), "", *_merge_and_accept(result, project, files)]
    for text in lines:
        console.tell(text)


def _headline(result: RunResult) -> str:
    lanes = counted(wp.lane for wp in result.work_packages)
    how = "was interrupted" if result.interrupted else "ended"
    run = f"the run {how} with exit code {result.exit_code}"
    return f"Mission {result.state.slug}: {run}; on the host: {lanes}"


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _reasons(result: RunResult) -> dict[str, str]:
    """Return why each work package is not done; what several have in common is said once."""
    causes = {wp: name for name, wps in result.causes.items() for wp in wps}
    first: dict[str, str] = {}
    told = {}
    for wp, reason in result.reasons.items():
        cause = causes.get(wp, "")
        known = first.setdefault(cause or reason, wp)
        same = f"as {known}" + (f" (cause {cause})" if cause else "")
        told[wp] = note(reason, LONGEST_REASON) if known == wp else same
    return told


def _work_package(wp: WorkPackage, reasons: Mapping[str, str], root: Path) -> list[str]:
    same = wp.result is None or wp.result.value == wp.lane
    parts = [str(wp.lane) if same else f"{wp.lane}, {wp.result}"]
    numbers = {"attempt": len(wp.attempts), "rejection": len(wp.review.rejected)}
    parts += [count(number, noun) for noun, number in numbers.items() if number]
    verdict = wp.review.verdict
    if wp.lane.complete and verdict is not None and verdict.ruling is Ruling.APPROVED:
        parts.append(f"{verdict.reviewer} approved {short(verdict.head)}")
    elif wp.lane.complete:
        parts.append("not approved by a review of this orchestrator")
    told = [f"{wp.id}  {', '.join(parts)}"]
    if reason := reasons.get(wp.id):
        told.append(f"      why: {reason}")
    if wp.work.gates and wp.work.gates[0].head == wp.work.head:
        passed = ", ".join(one.name for one in wp.work.gates)
        told.append(f"      gates passed on {short(wp.work.head)}: {passed}")
    if wp.work.left_out:
        told.append(f"      not committed: {', '.join(wp.work.left_out)}")
    told += [f"      {one}" for one in wp.work.notes]
    told += [f"      saved work: {line('git', '-C', root, 'show', ref)}" for ref in wp.rescued.refs]
    told += [f"      moved aside, as git cannot hold it: {path}" for path in wp.rescued.aside]
    told += [f"      no copy was made of {path}" for path in wp.rescued.lacking]
    if wp.attempts:
        told.append(f"      logs: {_below(Path(wp.attempts[-1].directory).parent, root)}")
    return told


def _go_on(result: RunResult, project: Project) -> list[str]:
    slug = result.state.slug
    blocked = {wp.id for wp in result.work_packages if wp.lane is Lane.BLOCKED and not wp.skipped}
    canceled = [wp.id for wp in result.work_packages if wp.lane is Lane.CANCELED]
    lines = []
    if blocked:
        lines.append(
            "Blocked work packages need a person. Once a reason is fixed, this puts back who had it:"
        )
        needy = blocked.union(*result.causes.values())
        groups = together(result.causes, [wp for wp in result.work_packages if wp.id in needy])
        lines += [f"  {retry(name, ids, slug)}" for name, ids in groups if not blocked.isdisjoint(ids)]
    if canceled:
        lines.append(
            f"Canceled for good: {', '.join(canceled)}. What depends on them starts only if the host "
            "was told a reason, and the host does not accept the mission."
        )
    if broken := [agent for agent, one in result.resting.items() if one.broken]:
        lines.append(
            "A broken agent is mended outside of the mission; `resume` tries it once. On a harmless task, "
            "this does:"
        )
        lines += [f"  {command_line('agents', 'check', '--run', agent)}" for agent in broken]
    others = _taken_up_by(result, project)
    if others:
        lines += ["Left as they are until one of these takes them up:", *(f"  {one}" for one in others)]
    if any(one.startswith(PROGRAM) for one in others):
        return lines
    lines.append(
        "To continue this run with the same settings:" if not others else "Then, to continue this run:"
    )
    return [*lines, f"  {to_go_on(slug, begun=True)}"]


def _taken_up_by(result: RunResult, project: Project) -> list[str]:
    """Return the commands after which a run takes up what others hold, or what has lost its work."""
    places = {wp.id: wp.workspace for wp in result.work_packages if wp.workspace is not None}
    begun = [wp.id for wp in result.work_packages if wp.work.base]
    found: Mapping[str, Stuck] = {}
    with suppress(OrchestratorError):
        found = stuck(project.root, result.state, project.settings.run.actor, begun, places)
    return list(dict.fromkeys(one.fix for one in found.values()))


def _again(files: MissionFiles, option: str) -> list[str]:
    """Say how what was refused is tried again; nothing where that is not what it needs."""
    if not option:
        return []
    return [
        "Once that is settled:",
        f"  spec-kitty-orchestrator {line('orchestrate', '--mission', files.slug, option)}",
    ]


def _merge_and_accept(result: RunResult, project: Project, files: MissionFiles) -> list[str]:
    target, host = files.target_branch or "the target branch", "  spec-kitty orchestrator-api"
    merge, accept = line("merge-mission", "--mission", files.slug), _acceptance(files, project)
    lines = ["Approved or done is not merged: the work is on the branches of its lanes."]
    if not files.has_lanes:
        told = "This mission has no lanes, so the host cannot merge it"
        return [*lines, *_merge_by_hand(result, files, f"{told}: merge it yourself into {target}"), *accept]
    copies = (
        "Do not commit status.json and status.events.jsonl before: they are copies, and the merge conflicts."
    )
    accept.append("Accept after the merge: before it, the host fails or its merge discards it.")
    return [
        *lines,
        f"To merge it into {target}, with nothing uncommitted in {project.root}, in this order:",
        *_prepare(result, files),
        f"{host} {merge}",
        *([] if files.accepted else accept),
        *([copies] if files.coordinated else []),
    ]


def _merge_by_hand(result: RunResult, files: MissionFiles, told: str) -> list[str]:
    git = ("git", "-C", files.root)
    branches = dict.fromkeys(wp.workspace.branch for wp in result.work_packages if wp.workspace is not None)
    unknown = [wp.id for wp in result.work_packages if wp.workspace is None or not wp.workspace.branch]
    lines = [f"{told}:"]
    if files.target_branch:
        lines.append(f"  {line(*git, 'switch', files.target_branch)}")
    lines += [f"  {line(*git, 'merge', '--no-edit', branch)}" for branch in branches if branch]
    if unknown:
        lines.append(f"Where the work of {', '.join(unknown)} is, only whoever did it knows.")
    return lines


def _accept(files: MissionFiles, finalized: Finalized, project: Project, *, planned: bool) -> list[str]:
    """Say how a mission that is merged is accepted; nothing if it is, or cannot be as it is."""
    if finalized.accepted or files.accepted:
        where = "on its target" if planned else "merged"
        return [] if finalized.lines else [f"This mission is {where} and accepted."]
    if not finalized.done:
        return _again(files, finalized.again)
    where = "All its planning artifacts are on their target." if planned else "This mission is merged."
    told = [] if finalized.merged else [where]
    return ["", *told, *_acceptance(files, project)]


def _acceptance(files: MissionFiles, project: Project) -> list[str]:
    words = ("accept-mission", "--mission", files.slug, "--actor", project.settings.run.actor)
    place, folder = files.status_checkout, f"{MISSIONS}/{files.slug}"
    keep = line("git", "-C", place, "commit", "-m", f"Accept {files.slug}", "--", folder)
    return [
        "To accept it, and to commit the record of that, which the host leaves uncommitted:",
        f"  spec-kitty orchestrator-api {line(*words)}",
        f"  {keep}",
    ]


def _prepare(result: RunResult, files: MissionFiles) -> list[str]:
    """Return the command without which the host does not merge planning artifacts with a status elsewhere."""
    if files.coordination is None or not any(map(is_planning, result.work_packages)):
        return []
    return [f"  {line('git', '-C', files.coordination, 'merge', '--no-edit', files.target_branch)}"]


def _uncommitted(files: MissionFiles) -> list[str]:
    """Name what the host's merge would discard, such as the last record of a host that was killed."""
    try:
        lost = [f"  {path}" for path in files.unsaved()]
    except WorkspaceError as error:
        # This is advice: the summary does not depend on git's answer.
        return [f"What is uncommitted is not known: {error}. Look at it before you merge."]
    told = "Not committed, and the host's merge would discard it; commit it before you merge:"
    return [told, *lost] if lost else []
