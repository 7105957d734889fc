"""What a person does to a work package: take it over, hand it back, approve it; and why that may not be."""

from spec_kitty_orchestrator.core.commands import Command
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.core.model import ImplementReport, Lane, Outcome, Phase, Result, Taken
from spec_kitty_orchestrator.core.operator_events import ApprovedByPerson, HandedBack, TakenOver
from spec_kitty_orchestrator.core.pauses import Pause, Pauses, begins, of_work_package
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.reviewing import gated
from spec_kitty_orchestrator.core.transitions import SETTLED, Next, is_ours, reopen, why_by_hand
from spec_kitty_orchestrator.core.verdict import BY_PERSON, Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, reviewed, unvoted, worked

__all__ = [
    "approved_by_person",
    "handed_back",
    "held_by_pause",
    "reached",
    "taken_over",
    "tells_host",
    "why_not_approved",
    "why_not_handed_back",
    "why_not_taken",
    "why_other_commit",
]


def tells_host(wp: WorkPackage) -> bool:
    """Tell whether the host is to be told that a person has it, or has it no more, whatever its lane."""
    ends = wp.lane.complete or wp.lane is Lane.CANCELED
    given = wp.taken is not None or (bool(wp.work.by) and wp.work.pending is Phase.COMMITTING)
    return wp.phase is Phase.CLAIMING and given and not ends


def held_by_pause(wp: WorkPackage, command: Command, paused: Pauses) -> Pause | None:
    """Return the pause that a command waits for; nothing that is to be stopped or given to a person does."""
    if wp.halted or tells_host(wp) or not begins(command):
        return None
    return of_work_package(paused, wp.id)


