"""What people have paused: a fold of their orders that every start goes on with.

A pause keeps new work from beginning; what is at work goes on to the end of its attempt.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    OpenAttempt,
    PrepareWorkspace,
    RunGates,
)
from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
)
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.run_events import AnyEvent, Continued, Paused

__all__ = [
    "Pause",
    "Pauses",
    "among",
    "begins",
    "following",
    "of_agent",
    "of_run",
    "of_work_package",
    "without",
]


@dataclass(frozen=True)
class Pause:
    """A pause of an agent, of a work package, or else of the whole run.

    Attributes:
        by: the user who gave the order.
        at: when.
        stopped: whether what was at work was stopped, too.
    """

    by: str
    at: datetime
    agent: str = ""
    wp: str = ""
    stopped: bool = False

    @property
    def of(self) -> tuple[str, str]:
        """That of which it is, an agent or a work package, ("", "") for the run."""
        return self.agent, self.wp

    @property
    def ended_by(self) -> str:
        """The order that ends it."""
        return f"continue --agent {self.agent}" if self.agent else f"continue {self.wp}".rstrip()

    def told(self, you: str = "") -> str:
        """Say who paused it and when; who reads it, if that is known, is addressed."""
        by = "you" if you and self.by == you else self.by or "a person"
        return f"{'stopped' if self.stopped else 'paused'} by {by} at {self.at.astimezone(UTC):%H:%M} UTC"

    @property
    def reason(self) -> str:
        """Say what is waited for."""
        who = f"{self.agent} is " if self.agent else ""
        return f"{who}{self.told()}; `{self.ended_by}` goes on"

    def sentence(self, you: str) -> str:
        """Say the same to a person, as a sentence."""
        what = self.agent or self.wp or "The run"
        return f"{what} is {self.told(you)}: nothing new of it begins"


Pauses = tuple[Pause, ...]
"""All that are in force, oldest first."""


def following(pauses: Pauses, wp_id: str, event: AnyEvent, at: datetime) -> Pauses:
    """Return what is paused once `event` happened."""
    match event:
        case Paused():
            return (*without(pauses, event.agent, event.wp), Pause(event.by, at, event.agent, event.wp))
        case Stopped():
            return (*without(pauses, "", wp_id), Pause(event.by, at, "", wp_id, stopped=True))
        case Continued():
            return without(pauses, event.agent, event.wp)
        case Retried() | Skipped() | TakenOver() | HandedBack() | ApprovedByPerson():
            return without(pauses, "", wp_id)
        case _:
            return pauses


def without(pauses: Pauses, agent: str, wp: str) -> Pauses:
    """Return the pauses but that of an agent, of a work package, or of the run."""
    return tuple(one for one in pauses if one.of != (agent, wp))


def of_run(pauses: Pauses) -> Pause | None:
    """Return the pause of the whole run, None if it is not paused."""
    return next((one for one in pauses if one.of == ("", "")), None)


def of_work_package(pauses: Pauses, wp_id: str) -> Pause | None:
    """Return what keeps a work package from beginning anything, None if nothing does: its own pause first."""
    return next((one for one in pauses if one.of == ("", wp_id)), None) or of_run(pauses)


def of_agent(pauses: Pauses, agent: str) -> Pause | None:
    """Return the pause of an agent, None if it is not paused."""
    return next((one for one in pauses if one.of == (agent, "")), None) if agent else None


def among(pauses: Pauses, wps: Iterable[str]) -> Pauses:
    """Return the pauses without those of work packages that are none of these."""
    known = set(wps)
    return tuple(one for one in pauses if not one.wp or one.wp in known)


def begins(command: Command) -> bool:
    """Tell whether a command begins something: what was opened before goes on, and so does what is saved."""
    return isinstance(command, Claim | ClaimReview | OpenAttempt | RunGates | PrepareWorkspace)
