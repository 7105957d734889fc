"""What happens to a run as a whole, and the lines in which a journal keeps that and every `core.events`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.core.model import MissionState, Usage, WaitsFor
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import dataclass, field

__all__ = [
    "AgentBack",
    "AgentSuspended",
    "AnyEvent",
    "BudgetNearing",
    "ClockJumped",
    "ConflictForecast",
    "Continued",
    "Ending",
    "Entry",
    "Failed",
    "Finalized",
    "HandedOver",
    "Imported",
    "Line",
    "Notified",
    "Occasion",
    "Paused",
    "ResourcesShort",
    "RunAborted",
    "RunEnded",
    "RunEvent",
    "RunStarted",
    "SettingsChanged",
    "Signaled",
    "SpentBefore",
    "Waiting",
]


@dataclass(frozen=True)
class Waiting:
    """Why work packages wait, by id: those whose reason changed; "" if one waits no more.

    Attributes:
        quotas: whether the whole run waits for nothing but quotas.
        waits_for: for each id with a reason, its kind.
    """

    reasons: Mapping[str, str]
    quotas: bool = False
    waits_for: Mapping[str, WaitsFor] = field(default_factory=dict)
    kind: Literal["waiting"] = "waiting"


@dataclass(frozen=True)
class ResourcesShort:
    """The machine is short of what `reason` says, so nothing new starts; "" if it has enough again."""

    reason: str
    kind: Literal["resources_short"] = "resources_short"


@dataclass(frozen=True)
class AgentSuspended:
    """An agent starts no attempt before `until`: its quota is used up, or it is taken for broken."""

    agent: str
    until: datetime
    reason: str
    kind: Literal["agent_suspended"] = "agent_suspended"


@dataclass(frozen=True)
class AgentBack:
    """An agent that was suspended has made an attempt to its end."""

    agent: str
    kind: Literal["agent_back"] = "agent_back"


@dataclass(frozen=True)
class BudgetNearing:
    """Most of the limit `name` is used up."""

    name: str
    text: str
    kind: Literal["budget_nearing"] = "budget_nearing"


@dataclass(frozen=True)
class SpentBefore:
    """What earlier runs of the mission used, whose journals were put aside: it counts as spent.

    Attributes:
        usage: all of it.
        cost_usd_of: by work package, what it cost.
    """

    usage: Usage
    cost_usd_of: Mapping[str, float] = field(default_factory=dict)
    kind: Literal["spent_before"] = "spent_before"


@dataclass(frozen=True)
class ClockJumped:
    """The machine slept, or its clock was set forward, by so many seconds."""

    seconds: float
    kind: Literal["clock_jumped"] = "clock_jumped"


@dataclass(frozen=True)
class ConflictForecast:
    """The branches of two work packages cannot be merged with each other as they stand, or can again.

    Attributes:
        branches: in the order of `wp` and `other`.
        files: in which they conflict, () if they do no longer.
        needed_by: the work package that needs both and is not begun, "" if they meet in the mission's merge.
    """

    wp: str
    other: str
    branches: tuple[str, str]
    files: tuple[str, ...]
    needed_by: str = ""
    kind: Literal["conflict_forecast"] = "conflict_forecast"

    def among(self, known: tuple["ConflictForecast", ...]) -> tuple["ConflictForecast", ...]:
        """Return the conflicts that are known once this happened."""
        kept = tuple(one for one in known if one.branches != self.branches)
        return (*kept, self) if self.files else kept


@dataclass(frozen=True)
class Signaled:
    """A signal came: agents are stopped, or may end by themselves where it is a `drain`.

    `by` and `order` are of a person's order that means the same, see `core.operator_events`.
    """

    number: int
    drain: bool = False
    by: str = ""
    order: str = ""
    kind: Literal["signaled"] = "signaled"


@dataclass(frozen=True)
class Ending:
    """The run ends before nothing is left to do: a quota or a budget; `stop` stops attempts at work."""

    exit_code: int
    reason: str
    stop: bool = False
    kind: Literal["ending"] = "ending"


@dataclass(frozen=True)
class Failed:
    """Something that the run needs is broken, and nothing new begins; `stop` stops attempts at work."""

    message: str
    stop: bool = True
    kind: Literal["failed"] = "failed"


Occasion = Literal["needs_person", "ended", "budget", "quota", "slow"]
"""What people can be told of."""


@dataclass(frozen=True)
class Notified:
    """A message was sent to one of the places that people named, or could not be.

    Attributes:
        on: the occasion.
        title: its first line.
        about: names of all that it told of, each with the time since when; the first names the message.
        target: the place, by its name in the settings.
        problem: why it could not be delivered, "" if it was.
    """

    on: Occasion
    title: str
    about: tuple[str, ...]
    target: str
    problem: str = ""
    kind: Literal["notified"] = "notified"


@dataclass(frozen=True)
class Finalized:
    """After the end of the run the host merged its lanes, or recorded the mission's acceptance, or both."""

    merged: bool = False
    accepted: bool = False
    kind: Literal["finalized"] = "finalized"