def taken_over(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Let a person work on it: the host is told, and then it has left the run until it is handed back."""
    assert isinstance(event, TakenOver)
    at_work = event.order and (wp.at_work or wp.open_attempt is not None or wp.work.gates_begun)
    wp = replace(wp, taken=Taken(event.by))
    return replace(wp, halted=True) if at_work else reached(wp)


def reached(wp: WorkPackage) -> WorkPackage:
    """Let the host be told that a person has it, now that nothing is at work on it any more."""
    if wp.phase is Phase.FINISHED and (wp.lane.complete or wp.lane is Lane.CANCELED):
        # What was at work completed it.
        return replace(wp, taken=None)
    taken = wp.taken
    if wp.phase is Phase.FINISHED:
        wp = reopen(replace(wp, untold=False))
    lost = (Outcome.LOST,) if wp.open_attempt is not None else ()
    wp = worked(unvoted(bounded(wp, tries=0)), pending=None, to_tick=(), gates_begun=(), by="")
    wp = replace(wp, outcomes=(*wp.outcomes, *lost), skipped=False, untold=False, unblocks="")
    return replace(wp, phase=Phase.CLAIMING, taken=taken, note=taken.told if taken is not None else "")


def handed_back(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Commit what the person left and go on as after an attempt, with fresh bounds; it is no attempt."""
    assert isinstance(event, HandedBack)
    wp = replace(unvoted(reopen(wp)), phase=Phase.CLAIMING, note=f"handed back by {event.by}")
    report = ImplementReport(event.subtasks, event.note, event.note)
    people = tuple(dict.fromkeys((*wp.work.people, event.by)))
    wp = worked(wp, pending=Phase.COMMITTING, feedback=(), report=report, to_tick=(), ticked=False)
    return worked(wp, by=event.by, people=people)


def approved_by_person(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Take a person's approval for as good as that of all reviewers; gates must have passed as for theirs."""
    assert isinstance(event, ApprovedByPerson)
    verdict = Verdict(Ruling.APPROVED, event.head, BY_PERSON, event.by, event.note)
    if wp.phase is Phase.FINISHED:
        wp = reopen(wp)
    tree = wp.work.tree if wp.work.head == event.head else ""
    wp = worked(wp, base=wp.work.base or event.base, head=event.head, tree=tree, pending=None, feedback=())
    wp = replace(reviewed(wp, votes=(verdict,), verdict=None), note=f"{event.by} approved {event.head}")
    wp = replace(wp, taken=None, unblocks="")
    if wp.lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        return gated(wp, Phase.REVIEWING, policy)
    # Its gates run once it is for review.
    return replace(wp, phase=Phase.SUBMITTING)


def why_not_taken(wp: WorkPackage, unmet: tuple[str, ...], by: str) -> str:
    """Say why a person may not take a work package over, "" if nothing is in the way.

    `unmet` are the dependencies that it waits for.
    """
    if wp.taken is not None:
        mine = f"hand it back with `handback {wp.id}`" if wp.taken.by == by else "only one can have it"
        return f"{wp.id} is {wp.taken.told}: {mine}"
    if wp.result is Result.FOREIGN:
        return f"{wp.id} is {wp.note or wp.result}: it is not this run's to give away"
    if unmet:
        return f"{wp.id} cannot be begun before {', '.join(unmet)}"
    planning = wp.workspace is not None and why_by_hand(wp.workspace, wp.lane, ours=is_ours(wp))
    return f"{wp.id} is {planning}" if planning else _over(wp)


def why_not_handed_back(wp: WorkPackage, by: str) -> str:
    """Say why a person may not hand a work package back, "" if nothing is in the way."""
    if wp.taken is None:
        return f"{wp.id} was not taken over: `takeover {wp.id}` does that"
    if wp.taken.by != by:
        return f"{wp.id} is {wp.taken.told}, not by {by}: name who hands it back with --as"
    if wp.phase is not Phase.FINISHED:
        return f"the host was not told yet that {wp.id} is {wp.taken.told}: `resume` tells it"
    return _over(wp)


def why_not_approved(wp: WorkPackage, policy: Policy, by: str) -> str:
    """Say why a person may not approve the recorded commit of a work package, "" if nothing is in the way."""
    names = {one.casefold() for one in (*policy.impl_agents, *policy.review_agents, *policy.families)}
    if by.casefold() in names:
        return f"{by} is the name of an agent: a person approves under a name of their own"
    if wp.open_attempt is not None and wp.phase is not Phase.FINISHED:
        agent, number = wp.open_attempt.agent, wp.open_attempt.number
        return f"{wp.id} has an attempt that is not over ({number}, by {agent}): `stop {wp.id}` stops it"
    if wp.at_work:
        return f"{wp.id} is at work ({wp.phase}): wait until it is under review, or needs you"
    if wp.lane in (Lane.PLANNED, Lane.CLAIMED):
        return f"{wp.id} is {wp.lane} on the host: there is nothing to review yet"
    if wp.lane is Lane.IN_PROGRESS and wp.phase is not Phase.FINISHED:
        return f"{wp.id} is {wp.lane}, {wp.phase}: its work is not finished yet"
    if wp.result is Result.FOREIGN:
        return f"{wp.id} is {wp.note or wp.result}"
    own = by.casefold() in {one.casefold() for one in wp.work.people}
    if own and policy.independent_review:
        return f"{by} handed back work on {wp.id}, and reviews must be independent: somebody else approves it"
    return _over(wp)


def why_other_commit(wp: WorkPackage, head: str, asked: str = "", uncommitted: tuple[str, ...] = ()) -> str:
    """Say why what is at `head` in the worktree is not what a person approves, "" if it is.

    Args:
        wp: with the commit that is recorded as its work, if one is.
        head: where the worktree stands.
        asked: the commit that the person names, as far as it was written; "" for none.
        uncommitted: paths in the worktree that are in no commit.
    """
    if not head:
        return f"the commit of {wp.id} cannot be read"
    if wp.work.head and wp.work.head != head:
        recorded = short(wp.work.head)
        return f"{wp.id} moved: its worktree is at {short(head)}, and what was made and gated is {recorded}"
    if asked and not (len(asked) >= 7 and head.startswith(asked.lower())):
        return f"{wp.id} is at {short(head)}, not at {asked}"
    if uncommitted:
        named = ", ".join(uncommitted[:3]) + (" and more" if len(uncommitted) > 3 else "")
        return f"the worktree of {wp.id} holds what is in no commit, so cannot be approved: {named}"
    return ""


def _over(wp: WorkPackage) -> str:
    over = wp.lane in SETTLED and wp.lane is not Lane.BLOCKED
    return f"{wp.id} is {wp.lane} on the host: there is nothing left to decide about it" if over else ""
