"""One event -> one line of English: for people who watch, and for the story that a bug is reported with.

Text of agents, the host and hooks can hold escape sequences, line breaks and markup: it passes `clean`.
"""

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable

from spec_kitty_orchestrator.core import events, run_events
from spec_kitty_orchestrator.core.levels import is_open_subtasks
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Evidence,
    GateResult,
    Lane,
    Outcome,
    Role,
    Usage,
    total,
)
from spec_kitty_orchestrator.core.orders_in_words import of_order
from spec_kitty_orchestrator.core.plain_text import begun, plain
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = [
    "ENDS",
    "LONGEST_LINE",
    "LONGEST_QUOTE",
    "LONGEST_REASON",
    "PROGRAM",
    "clean",
    "command_line",
    "count",
    "counted",
    "describe",
    "duration",
    "in_all",
    "last_line",
    "note",
    "short",
    "spent",
    "tokens",
    "totals",
]

LONGEST_LINE = 400
LONGEST_QUOTE = 160
LONGEST_REASON = 2000
"""Of what a person must know to go on: what to do stands at its end."""
SHA_LENGTH = 10
MOST_FILES = 3
"""Named in one line."""
PROGRAM = "spec-kitty-orchestrator"

_BREAKS = re.compile(r"[\t\n]+")
_CHANGES = re.compile(r"(\d+) (files?|insertions?|deletions?)\b")
_SHA = re.compile(r"\b[0-9a-f]{40}\b")

ENDS = {
    Outcome.OK: "finished",
    Outcome.FAILED: "failed",
    Outcome.RATE_LIMITED: "hit its rate limit",
    Outcome.OVERLOADED: "found its model overloaded",
    Outcome.AUTH: "is not logged in",
    Outcome.INVALID_REQUEST: "was refused its request",
    Outcome.BUDGET: "reached its cost limit",
    Outcome.TIMEOUT: "ran out of time and was stopped",
    Outcome.STALLED: "showed no sign of life and was stopped",
    Outcome.CRASHED: "crashed",
    Outcome.CANCELED: "was stopped early",
    Outcome.LOST: "was lost in an interruption (its work is kept)",
}


_SAVED = {
    events.AttemptOpened: "leftovers of the last attempt",
    events.Recorded: "files left out",
    events.Parked: "uncommitted work",
}
"""What it is that an event tells was saved."""


def clean(text: str, limit: int = LONGEST_LINE) -> str:
    """Make one printable line of at most `limit` characters out of anything."""
    return begun(_BREAKS.sub(" ", plain(text)).strip(), limit)


def command_line(*words: str) -> str:
    """Write a command of ours as a line for a shell."""
    return shlex.join((PROGRAM, *words))


def short(sha: str) -> str:
    """Shorten a commit's name for people."""
    return sha[:SHA_LENGTH]


def duration(seconds: float) -> str:
    """Write a span of time: ``9.9s``, ``12s``, ``3m 05s``, ``2h 10m``."""
    if 0 < seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def tokens(number: int) -> str:
    """Write a number of tokens: ``950``, ``34k``, ``2.8M``."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f}M"
    return f"{number / 1000:.0f}k" if number >= 1000 else str(number)


def count(number: int, noun: str, plural: str = "") -> str:
    """Write ``1 file`` or ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def counted(lanes: Iterable[Lane]) -> str:
    """Write how many work packages are in each lane."""
    counts = Counter(lanes)
    return ", ".join(f"{counts[lane]} {lane}" for lane in Lane if counts[lane])


def note(text: str, limit: int = LONGEST_LINE) -> str:
    """Make one printable line of a note, with the names of commits shortened."""
    return clean(_SHA.sub(lambda found: short(found.group()), text), limit)


def in_all(usage: Usage) -> str:
    """Write what was used: tokens, and the cost as far as agents tell it."""
    cost = f", ${usage.cost_usd:.2f} as reported by the agents" if usage.cost_usd is not None else ""
    return f"{usage.input_tokens} tokens in, {usage.output_tokens} out{cost}"