@dataclass(frozen=True)
class HandedOver:
    """The run was packed to go on elsewhere: nothing begins here before a pack of it is imported.

    Attributes:
        pack: the id of what was packed.
        file: the name of the file.
    """

    pack: str
    file: str
    kind: Literal["handed_over"] = "handed_over"


@dataclass(frozen=True)
class Imported:
    """The run goes on in this clone from now on, where no session of its agents is known.

    Attributes:
        pack: the id of what was unpacked.
        machine: the name of the one where it was packed, "" if it was only taken back.
    """

    pack: str
    machine: str = ""
    kind: Literal["imported"] = "imported"


@dataclass(frozen=True)
class Paused:
    """A person lets nothing new begin: of an `agent`, of the work package `wp`, or else of the whole run.

    What is at work goes on to the end of its attempt. `by` and `order`: see `core.operator_events`.
    """

    by: str
    agent: str = ""
    wp: str = ""
    order: str = ""
    kind: Literal["paused"] = "paused"


@dataclass(frozen=True)
class Continued:
    """A person ends a pause; fields as of `Paused`."""

    by: str
    agent: str = ""
    wp: str = ""
    order: str = ""
    kind: Literal["continued"] = "continued"


@dataclass(frozen=True)
class SettingsChanged:
    """A person changes settings of the run that is active.

    Attributes:
        by: see `core.operator_events`, as for `order`.
        changed: the settings that were given, as they were written.
        settings: the whole `[run]` table from now on, which the next start goes on with.
        policy: in force from now on.
    """

    by: str
    changed: Mapping[str, str]
    settings: Mapping[str, object]
    policy: Policy
    order: str = ""
    kind: Literal["settings_changed"] = "settings_changed"


RunEvent = (
    Waiting
    | ResourcesShort
    | AgentSuspended
    | AgentBack
    | BudgetNearing
    | SpentBefore
    | ClockJumped
    | ConflictForecast
    | Signaled
    | Ending
    | Failed
    | Notified
    | Finalized
    | HandedOver
    | Imported
    | Paused
    | Continued
    | SettingsChanged
)
"""Anything that happens to a run as a whole.
"""

AnyEvent = Event | RunEvent
"""Anything that happens, to a work package or to a run."""


@dataclass(frozen=True)
class Entry:
    """One event as the journal keeps it.

    Attributes:
        wp_id: the work package that it happened to, "" for an event of the run.
        took_s: how long what led to it took, in seconds; 0 if nothing was waited for.
        seq: numbers the lines of a journal from 1; the journal gives it.
    """

    at: datetime
    wp_id: str
    event: AnyEvent
    took_s: float = 0.0
    seq: int = field(default=0, compare=False)
    line: Literal["event"] = "event"


@dataclass(frozen=True)
class RunStarted:
    """Opens each start of a run in the journal; what follows was decided by this policy.

    Attributes:
        mission: lanes and dependencies as the host told them, titles and subtasks as far as they are known.
        version: ours.
        settings: the effective `[run]` table, which the next start goes on with.
        branch: checked out in the primary checkout then, "" if none was.
        tips: the mission's branches then, each with its commit; None if they were not read.
        own_order: whether the program that drives it orders its work packages by a key of its own.
        number: counts the starts of a journal from 1; the journal gives it, and `seq`, as for every line.
    """

    at: datetime
    mission: MissionState
    actor: str
    policy: Policy
    version: str
    settings: Mapping[str, object] = field(default_factory=dict)
    branch: str = ""
    tips: Mapping[str, str] | None = None
    own_order: bool = False
    number: int = field(default=0, compare=False)
    seq: int = field(default=0, compare=False)
    line: Literal["run"] = "run"


@dataclass(frozen=True)
class RunEnded:
    """Closes a start: the exit code that was given, and the summary's first line."""

    at: datetime
    exit_code: int
    summary: str
    seq: int = field(default=0, compare=False)
    line: Literal["end"] = "end"


@dataclass(frozen=True)
class RunAborted:
    """A person ended the run for good: it is resumed only by name.

    Attributes:
        summary: what was stopped.
        saved: refs with a copy of what was uncommitted then; the worktrees were left as they were.
    """

    at: datetime
    summary: str
    saved: tuple[str, ...] = ()
    seq: int = field(default=0, compare=False)
    line: Literal["aborted"] = "aborted"


Line = RunStarted | Entry | RunEnded | RunAborted
"""Any line of a journal."""
