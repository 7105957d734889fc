"""What happens to a run as a whole; see `core.events` for what happens to one work package."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from spec_kitty_orchestrator.core.events import Event


@dataclass(frozen=True)
class Waiting:
    """Why work packages wait, by id: those whose reason changed; "" if one waits no more.

    Attributes:
        quotas: whether the whole run waits for nothing but quotas.
    """

    reasons: Mapping[str, str]
    quotas: bool = False
    kind: Literal["waiting"] = "waiting"


@dataclass(frozen=True)
class ResourcesShort:
    """The machine is short of what `reason` says, so nothing new starts; "" if it has enough again."""

    reason: str
    kind: Literal["resources_short"] = "resources_short"


@dataclass(frozen=True)
class AgentSuspended:
    """An agent starts no attempt before `until`."""

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
class ClockJumped:
    """The machine slept, or its clock was set forward, by so many seconds."""

    seconds: float
    kind: Literal["clock_jumped"] = "clock_jumped"


@dataclass(frozen=True)
class Signaled:
    """A signal came: agents are stopped, or may end by themselves where it is a `drain`."""

    number: int
    drain: bool = False
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


RunEvent = (
    Waiting
    | ResourcesShort
    | AgentSuspended
    | AgentBack
    | BudgetNearing
    | ClockJumped
    | Signaled
    | Ending
    | Failed
)

AnyEvent = Event | RunEvent
