"""What people may order of a run, and what an order means in its state: an event, or why it is refused.

The same holds for a run that is active and for a command under the lock of a mission without one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from signal import SIGTERM
from typing import Literal

from spec_kitty_orchestrator.core import pauses, people
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.limits import closing_reason
from spec_kitty_orchestrator.core.model import Lane, Phase, Role
from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
    Told,
)
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.run_events import AnyEvent, Continued, Paused, SettingsChanged, Signaled
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.scheduler import unmet
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = [
    "LONGEST_NOTE",
    "Approve",
    "Changed",
    "Continue",
    "Drain",
    "Given",
    "HandBack",
    "Meant",
    "Order",
    "Pause",
    "Refused",
    "Retry",
    "Set",
    "Skip",
    "Stop",
    "TakeOver",
    "Tell",
    "meaning",
]

LONGEST_NOTE = 4000
"""Characters of a note, which goes into prompts and onto the host."""


@dataclass(frozen=True)
class Pause:
    """Let nothing new begin: of an `agent`, of the work package `wp`, or else of the whole run."""

    agent: str = ""
    wp: str = ""
    kind: Literal["pause"] = "pause"


@dataclass(frozen=True)
class Continue:
    """End a pause, or let a stopped work package go on; fields as of `Pause`."""

    agent: str = ""
    wp: str = ""
    kind: Literal["continue"] = "continue"


@dataclass(frozen=True)
class Stop:
    """Stop what is at work on a work package and pause it."""

    wp: str
    kind: Literal["stop"] = "stop"


@dataclass(frozen=True)
class Retry:
    """Put a parked, blocked or stopped work package back to work; `note` is for its implementer."""

    wp: str
    note: str = ""
    kind: Literal["retry"] = "retry"


@dataclass(frozen=True)
class Skip:
    """Leave a work package out; what is at work on it is stopped first. `note` says why."""

    wp: str
    note: str = ""
    kind: Literal["skip"] = "skip"


@dataclass(frozen=True)
class Tell:
    """Put a note into the next prompt of a work package; `now` stops who is at work, for that to begin."""

    wp: str
    note: str
    now: bool = False
    kind: Literal["tell"] = "tell"


@dataclass(frozen=True)
class Set:
    """Change settings of the run, by their names, as they are written on a command line."""

    changes: Mapping[str, str]
    kind: Literal["set"] = "set"


@dataclass(frozen=True)
class Drain:
    """Start nothing more, let running attempts end, and end the run."""

    kind: Literal["drain"] = "drain"


@dataclass(frozen=True)
class TakeOver:
    """Give a work package to the person of this `name`; what is at work on it is stopped first."""

    wp: str
    name: str
    kind: Literal["takeover"] = "takeover"


@dataclass(frozen=True)
class HandBack:
    """Put a work package that a person took over back into the run; fields as of the event `HandedBack`."""

    wp: str
    name: str
    note: str = ""
    subtasks: tuple[str, ...] = ()
    kind: Literal["handback"] = "handback"


@dataclass(frozen=True)
class Approve:
    """Take a person's approval; fields as of the event `ApprovedByPerson`."""

    wp: str
    name: str
    head: str
    note: str
    base: str = ""
    kind: Literal["approve"] = "approve"


Order = Pause | Continue | Stop | Retry | Skip | Tell | Set | Drain | TakeOver | HandBack | Approve
"""Any order of a person; the key that orders work packages is `spec_kitty_orchestrator.Order`."""


@dataclass(frozen=True)
class Given:
    """An order, who gave it, and its id, "" where no run is active."""

    order: Order
    by: str
    id: str = ""


@dataclass(frozen=True)
class Meant:
    """The event that an order means, None if it was carried out before.

    Attributes:
        wp_id: the work package that it happens to, "" for the run.
        answer: what the person is told once it has happened.
    """

    event: AnyEvent | None
    answer: str
    wp_id: str = ""


@dataclass(frozen=True)
class Refused:
    """An order that is not carried out; `answer` says why."""

    answer: str


@dataclass(frozen=True)
class Changed:
    """What settings become with the changes of an order.

    Attributes:
        settings: the whole `[run]` table, as a journal keeps it.
        policy: that follows from it.
    """

    settings: Mapping[str, object] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy((), ()))


