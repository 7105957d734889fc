"""What can be configured, and which values each setting takes; unknown keys and wrong types are errors."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from spec_kitty_orchestrator.core.gates import LONGEST_TIMEOUT_S
from spec_kitty_orchestrator.quantities import dollars, many, seconds, seconds_or_none, size
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.values import (
    Duration,
    PathOrName,
    Section,
    Text,
    Variables,
    expandable,
    list_to_tuple,
)

SHORTEST_HOST_CALL_S = 36.0
"""The host holds back a call for 30 s while its status lock is taken; this must not cut it off."""

_LIMIT = re.compile(r"\s*([^=\s]+)\s*=\s*(-?\d{1,9})\s*")


def _names(value: object) -> object:
    """Accept `a,b` as well as a list, because flags and variables are text."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _fallback_order(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(names):
        raise ValueError("at least one agent is needed, and no empty name between commas")
    if len(set(names)) < len(names):
        raise ValueError("an agent is listed twice")
    return names


def _limits(value: object) -> object:
    """Accept `a=1,b=2`, and a list of such texts from a repeated flag, as well as a table."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return value
    limits: dict[str, int] = {}
    for part in (part for text in value for part in str(text).split(",")):
        found = _LIMIT.fullmatch(part)
        if not found:
            raise ValueError(f"{part!r} is not a limit of an agent; write for example codex=1")
        if found[1] in limits:
            raise ValueError(f"{found[1]} is listed twice")
        limits[found[1]] = int(found[2])
    return limits


def _shell_line(value: object) -> object:
    """Make an argv of a line for the shell, which only the operator writes; a list is an argv already."""
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", value)
    return tuple(value) if isinstance(value, list) else value


def _argv(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip() or any("\0" in word for word in words):
        raise ValueError("must be a line for the shell, or a list of words")
    expandable(words[0])
    return words


def _gate_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", value):
        raise ValueError("must be a short name of letters, digits, `.`, `_` and `-`")
    return value


def _host_limit(value: float) -> float:
    if value < SHORTEST_HOST_CALL_S:
        raise ValueError(
            f"at least {SHORTEST_HOST_CALL_S:.0f}s: the host itself waits 30 s for its lock before it answers"
        )
    return value


def _quorum(value: object) -> object:
    """Accept a number as text too, because flags and variables are text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*\d{1,3}\s*", value) else value


Quorum = Annotated[Literal["all"] | Annotated[int, Field(ge=1)], BeforeValidator(_quorum)]
DurationOrNone = Annotated[float, BeforeValidator(seconds_or_none)]
Money = Annotated[float | None, BeforeValidator(dollars)]
Size = Annotated[int, BeforeValidator(size)]
AgentNames = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(_fallback_order)]
AgentLimits = Annotated[dict[str, Annotated[int, Field(ge=1)]], BeforeValidator(_limits)]
Command = Annotated[tuple[str, ...], BeforeValidator(_shell_line), AfterValidator(_argv)]