def totals(wps: Collection[WorkPackage], before: Usage) -> str:
    """Say what a mission used: its work packages, and `before` those runs whose journals were put aside."""
    attempts = sum(len(wp.attempts) for wp in wps)
    text = f"In all: {count(attempts, 'attempt')}, {in_all(total(wp.usage for wp in wps))}"
    if before == Usage():
        return text
    return f"{text}; before that, in runs whose journals were put aside: {in_all(before)}"


def last_line(text: str) -> str:
    """Return the last line that is not empty, "" if there is none."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def describe(event: run_events.AnyEvent, wp: WorkPackage | None = None, took_s: float = 0.0) -> str:
    """Say in one bounded, printable line what happened.

    Args:
        event: of a work package or of the run.
        wp: the work package that it happened to, None for an event of the run.
        took_s: how long what led to it took, in seconds; 0 if that is not known.
    """
    words = _of_run(event) if isinstance(event, run_events.RunEvent) else _of_wp(event, wp, took_s)
    rescued = getattr(event, "rescued", None)
    # Whatever else is cut off, where work was saved is told.
    kept = (
        clean(f"; {_SAVED.get(type(event), 'what was changed')}: {rescued}", LONGEST_LINE // 2)
        if rescued
        else ""
    )
    return clean(note(" ".join(words.split())), LONGEST_LINE - len(kept)) + kept


def _of_run(event: run_events.RunEvent) -> str:
    match event:
        case run_events.Waiting(reasons=reasons):
            return "; ".join(f"{wp_id} {why}" for wp_id, why in reasons.items() if why) or "nobody waits"
        case run_events.ResourcesShort(reason=reason):
            return f"nothing new starts: {reason}" if reason else "the machine has room again; work goes on"
        case run_events.AgentSuspended(agent=agent, reason=reason):
            return f"{agent} is paused: {reason}"
        case run_events.AgentBack(agent=agent):
            return f"{agent} works again"
        case run_events.BudgetNearing(text=text):
            return f"the budget is nearly used up: {text}"
        case run_events.SpentBefore(usage=usage):
            return f"earlier runs of this mission, whose journals were put aside, used {in_all(usage)}"
        case run_events.ClockJumped(seconds=seconds):
            return f"the machine slept, or its clock was set, for {duration(seconds)}"
        case run_events.ConflictForecast():
            return _conflict(event)
        case run_events.Signaled(number=number, drain=drain, by=by):
            does = "running agents may end, nothing new starts" if drain else "agents are stopped"
            return f"{f'drained by {by}' if by else f'signal {number}'}: {does}"
        case run_events.Ending(reason=reason):
            return f"the run ends: {reason}"
        case run_events.Finalized(merged=merged, accepted=accepted):
            return " and ".join(["merged"] * merged + ["accepted"] * accepted)
        case run_events.HandedOver(pack=pack, file=file):
            return f"handed over as the pack {pack}, {file}: it goes on where that is imported"
        case run_events.Imported(pack=pack, machine=machine):
            return f"goes on here: pack {pack}, from {machine}" if machine else f"taken back: pack {pack}"
        case run_events.Paused() | run_events.Continued() | run_events.SettingsChanged():
            return of_order(event)
        case run_events.Failed(message=message):
            return f"the run ends, because something is broken: {message}"
        case run_events.Notified(title=title, target=target, problem=problem):
            return (
                f"{target} could not be told ({problem}): {title}"
                if problem
                else f"{target} was told: {title}"
            )


def _conflict(event: run_events.ConflictForecast) -> str:
    pair, files = f"{event.wp} and {event.other}", event.files
    if not files:
        return f"{pair} can be merged with each other again"
    named = ", ".join(clean(one, LONGEST_QUOTE) for one in files[:MOST_FILES])
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    stops = (
        f"{event.needed_by}, which needs both, cannot start"
        if event.needed_by
        else "the mission cannot be merged"
    )
    return f"{pair} will conflict in {named}{more}; {stops} until a person merges them"


def _of_wp(event: events.Event, wp: WorkPackage | None, took_s: float) -> str:
    match event:
        case events.Resolving():
            return "spec-kitty is asked for its workspace"
        case events.WorkspaceResolved(workspace=workspace):
            return f"its workspace is {workspace.key}"
        case events.LaneSeen(lane=lane, ready=ready):
            return f"is {lane} on the host" + (", which lets it start without what is canceled" * ready)
        case events.Scheduled(workspace=workspace, ahead=ahead):
            return f"{'is claimed ahead of a slot' if ahead else 'has a slot'}, in {workspace.key}"
        case events.Deferred(reason=reason):
            return f"gave its slot back: {reason}"
        case events.Assigned(role=role, agent=agent, why=why):
            return f"{agent} is to {role}" + (f" ({why})" if why else "")
        case events.Claimed(head=head):
            whose = f" for {wp.taken.by}" if wp is not None and wp.taken is not None else ""
            return f"claimed on the host{whose}; work begins at {short(head)}"
        case events.AttemptOpened(attempt=attempt):
            return _opened(attempt, wp)
        case events.AgentExited():
            return _exited(event, _attempt(wp, event.attempt_id), took_s)
        case events.Committed(evidence=evidence):
            return _committed(evidence, wp)
        case events.CommitRefused(message=message):
            return f"the commit was refused, back to the implementer: {message}"
        case events.GateBegun(name=name, head=head, mark=mark):
            return f"{'' if mark else 'gate '}{name} runs on {short(head)}"
        case events.GatesPassed(results=results):
            if not results:
                return "there are no gates to pass"
            apart = wp is not None and wp.work.uncommitted
            return f"gates green: {_seconds(results)}" + (
                "; they saw files that no commit holds" if apart else ""
            )
        case events.GateFailed(result=result, tail=tail):
            after, said = duration(result.seconds), last_line(tail) or "(no output)"
            return f"gate {result.name} is red after {after}: {said}"
        case events.GateBroken(who=who, reason=reason):
            return f"{who} could not run, a person must look: {reason}"
        case events.GatesStopped():
            return "the gates were stopped, and are to run again"
        case events.HeadMoved(head=head):
            return f"the branch moved to {short(head)}; its gates run there"
        case events.Submitted():
            return "handed over for review"
        case events.SetUp(reason=reason, tail=tail) if reason:
            said = f": {last_line(tail)}" if tail else ""
            return f"the setup of its worktree failed, a person must look: {reason}{said}"
        case events.SetUp(results=results):
            return f"its worktree is set up: {_seconds(results) or 'it was before'}"
        case events.SubtasksTicked(ids=ids):
            return f"ticked {', '.join(ids)}, as the implementer reported"
        case events.ReviewClaimed(head=head):
            return f"review of {short(head)} claimed on the host"
        case events.NothingToReview(head=head):
            return f"no review is paid for: up to {short(head)} the branch holds no work of it"
        case events.Recorded(lane=lane):
            return _recorded(lane)
        case events.Parked(reason=reason):
            return f"{'is left out' if wp is not None and wp.skipped else 'needs you'}: {reason}"
        case events.HostRefused():
            return _refused(event)
        case events.BudgetSpent(reason=reason):
            return f"needs you: {reason}"
        case events.WorkspaceFailed(message=message):
            return f"git or the disk refused: {message}"
        case events.Unblocked(lane=lane):
            return f"is {lane} again on the host"
        case person:
            return of_order(person)


def _attempt(wp: WorkPackage | None, attempt_id: str) -> Attempt | None:
    return next((one for one in wp.attempts if one.id == attempt_id), None) if wp is not None else None


def _opened(attempt: Attempt, wp: WorkPackage | None) -> str:
    numbered = f", attempt {attempt.number}"
    if attempt.role is Role.REVIEW:
        return f"{attempt.agent} reviews {short(attempt.head)}{numbered}"
    does = "reworks it" if wp is not None and wp.work.feedback else "implements"
    continued = ", continuing its session" if attempt.session else ""
    return f"{attempt.agent} {does}{numbered}{continued}"


def _exited(event: events.AgentExited, attempt: Attempt | None, took_s: float) -> str:
    report = event.report
    agent = attempt.agent if attempt is not None else "an agent"
    where = f" on {clean(report.machine, LONGEST_QUOTE)}" if report.machine else ""
    after = f" after {duration(took_s)}" if took_s else ""
    used = f"{where}{after}{_used(report.usage)}" + (
        f" (attempt {attempt.number})" if attempt is not None else ""
    )
    if event.tampered:
        return f"{agent}'s review does not count: {', '.join(event.tampered)}"
    if report.outcome is Outcome.OK and event.verdict is not None:
        return _judged(agent, event.verdict, used)
    said = f": {clean(report.detail, LONGEST_QUOTE)}" if report.detail else ""
    return f"{agent} {ENDS[report.outcome]}{used}{said}"


def _judged(agent: str, verdict: Verdict, used: str) -> str:
    said = f": {clean(verdict.summary, LONGEST_QUOTE)}" if verdict.summary else ""
    if verdict.ruling is Ruling.APPROVED:
        return f"{agent} approved {short(verdict.head)}{used}"
    if verdict.ruling is Ruling.UNUSABLE:
        return f"{agent} gave no usable verdict{used}{said}"
    findings = f" ({count(len(verdict.findings), 'finding')})" if verdict.findings else ""
    return f"{agent} asks for changes of {short(verdict.head)}{used}{said}{findings}"


def spent(usage: Usage) -> str:
    """Write what was used as people count it: the cost, else tokens; "" if nothing is known."""
    if usage.cost_usd is not None:
        return f"${usage.cost_usd:.2f}"
    return f"{tokens(usage.tokens)} tokens" if usage.tokens else ""


def _used(usage: Usage) -> str:
    told = spent(usage)
    return f", {told}" if told else ""


def _committed(found: Evidence, wp: WorkPackage | None) -> str:
    base, head = found.base, found.head
    unchanged = base == head or (wp is not None and wp.attempts and wp.attempts[-1].head == head)
    changed = f": {_changes(last_line(found.stat))}" if "changed" in last_line(found.stat) else ""
    words = "nothing changed, so nothing to commit" if unchanged else f"committed {short(head)}{changed}"
    listed = f"not committed: {', '.join(found.left_out)}"
    return "; ".join((words, *([listed] if found.left_out else ()), *found.notes))


def _changes(summed: str) -> str:
    """Shorten git's ``2 files changed, 8 insertions(+), 1 deletion(-)`` to ``2 files, +8 -1``."""
    found = {word[0]: int(number) for number, word in _CHANGES.findall(summed)}
    files = count(found.get("f", 0), "file")
    return f"{files}, +{found.get('i', 0)} -{found.get('d', 0)}"


def _seconds(results: Iterable[GateResult]) -> str:
    return ", ".join(f"{one.name} {duration(one.seconds)}" for one in results)


def _recorded(lane: Lane) -> str:
    if lane.complete:
        return f"{lane}: approved, and recorded on the host"
    if lane is Lane.BLOCKED:
        return "blocked: the last rejection is recorded on the host"
    return "back to its implementer, recorded on the host"


def _refused(event: events.HostRefused) -> str:
    if is_open_subtasks(event):
        return "subtasks are not ticked yet"
    if event.code in (events.NO_REPLY, events.CRASHED):
        return f"the host gave no answer to {event.call} (the lane is {event.lane}): {event.message}"
    return f"the host refused {event.call} (the lane is {event.lane}): {event.message}"
