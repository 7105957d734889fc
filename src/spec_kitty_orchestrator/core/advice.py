"""What a person is to do next, with the command for it: the one place that every view takes it from."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spec_kitty_orchestrator.core.causes import by_cause
from spec_kitty_orchestrator.core.conflicts import mend
from spec_kitty_orchestrator.core.describe import LONGEST_QUOTE, command_line, describe, short
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = [
    "Need",
    "go_on",
    "groups",
    "handback",
    "merge",
    "needs",
    "next_commands",
    "reason",
    "resume",
    "retry",
    "take_back",
    "to_go_on",
    "together",
    "why_ended",
]


@dataclass(frozen=True)
class Need:
    """What needs a person, once for all work packages that have the same reason.

    Attributes:
        name: of the cause, `c1` and so on; "" if it has none.
        wps: that have it, the most important first.
        reason: why, in the run's words.
        steps: what to do, each with the command for it.
    """

    name: str
    wps: tuple[WpReport, ...]
    reason: str
    steps: tuple[tuple[str, str], ...]

    @property
    def last_rejection(self) -> Verdict | None:
        """What its last reviewer asks for, if only one work package has it."""
        return _rejected_last(self.wps[0].situation.wp) if len(self.wps) == 1 else None


def needs(report: Report) -> tuple[Need, ...]:
    """Return what needs a person, the most important first."""
    known = {one.id: one for one in report.wps}
    found = [_need(name, [known[one] for one in ids], report) for name, ids in groups(report)]
    for conflict in report.state.conflicts:
        if conflict.wp in known and conflict.other in known:
            pair = (known[conflict.wp], known[conflict.other])
            steps = mend(pair[0].situation.wp, pair[1].situation.wp, report.mission)
            found.append(Need("", pair, describe(conflict), steps))
    return tuple(found)


def groups(report: Report) -> list[tuple[str, tuple[str, ...]]]:
    """Return what needs a person as `together` does, conflicts of branches left out."""
    left = [one.situation.wp for one in report.of(Status.NEEDS_YOU)]
    return together(by_cause(report.state.causes, left), left)


def together(
    causes: Mapping[str, Sequence[str]], wps: Iterable[WorkPackage]
) -> list[tuple[str, tuple[str, ...]]]:
    """Return what needs a person in groups that one command puts back: the cause, "" if none, and the ids.

    Args:
        causes: by name, the ids of those that have it.
        wps: that need a person, the most important first.
    """
    named = {wp: name for name, ids in causes.items() for wp in ids}
    groups: dict[str, list[str]] = defaultdict(list)
    for one in wps:
        # What reviewers ask for differs, in however like words they were rejected.
        alone = one.lane.complete or _rejected_last(one) is not None
        groups[one.id if alone else named.get(one.id, one.id)].append(one.id)
    return [(name if name in causes else "", tuple(ids)) for name, ids in groups.items()]


def _need(name: str, wps: Sequence[WpReport], report: Report) -> Need:
    first, mission = wps[0], report.mission
    if first.situation.wp.lane.complete:
        # It needs nothing but a review: who retries it is told that nothing is left to do.
        return Need(name, tuple(wps), reason(first), (("Have it reviewed", to_review(first.id, mission)),))
    if (wp := first.situation.wp).taken is not None:
        back = handback(wp.id, wp.taken.by, mission)
        return Need(name, tuple(wps), reason(first), (("Once the work is done, hand it back", back),))
    again = retry(name, [one.id for one in wps], mission)
    if len(wps) > 1:
        return Need(name, tuple(wps), reason(first), (("Put them back to work with a hint", again),))
    found = [
        ("Put it back to work with a hint", again),
        ("Or work on it yourself", command_line("takeover", first.id, "--mission", mission)),
        ("Or leave it out", command_line("skip", first.id, "--mission", mission)),
    ]
    made = first.committed
    if made is not None and made.base != made.head:
        found.insert(0, ("See the work", f"git diff {short(made.base)}..{short(made.head)}"))
        found.insert(2, ("Or approve it as it is", approval(first.id, made.head, mission)))
    return Need(name, tuple(wps), reason(first), tuple(found))


def next_commands(report: Report) -> Mapping[str, str]:
    """Return for each work package that needs a person, or was cut off, the command that gets it on."""
    found = {one.id: resume(report) for one in report.of(Status.CUT_OFF)}
    known = {one.id: one.situation.wp for one in report.wps}
    for name, ids in groups(report):
        done, taken = known[ids[0]].lane.complete, known[ids[0]].taken
        command = to_review(ids[0], report.mission) if done else retry(name, ids, report.mission)
        command = handback(ids[0], taken.by, report.mission) if taken is not None else command
        found |= dict.fromkeys(ids, command)
    return found


def retry(cause: str, ids: Sequence[str], mission: str) -> str:
    """Return the command that puts work packages back to work that have the same cause, or just one."""
    who = ("--cause", cause) if len(ids) > 1 else ids
    return command_line("retry", *who, "--mission", mission, "--note", "what to do differently")


def handback(wp_id: str, by: str, mission: str) -> str:
    """Return the command with which a person hands back what they took over."""
    words = ("--mission", mission, "--as", by, "--note", "what you did")
    return command_line("handback", wp_id, *words)


def approval(wp_id: str, head: str, mission: str) -> str:
    """Return the command with which a person approves a commit."""
    words = ("--mission", mission, "--head", short(head), "--note", "why it is good")
    return command_line("approve", wp_id, *words)


def to_review(wp_id: str, mission: str) -> str:
    """Return the command after which a run reviews what others completed."""
    back = ("--to", "for_review", "--force", "--note", "no review of ours approved it", "--mission", mission)
    return shlex.join(("spec-kitty", "agent", "tasks", "move-task", wp_id, *back))


def reason(wp: WpReport) -> str:
    """Say why a work package stands where it stands, without the findings, which are told beside it."""
    told, verdict = wp.situation.why, _rejected_last(wp.situation.wp)
    if verdict is None or not verdict.summary or wp.situation.status is not Status.NEEDS_YOU:
        return told
    before = told.partition(verdict.summary[:LONGEST_QUOTE])[0].rstrip(": ")
    return f"{before}: {verdict.summary}"


def _rejected_last(wp: WorkPackage) -> Verdict | None:
    """Return what its last attempt asks for, None if that was no rejection."""
    last = wp.review.rejected[-1] if wp.review.rejected else None
    return last if last is not None and wp.attempts and last.attempt_id == wp.attempts[-1].id else None


def resume(report: Report) -> str:
    """Return the command that goes on with the mission, "" where a run goes on or nothing is left to do."""
    if report.active or len(report.of(Status.DONE)) == len(report.wps):
        return ""
    if report.state.handed_over is not None:
        return take_back(report.mission)
    return to_go_on(report.mission, begun=bool(report.starts))


def to_go_on(mission: str, *, begun: bool) -> str:
    """Return the command that goes on with a mission, of which a run began here or none did."""
    return command_line("resume" if begun else "orchestrate", "--mission", mission)


def take_back(mission: str) -> str:
    """Return the command after which a run that was handed over goes on here."""
    return command_line("import", "--take-back", "--mission", mission)


def merge(report: Report) -> str:
    """Return the command that merges and accepts a mission, as far as that is not done."""
    known = report.state.finalized
    left = ["--merge"] * (not known.merged) + ["--accept"] * (not known.accepted)
    return command_line("orchestrate", "--mission", report.mission, *left) if left else ""


def go_on(report: Report) -> tuple[tuple[str, str], ...]:
    """Return what to do after what needs a person is done, each with the command for it; () while it runs."""
    if report.active or not report.wps:
        return ()
    if len(report.of(Status.DONE)) == len(report.wps):
        command = merge(report)
        if not command:
            return ()
        merged = report.state.finalized.merged
        told = f"This checks every approval, then {'accepts' if merged else 'merges and accepts'}"
        told = f"Once that is mended: {told[0].lower()}{told[1:]}" if needs(report) else told
        told = f"{'It is merged.' if merged else 'Done means reviewed, not merged.'} {told}"
        return ((told, command),)
    if report.state.handed_over is not None:
        return (("Unless it was imported elsewhere, take it back", resume(report)),)
    broken = [agent for agent, one in report.state.suspended.items() if one.broken]
    found = [
        (
            f"{agent} is paused as broken; once it is mended, try it",
            command_line("agents", "check", "--run", agent),
        )
        for agent in broken
    ]
    words = (
        "Then go on with the same settings"
        if found or report.of(Status.NEEDS_YOU)
        else "Go on with the same settings"
    )
    return (*found, (words, resume(report)))


def why_ended(report: Report) -> str:
    """Say why the last start ended before its work was done, "" if it did not."""
    state = report.state
    if state.handed_over is not None:
        return f"it was {describe(state.handed_over)}"
    if state.failure is not None:
        return state.failure.message
    if state.ending is not None:
        return state.ending.reason
    return f"it was interrupted by signal {state.signals[-1]}" if state.signals else ""