class RunSettings(Section):
    """`[run]`: who works, how much at once, and when to give up.

    Attributes:
        max_concurrent: work packages in work at once.
        max_per_agent: attempts of an agent at once, by its name; an agent that is not named has no limit.
        actor: the name under which the host knows us.
        impl_agents: who implements, in the order of fallback.
        review_agents: who reviews, in the order of fallback.
        finish_lane: where an approved work package goes.
        subtasks: who ticks them: we on the word of a report, or the agent alone.
        timeout: the longest implement attempt, in seconds.
        review_timeout: the longest review, in seconds.
        stall_timeout: an agent without a sign of life for so many seconds is stopped. 0 switches it off.
        max_attempts: implement attempts per work package.
        max_review_cycles: rejections per work package.
        poll_interval: seconds between reads of the lanes, while only a change by others could free work.
        min_free_memory: bytes; below that nothing more is started. 0 switches the floor off.
        min_free_disk: the same of the disk.
        review_quorum: how many reviewers must approve the same commit; `all` for each of the list.
        require_independent_review: whether a reviewer of the implementer's family is never used.
        session_resume: whether an implementer goes on with its own session where its CLI can.
        pass_env: variables that reach every agent besides the usual ones.
        on_rate_limit: what to do about an agent whose quota is used up.
        max_wait: seconds for which a run that waits for nothing but quotas goes on.
        max_cost: US dollars for the mission, over all runs; None for no limit, as of the next three.
        max_tokens: the same in tokens.
        max_duration: seconds for one start.
        max_cost_per_wp: US dollars for one work package, over all runs.
        budget_hard: whether attempts at work are stopped at a limit.
        strict_budget: whether an agent that does not tell its cost is refused where a cost is limited.
    """

    max_concurrent: int = Field(default=4, ge=1, le=256)
    max_per_agent: AgentLimits = Field(default_factory=dict)
    actor: Text = "spec-kitty-orchestrator"
    impl_agents: AgentNames = ("claude-code",)
    review_agents: AgentNames = ("codex",)
    finish_lane: Literal["done", "approved"] = "done"
    subtasks: Literal["report", "agent"] = "report"
    timeout: Duration = 3600.0
    review_timeout: Duration = 1800.0
    stall_timeout: DurationOrNone = 900.0
    max_attempts: int = Field(default=6, ge=1)
    max_review_cycles: int = Field(default=3, ge=1)
    poll_interval: Duration = 30.0
    min_free_memory: Size = 256 * 1000**2
    min_free_disk: Size = 512 * 1000**2
    review_quorum: Quorum = 1
    require_independent_review: bool = False
    session_resume: bool = True
    pass_env: Variables = ()
    on_rate_limit: Literal["wait", "fallback", "stop"] = "fallback"
    max_wait: Duration = 6 * 3600.0
    max_cost: Money = None
    max_tokens: Annotated[int | None, BeforeValidator(many)] = None
    max_duration: Annotated[float | None, BeforeValidator(seconds)] = None
    max_cost_per_wp: Money = None
    budget_hard: bool = False
    strict_budget: bool = False

    @model_validator(mode="after")
    def _enough_reviewers(self) -> "RunSettings":
        if self.needed_approvals > len(self.review_agents):
            known = len(self.review_agents)
            raise ValueError(f"review_quorum is {self.review_quorum}, but there are only {known} reviewers")
        return self

    @property
    def needed_approvals(self) -> int:
        """Return the quorum as a number."""
        return len(self.review_agents) if self.review_quorum == "all" else self.review_quorum


class HostSettings(Section):
    """`[host]`: how `spec-kitty` is called.

    Attributes:
        executable: a name on PATH or a path; None for `spec-kitty`.
        call_timeout: the longest call, in seconds.
        transport: `spawn` is a process per call, `warm` answers from one process of the host that stays,
            `auto` is warm where that can be trusted.
        command_cache: whether a warm host builds its tree of commands once, instead of at each call.
        warm_merge_drivers: whether a warm host also answers git's merge drivers.
    """

    executable: PathOrName | None = None
    call_timeout: Annotated[Duration, AfterValidator(_host_limit)] = 120.0
    transport: Literal["auto", "spawn", "warm"] = "auto"
    command_cache: bool = True
    warm_merge_drivers: bool = True


class GateSection(Section):
    """`[[gates]]`: a command that must succeed on a commit before a review of it is paid for.

    Attributes:
        name: for its logs and for people.
        command: a line for `/bin/sh`, or a list of words.
        timeout: in seconds.
    """

    name: Annotated[str, AfterValidator(_gate_name)]
    command: Command
    timeout: Duration = LONGEST_TIMEOUT_S


def _apart(gates: tuple[GateSection, ...]) -> tuple[GateSection, ...]:
    names = [one.name for one in gates]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise ValueError(f"two gates are named {twice[0]}")
    return gates


class Settings(Section):
    """Everything that can be configured."""

    run: RunSettings = Field(default_factory=RunSettings)
    host: HostSettings = Field(default_factory=HostSettings)
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    gates: Annotated[tuple[GateSection, ...], BeforeValidator(list_to_tuple), AfterValidator(_apart)] = ()


SECTIONS: Mapping[str, type[BaseModel]] = {"run": RunSettings, "host": HostSettings}
"""Those whose keys are also variables and flags."""
