"""The transitions that several edges share: take up, open attempts, follow failures, send back, park."""

from collections.abc import Mapping

from spec_kitty_orchestrator.core.commands import Resolve, Wait
from spec_kitty_orchestrator.core.describe import ENDS
from spec_kitty_orchestrator.core.events import AgentExited, Assigned, AttemptOpened, BudgetSpent, Event
from spec_kitty_orchestrator.core.model import Attempt, Lane, Outcome, Phase, Result, Role, Workspace
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.retry import UNCHARGED, Fallback, Retry, next_move
from spec_kitty_orchestrator.core.roles import approvals, ask_all, order, pass_over
from spec_kitty_orchestrator.core.verdict import Feedback
from spec_kitty_orchestrator.core.work_package import Bounds, Turn, WorkPackage, bounded, unvoted, worked

__all__ = [
    "MOST_MOVES",
    "NOT_OURS",
    "SETTLED",
    "UNTOLD",
    "Next",
    "after_failure",
    "assigned",
    "changed_nothing",
    "charged",
    "enter",
    "finish",
    "implement",
    "is_fallback",
    "is_ours",
    "opened",
    "park",
    "reopen",
    "rework",
    "session_for",
    "skip_fallback",
    "spared",
    "spent",
    "why_another",
    "why_by_hand",
    "without_sessions",
]

Next = WorkPackage | tuple[WorkPackage, Wait | Resolve]
"""What an edge makes of a work package; a command comes with it where the state alone does not tell."""

MOST_MOVES = 5
"""Moves of a lane or branch by others that one start follows: each may cost another agent run."""

UNTOLD = "; the host was not told: "
"""Between why a work package is parked and why the host could not be told."""

NOT_OURS = "somebody else moved it to {} while we worked on it; no review of ours approved it"
"""Why a work package in a complete lane is not taken for reviewed."""

SETTLED = (Lane.APPROVED, Lane.DONE, Lane.BLOCKED, Lane.CANCELED)
"""Lanes in which a work package needs nothing of us."""


MOST_UNCHANGED = 2
"""Attempts of one agent in a row that change nothing: the second one was told so."""

MOST_CANCELED = 5
"""Stopped attempts within one start that are followed by another: a bound, as they are not charged."""


def enter(wp: WorkPackage) -> WorkPackage:
    """Take up a work package where its lane says that it stands."""
    if wp.workspace is not None and (reason := why_by_hand(wp.workspace, wp.lane, ours=is_ours(wp))):
        return finish(wp, Result.PARKED, reason)
    match wp.lane:
        case Lane.PLANNED | Lane.CLAIMED | Lane.IN_PROGRESS:
            return replace(wp, phase=Phase.CLAIMING)
        case Lane.FOR_REVIEW:
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        case Lane.IN_REVIEW:
            if not wp.work.base:
                reason = "in review by somebody else; we never take a review over that we did not start"
                return finish(wp, Result.FOREIGN, reason)
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        case Lane.APPROVED | Lane.DONE:
            return finish(wp, Result(wp.lane.value), f"{wp.lane} without a review by this run")
        case Lane.BLOCKED if wp.unblocks:
            return wp
        case Lane.BLOCKED:
            # What is noted is of another time: whoever blocked it did so on the host.
            return finish(wp, Result.BLOCKED, "blocked on the host")
        case Lane.CANCELED:
            return finish(wp, Result.CANCELED, "canceled on the host")


def is_ours(wp: WorkPackage) -> bool:
    """Tell whether we began to implement a work package, or asked for it while it was planned."""
    return bool(wp.work.base) or (wp.work.ours and wp.lane in (Lane.CLAIMED, Lane.IN_PROGRESS))


def why_by_hand(space: Workspace, lane: Lane, *, ours: bool = False, here: str | None = None) -> str:
    """Say why a work package that is a planning artifact is left to a person, "" if it is not.

    Args:
        space: where it is worked on.
        lane: in which it is.
        ours: whether we began it.
        here: the branch that is checked out in the primary checkout, None to leave that out.
    """
    if not space.planning or lane in SETTLED:
        return ""
    if not space.target:
        return "a planning artifact, and the mission's meta.json does not name the branch that it belongs on"
    if here is not None and here != space.target:
        found = f"{here} is checked out" if here else "no branch is checked out"
        return f"a planning artifact, which belongs on {space.target}, but {found} in the primary checkout"
    if lane is not Lane.PLANNED and not ours:
        return (
            f"a planning artifact that somebody else has {lane}: its commits are on {space.target} among "
            "others, so a person must review them and tell the host"
        )
    return ""


def finish(wp: WorkPackage, result: Result, note: str) -> WorkPackage:
    """Let a work package leave the run."""
    return replace(wp, phase=Phase.FINISHED, result=result, note=note)