def meaning(state: RunState, given: Given, changed: Changed | None = None) -> Meant | Refused:
    """Return what an order means in a state of the run, or why it is refused.

    Args:
        state: of the run; one of which none is active has no id in `given`.
        given: the order.
        changed: what becomes of the settings; of `Set` alone.
    """
    order = given.order
    if given.id in state.orders:
        return Meant(None, "it was carried out before the run was cut off, and holds")
    if given.id and state.closing:
        return Refused(f"the run ends: {closing_reason(state)}")
    match order:
        case Pause():
            return _pause(state, given, order)
        case Continue():
            return _continue(state, given, order)
        case Drain():
            told = "nothing new begins; the run ends once what is at work has ended"
            return Meant(Signaled(int(SIGTERM), drain=True, by=given.by, order=given.id), told)
        case Set(changes=changes):
            assert changed is not None
            told = ", ".join(f"{name}={value}" for name, value in changes.items())
            event = SettingsChanged(given.by, changes, changed.settings, changed.policy, given.id)
            return Meant(event, f"{told} from now on, also after a resume")
    wp = state.wps.get(order.wp)
    if wp is None:
        return Refused(_unknown(state, order.wp))
    if (wp.lane.complete and wp.phase is Phase.FINISHED) or wp.lane is Lane.CANCELED:
        left = {"tell": "tell", "stop": "stop"}.get(order.kind, "decide about it")
        return Refused(f"{wp.id} is {wp.lane}: nothing is left to {left}")
    match order:
        case Stop():
            return _stop(given, wp)
        case Retry():
            return _retry(state, given, order, wp)
        case Skip(note=note):
            return _skip(given, note, wp)
        case Tell():
            return _tell(state, given, order, wp)
        case TakeOver() | HandBack() | Approve():
            return _of_person(state, given, order, wp)


def _pause(state: RunState, given: Given, order: Pause) -> Meant | Refused:
    if why := _nobody(state, order):
        return Refused(why)
    known = next((one for one in state.pauses if one.of == (order.agent, order.wp)), None)
    what = order.agent or order.wp or "the run"
    if known is not None:
        return Refused(f"{what} is {known.told(given.by)}: nothing new begins anyway")
    at_work = [one.id for one in state.at_work if _is_of(one, order)]
    goes_on = f"; what is at work goes on to the end of its attempt ({', '.join(at_work)})" if at_work else ""
    lasting = pauses.Pause("", state.now or _ANY, order.agent, order.wp).ended_by
    told = f"{what} is paused{goes_on}; `{lasting}` goes on"
    return Meant(Paused(given.by, order.agent, order.wp, given.id), told)


_ANY = datetime(1970, 1, 1, tzinfo=UTC)


def _is_of(wp: WorkPackage, order: Pause) -> bool:
    by = wp.open_attempt.agent if wp.open_attempt is not None else ""
    return order.wp in ("", wp.id) and order.agent in ("", by)


def _nobody(state: RunState, order: Pause) -> str:
    """Say why there is nothing that could be paused by an order, "" if there is."""
    agents = (*state.policy.impl_agents, *state.policy.review_agents)
    if order.agent and agents and order.agent not in agents:
        return f"no agent {order.agent} is of this run; it has {', '.join(dict.fromkeys(agents))}"
    if order.wp and order.wp not in state.wps:
        return _unknown(state, order.wp)
    wp = state.wps.get(order.wp)
    if wp is not None and wp.phase is Phase.FINISHED:
        return f"{wp.id} has left the run ({wp.lane}): nothing of it would begin"
    return ""


def _unknown(state: RunState, wp_id: str) -> str:
    here = f"; it has {', '.join(state.wps)}" if state.wps else ""
    return f"no work package {wp_id} is known of this mission{here}"


def _continue(state: RunState, given: Given, order: Continue) -> Meant | Refused:
    what = order.agent or order.wp or "the run"
    if any(one.of == (order.agent, order.wp) for one in state.pauses):
        others = pauses.without(state.pauses, order.agent, order.wp)
        still = f"; {_listed(others, 'is still paused')}" if others else ""
        return Meant(Continued(given.by, order.agent, order.wp, given.id), f"{what} goes on{still}")
    if not state.pauses:
        return Refused("nothing is paused")
    return Refused(f"{what} is not paused; {_listed(state.pauses, 'is')}")


def _listed(found: pauses.Pauses, how: str) -> str:
    return ", ".join(f"{one.agent or one.wp or 'the run'} {how} (`{one.ended_by}`)" for one in found)


