"""The summary of a run: the result of each work package, and what to run next.

It claims only what the host's lanes and the run's own record show, and never that done means merged.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import MissionFiles, mission_files
from spec_kitty_orchestrator.core.describe import count, note, short
from spec_kitty_orchestrator.core.limits import used_up
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.views.console import SteadyConsole

_STATUS_COPIES = (
    "Do not commit status.json and status.events.jsonl before: these are copies, and the merge conflicts."
)


def show(
    result: RunResult, project: Project, finalized: Sequence[str], console: SteadyConsole, complete: bool
) -> None:
    """Print the summary; `finalized` has a line about each step of a merge and an acceptance."""
    files = mission_files(project.root, result.state.slug)
    lines = [_headline(result), *_why_ended(result), ""]
    for wp in result.work_packages:
        lines += _work_package(wp, result, project.root)
    lines += [
        "",
        _totals(result),
        *finalized,
        *_uncommitted(files),
        *_next(result, project, files, complete=complete),
    ]
    for line in lines:
        console.tell(line)


def _headline(result: RunResult) -> str:
    counts = Counter(result.state.lanes.values())
    parts = [f"{counts[lane]} {lane}" for lane in Lane if counts[lane]]
    how = "was interrupted" if result.interrupted else "ended"
    run = f"the run {how} with exit code {result.exit_code}"
    return f"Mission {result.state.slug}: {run}; on the host: {', '.join(parts)}"


def _why_ended(result: RunResult) -> list[str]:
    ended = [f"It ended before its work was done: {result.ended}"] if result.ended else []
    return ended + [f"{agent} is paused: {used_up(until)}" for agent, until in result.resting.items()]


def _work_package(wp: WorkPackage, result: RunResult, root: Path) -> list[str]:
    lane = result.state.lanes.get(wp.id, wp.lane)
    parts = [str(lane) if wp.result is None or wp.result.value == lane else f"{lane}, {wp.result}"]
    if wp.attempts:
        parts.append(count(len(wp.attempts), "attempt"))
    if wp.review.rejected:
        parts.append(count(len(wp.review.rejected), "rejection"))
    verdict = wp.review.verdict
    if lane.complete and verdict is not None and verdict.ruling is Ruling.APPROVED:
        parts.append(f"{verdict.reviewer} approved {short(verdict.head)}")
    elif lane.complete:
        parts.append("not approved by a review of this orchestrator")
    lines = [f"{wp.id}  {', '.join(parts)}"]
    reason = result.reasons.get(wp.id)
    if reason:
        lines.append(f"      why: {note(reason)}")
    if wp.work.gates and wp.work.gates[0].head == wp.work.head:
        passed = ", ".join(one.name for one in wp.work.gates)
        lines.append(f"      gates passed on {short(wp.work.head)}: {passed}")
    if wp.work.left_out:
        lines.append(f"      not committed: {', '.join(wp.work.left_out)}")
    lines += [
        f"      saved work: git -C {shlex.quote(str(root))} show {shlex.quote(ref)}" for ref in wp.rescued
    ]
    if wp.attempts:
        lines.append(f"      logs: {_relative(Path(wp.attempts[-1].directory).parent, root)}")
    return lines


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _totals(result: RunResult) -> str:
    used = [wp.usage for wp in result.work_packages]
    attempts = sum(len(wp.attempts) for wp in result.work_packages)
    costs = [one.cost_usd for one in used if one.cost_usd is not None]
    told = f", ${sum(costs):.2f} as reported by the agents" if costs else ""
    return (
        f"In all: {count(attempts, 'attempt')}, {sum(one.input_tokens for one in used)} tokens in, "
        f"{sum(one.output_tokens for one in used)} out{told}"
    )


def _next(result: RunResult, project: Project, files: MissionFiles, *, complete: bool) -> list[str]:
    if not result.state.lanes or not all(lane.complete for lane in result.state.lanes.values()):
        return ["", *_go_on(result)]
    if complete:
        return []
    return ["", *_merge_and_accept(result, project, files)]


def _go_on(result: RunResult) -> list[str]:
    slug = result.state.slug
    lines = []
    blocked = [wp for wp in result.work_packages if result.state.lanes.get(wp.id, wp.lane) is Lane.BLOCKED]
    canceled = [wp for wp in result.work_packages if result.state.lanes.get(wp.id, wp.lane) is Lane.CANCELED]
    if blocked:
        lines.append("Blocked work packages need a person. Once its reason is fixed, this puts one back:")
        lines += [
            _command("spec-kitty-orchestrator", "retry", wp.id, "--mission", slug, "--note", "what was fixed")
            for wp in blocked
        ]
    if canceled:
        lines.append(
            f"Canceled for good: {', '.join(wp.id for wp in canceled)}. What depends on them cannot start, "
            "and the host does not accept the mission."
        )
    lines.append("To continue this run with the same settings:")
    return [*lines, _command("spec-kitty-orchestrator", "resume", "--mission", slug)]


def _merge_and_accept(result: RunResult, project: Project, files: MissionFiles) -> list[str]:
    slug, actor = result.state.slug, project.settings.run.actor
    accept = _command("spec-kitty", "orchestrator-api", "accept-mission", "--mission", slug, "--actor", actor)
    target = files.target_branch or "the target branch"
    lines = ["Approved or done is not merged: the work is on the branches of its lanes."]
    if not files.has_lanes:
        return [
            *lines,
            f"This mission has no lanes, so the host cannot merge it: merge these yourself into {target}:",
            *[f"  {wp.workspace.path}" for wp in result.work_packages if wp.workspace is not None],
            "Then accept it:",
            accept,
        ]
    return [
        *lines,
        f"To merge it into {target}, with nothing uncommitted in {project.root}, in this order:",
        _command("spec-kitty", "orchestrator-api", "merge-mission", "--mission", slug),
        accept,
        "Accept after the merge: before it, the host fails or its merge discards the acceptance.",
        after_acceptance(files),
        *([_STATUS_COPIES] if files.coordinated else []),
    ]


def _uncommitted(files: MissionFiles) -> list[str]:
    """Name what the host's merge would discard, such as the last record of a host that was killed."""
    try:
        lost = files.unsaved()
    except WorkspaceError as error:
        # This is advice: the summary does not depend on git's answer.
        return [f"What is uncommitted is not known: {error}. Look at it before you merge."]
    if not lost:
        return []
    return [
        "Not committed, and the host's merge would discard it; commit it before you merge:",
        *[f"  {path}" for path in lost],
    ]


def after_acceptance(files: MissionFiles) -> str:
    """Say what remains to do after a mission was accepted."""
    place = shlex.quote(str(files.status_checkout))
    return f"The host leaves the record of the acceptance uncommitted: `git -C {place} status` shows it."


def _command(*argv: str) -> str:
    return "  " + shlex.join(argv)