def park(wp: WorkPackage, reason: str, *, blocks: bool) -> WorkPackage:
    """Leave a work package to a person; `blocks` tells the host too, which a review must not.

    An attempt that is still open is given up: nobody would wait for its end.
    """
    lost = (Outcome.LOST,) if wp.open_attempt is not None else ()
    return replace(
        bounded(wp, tries=0), phase=Phase.PARKING, note=reason, blocks=blocks, outcomes=(*wp.outcomes, *lost)
    )


def charged(wp: WorkPackage) -> int:
    """Count the implement attempts that say something about the work."""
    made = (one for one, outcome in wp.ended_attempts if outcome not in UNCHARGED)
    return sum(one.role is Role.IMPLEMENT and one.id not in wp.bounds.spared for one in made)


def rework(wp: WorkPackage, feedback: Feedback | None, policy: Policy) -> WorkPackage:
    """Send a work package to its implementer again, or park it when the attempts are used up."""
    if feedback is not None:
        wp = worked(wp, feedback=(*wp.work.feedback, feedback))
    return implement(wp, feedback.text if feedback is not None else wp.note, policy)


def changed_nothing(wp: WorkPackage, feedback: Feedback, why: str, policy: Policy) -> WorkPackage:
    """Ask an implementer once more that handed in what was there before, then the next one, then a person.

    `why` tells a person what is wrong with it.
    """
    agent = wp.attempts[-1].agent if wp.attempts else ""
    wp = bounded(wp, unchanged=(*wp.bounds.unchanged, agent))
    if wp.bounds.unchanged.count(agent) >= MOST_UNCHANGED:
        if not any(one != agent for one in order(wp, Role.IMPLEMENT, policy)):
            times = len(wp.bounds.unchanged)
            return park(wp, f"{times} attempts in a row changed nothing, last by {agent}: {why}", blocks=True)
        wp = pass_over(wp, Role.IMPLEMENT, agent)
    return rework(wp, feedback, policy)


def implement(wp: WorkPackage, why: str, policy: Policy) -> WorkPackage:
    """Open another implement attempt, or park the work package when they are used up; `why` is for people."""
    if charged(wp) >= policy.max_attempts:
        last = why.strip().partition("\n")[0]
        return park(wp, f"not finished in {policy.max_attempts} attempts: {last}", blocks=True)
    if policy.review_quorum > 1:
        # Several must approve, so none of them is passed over for what went wrong with another commit.
        wp = ask_all(wp, Role.REVIEW)
    wp = worked(wp, to_tick=(), ticked=False, pending=None, by="")
    return replace(unvoted(bounded(wp, tries=0, unusable=0)), phase=Phase.IMPLEMENTING)


def reopen(wp: WorkPackage) -> WorkPackage:
    """Make a work package that left an earlier start wait for its turn again, with fresh bounds."""
    # A recorded verdict is used up: if a person undoes it, only another review can approve again.
    wp = wp if wp.result is Result.PARKED else unvoted(wp)
    if wp.workspace is not None and wp.workspace.planning and not wp.workspace.target:
        # A person may have written down where it belongs.
        wp = replace(wp, workspace=None)
    bounds = Bounds(attempts_from=len(wp.attempts), rejected_from=len(wp.review.rejected))
    # Whatever was red, or refused a commit, may have been mended outside of the work.
    wp = worked(wp, red=(), refused=None)
    wp = replace(wp, result=None, taken=None, skipped=wp.skipped and wp.untold, bounds=bounds)
    if wp.untold:
        return replace(wp, phase=Phase.PARKING, untold=False, note=wp.note.partition(UNTOLD)[0])
    # Finished work goes on where it waits: nobody pays for it again.
    return replace(wp, phase=wp.work.pending or Phase.WAITING, note="")