def _stop(given: Given, wp: WorkPackage) -> Meant | Refused:
    if wp.phase is Phase.FINISHED:
        return Refused(f"{wp.id} has left the run: nothing is at work on it")
    until = f"its work is kept; `continue {wp.id}` goes on"
    attempt = wp.open_attempt
    if attempt is not None:
        told = f"{attempt.agent} is stopped on {wp.id}; {until}"
    elif wp.at_work or wp.work.gates_begun:
        told = f"{wp.id} is stopped; {until}"
    else:
        told = f"{wp.id} is paused, nothing is at work on it; {until}"
    return Meant(Stopped(given.by, given.id), told, wp.id)


def _retry(state: RunState, given: Given, order: Retry, wp: WorkPackage) -> Meant | Refused:
    left = wp.phase in (Phase.FINISHED, Phase.PARKING) or wp.lane is Lane.BLOCKED
    paused = any(one.wp == wp.id for one in state.pauses)
    if given.id and wp.at_work:
        soon = "is being left to a person; try again in a moment"
        how = f"is at work: `tell {wp.id}` says something to it, `stop {wp.id}` stops it"
        return Refused(f"{wp.id} {soon if wp.phase is Phase.PARKING else how}")
    if not left and not paused:
        return Refused(f"{wp.id} is neither parked nor blocked ({wp.lane}, {wp.phase}): it goes on anyway")
    told = (
        f"{wp.id} is back to work, with fresh limits of attempts and rejections"
        if left
        else f"{wp.id} goes on"
    )
    return Meant(Retried(order.note, given.by, given.id), told, wp.id)


def _skip(given: Given, note: str, wp: WorkPackage) -> Meant | Refused:
    if wp.skipped or wp.leaves:
        return Refused(f"{wp.id} is left out already")
    attempt = wp.open_attempt if given.id else None
    after = f", once {attempt.agent} has been stopped" if attempt is not None else ""
    told = f"{wp.id} is left out{after}; `retry {wp.id}` takes it in again"
    return Meant(Skipped(wp.lane, note, given.by, given.id), told, wp.id)


def _of_person(
    state: RunState, given: Given, order: TakeOver | HandBack | Approve, wp: WorkPackage
) -> Meant | Refused:
    event: TakenOver | HandedBack | ApprovedByPerson
    match order:
        case TakeOver(name=name):
            first = tuple(unmet(state, wp)) if wp.lane in (Lane.PLANNED, Lane.CLAIMED) else ()
            why = people.why_not_taken(wp, first, name)
            attempt = wp.open_attempt
            after = f" once {attempt.agent} has been stopped; its work is kept" if attempt is not None else ""
            told, event = f"{wp.id} is yours, {name}{after}", TakenOver(name, given.id)
        case HandBack(name=name, note=note, subtasks=subtasks):
            why = people.why_not_handed_back(wp, name)
            told = f"{wp.id} is back in the run: your work is committed, then come its gates and its review"
            event = HandedBack(name, note, subtasks, given.id)
        case Approve(name=name, head=head, note=note, base=base):
            why = people.why_not_approved(wp, state.policy, name) or people.why_other_commit(wp, head)
            told = f"{name} approved {short(head)} of {wp.id}; the host is told once its gates have passed"
            event = ApprovedByPerson(name, head, note, base, given.id)
    return Refused(why) if why else Meant(event, told, wp.id)


def _tell(state: RunState, given: Given, order: Tell, wp: WorkPackage) -> Meant | Refused:
    if wp.phase in (Phase.FINISHED, Phase.PARKING):
        why = f"{wp.id} waits for a person, so nothing follows: `retry {wp.id} --note …` puts it back to work"
        return Refused(why)
    verdict = wp.review.verdict
    if wp.phase is Phase.RECORDING and verdict is not None and verdict.ruling is Ruling.APPROVED:
        return Refused(f"{wp.id} is approved and only to be recorded: nothing is left to tell")
    event = Told(order.note, order.now, given.by, given.id)
    attempt = wp.open_attempt
    if attempt is None:
        return Meant(event, f"it is in the next prompt of {wp.id}", wp.id)
    if order.now:
        paused = pauses.of_work_package(state.pauses, wp.id)
        then = f"once `{paused.ended_by}` goes on" if paused else "at once"
        return Meant(event, f"{attempt.agent} is stopped on {wp.id}, and told {then}", wp.id)
    if attempt.role is Role.REVIEW:
        told = (
            f"it is in the next prompt of {wp.id}, if its review asks for changes; `tell {wp.id} --now` "
            "would have it reviewed anew with that"
        )
        return Meant(event, told, wp.id)
    return Meant(event, f"it is in the next prompt of {wp.id}, its reviewer's at the latest", wp.id)