def assigned(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Let an agent make the next attempt."""
    assert isinstance(event, Assigned)
    turn = Turn(wp.turn.grant, event.agent, assigned=True, max_cost_usd=event.max_cost_usd)
    return replace(wp, turn=turn)


def opened(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Note that an attempt has an id and a directory."""
    assert isinstance(event, AttemptOpened)
    turn = replace(wp.turn, agent=event.attempt.agent, assigned=False)
    return replace(wp, attempts=(*wp.attempts, event.attempt), turn=turn)


def spent(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Leave a work package that may cost no more to a person; its work is committed or saved."""
    assert isinstance(event, BudgetSpent)
    return park(wp, event.reason, blocks=wp.phase is Phase.IMPLEMENTING)


def without_sessions(wps: Mapping[str, WorkPackage]) -> Mapping[str, WorkPackage]:
    """Forget the sessions of agents: their CLIs keep them where they ran."""
    return {wp.id: worked(wp, sessions={}) for wp in wps.values()}


def session_for(wp: WorkPackage, agent: str, policy: Policy) -> str:
    """Return the session that an agent's next implement attempt goes on with, "" for a new one."""
    if not policy.session_resume or agent not in policy.resuming:
        return ""
    return wp.work.sessions.get(agent, "")


def after_failure(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    """Decide what follows an attempt that is closed and did not end `ok`."""
    attempt, report = wp.attempts[-1], event.report
    reviewing = attempt.role is Role.REVIEW
    if report.outcome is Outcome.CANCELED:
        return _canceled(wp)
    if attempt.session and report.outcome is Outcome.INVALID_REQUEST:
        # It may be the session that is refused: the next attempt begins a new one.
        note = f"{attempt.agent} could not go on with its session: {report.detail}"
        return rework(replace(wp, note=note), None, policy)
    wp = replace(wp, note=f"{attempt.agent} ended {report.outcome}: {report.detail}".rstrip(": "))
    if report.outcome is Outcome.RATE_LIMITED:
        # Its agent rests for everybody; the work package is as ready for an attempt as before.
        return wp
    if report.outcome is Outcome.BUDGET and attempt.max_cost_usd is not None:
        # The limit was ours: the agent has not failed, and the budget says whether it goes on.
        return wp
    others = sum(one != attempt.agent for one in order(wp, attempt.role, policy))
    # Who must agree with the others is replaced only where enough are left.
    more = others > 0 and (not reviewing or len(approvals(wp, policy)) + others >= policy.review_quorum)
    move = next_move(report.outcome, _failures(wp), more, policy, attempt.id)
    if not isinstance(move, Retry) and is_fallback(wp, attempt, policy):
        wp, move = skip_fallback(wp, attempt), Retry(0.0)
    if not isinstance(move, Retry | Fallback):
        return park(wp, f"{wp.note}; {move.reason}", blocks=not reviewing)
    if not reviewing:
        wp = rework(wp, None, policy)
    if wp.phase is Phase.PARKING:
        return wp
    if isinstance(move, Fallback):
        return pass_over(wp, attempt.role, attempt.agent)
    return (wp, Wait(wp.note, move.after_s)) if move.after_s > 0 else wp


def spared(before: WorkPackage, wp: WorkPackage) -> WorkPackage:
    """Leave a work package as ready for an attempt as it was before: its agent is broken, not the work."""
    last = wp.attempts[-1]
    bounds = replace(before.bounds, spared=(*before.bounds.spared, last.id))
    note = f"{last.agent} {ENDS[wp.outcomes[-1]]}, as for other work packages"
    return replace(wp, phase=before.phase, bounds=bounds, blocks=before.blocks, note=note)


def is_fallback(wp: WorkPackage, attempt: Attempt, policy: Policy) -> bool:
    """Tell whether an attempt was made in the place of an agent that rests."""
    return attempt.agent in order(wp, attempt.role, policy)[1:]


def skip_fallback(wp: WorkPackage, attempt: Attempt) -> WorkPackage:
    """Use this fallback no more before an attempt ends well; the agent whose turn it is has not failed."""
    return bounded(wp, skipped_fallbacks=(*wp.bounds.skipped_fallbacks, attempt.agent))


def _canceled(wp: WorkPackage) -> WorkPackage:
    """Open another attempt: whoever stopped this one usually ends the run before that."""
    if wp.halted:
        # A person wants that, who says what follows.
        return wp
    tries = wp.bounds.tries
    if tries >= MOST_CANCELED:
        return park(wp, f"{wp.attempts[-1].agent} was stopped {tries + 1} times", blocks=False)
    return bounded(wp, tries=tries + 1)


def _failures(wp: WorkPackage) -> int:
    """Count the failures of the last agent in its role since an attempt of that role ended `ok`."""
    last, count = wp.attempts[-1], 0
    for attempt, outcome in reversed(wp.ended_attempts):
        if attempt.role is not last.role or outcome is Outcome.OK:
            break
        failed = (
            outcome not in (Outcome.CANCELED, Outcome.RATE_LIMITED) and attempt.id not in wp.bounds.spared
        )
        count += attempt.agent == last.agent and failed
    return count


def why_another(wp: WorkPackage, role: Role, agent: str) -> str:
    """Say why a work package needs another attempt, and why by this agent; "" for the first of its role."""
    made = [
        (one, outcome) for one, outcome in zip(wp.attempts, wp.outcomes, strict=False) if one.role is role
    ]
    if not made:
        return ""
    last, outcome = made[-1]
    if role is Role.IMPLEMENT and wp.work.feedback:
        reason = f"rework: {wp.work.feedback[-1].source} asks for changes"
    elif outcome is not Outcome.OK:
        reason = f"again: {last.agent} {ENDS[outcome]}"
    elif role is Role.REVIEW and last.head == wp.work.head:
        reason = "another review of the same commit"
    else:
        reason = "a new commit" if role is Role.REVIEW else "rework"
    return reason if agent == last.agent else f"{reason}; {agent} instead of {last.agent}"
