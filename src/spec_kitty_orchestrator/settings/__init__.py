"""What can be configured, and which values each setting takes; unknown keys and wrong types are errors."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from spec_kitty_orchestrator.core.policy import LONGEST_GATE_S, Gate
from spec_kitty_orchestrator.quantities import (
    dollars,
    many,
    seconds,
    seconds_or_none,
    size,
    spelled,
    spelled_size,
)
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.notify_section import NotifySection, apart
from spec_kitty_orchestrator.settings.values import (
    NONE,
    Duration,
    Flag,
    PathOrName,
    Places,
    Section,
    Text,
    Variables,
    Written,
    expandable,
    list_to_tuple,
)

__all__ = [
    "REVIEW",
    "SECTIONS",
    "ConfineSettings",
    "GateSection",
    "HostSettings",
    "RunSettings",
    "Settings",
    "as_option",
    "flag_of",
    "named_fields",
    "spelled_value",
    "written",
]

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


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if patterns in ((), (NONE,)):
        return ()
    if not all(patterns) or any("\0" in one for one in patterns):
        raise ValueError("must be patterns of names such as *.pem, or of paths such as tests/data/*.key")
    return patterns


def _limits(value: object) -> object:
    """Accept `a=1,b=2`, and a list of such texts from a repeated flag, as well as a table."""
    if value in (NONE, [NONE]):
        return {}
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


def _commands(value: object) -> object:
    """Accept one line for the shell where only text can be given."""
    if value in (NONE, [NONE]):
        return ()
    return (value,) if isinstance(value, str) else list_to_tuple(value)


def _in_a_line(commands: Iterable[tuple[str, ...]]) -> str:
    return " && ".join(Gate("setup", one).line for one in commands)


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


def _unlimited(read: Callable[[object], object]) -> BeforeValidator:
    """Read a limit that can also be none."""
    return BeforeValidator(lambda value: None if value in (None, NONE) else read(value))


Quorum = Annotated[Literal["all"] | Annotated[int, Field(ge=1)], BeforeValidator(_quorum), Written("N|all")]
DurationOrNone = Annotated[float, BeforeValidator(seconds_or_none), Written("DURATION", spelled)]
Money = Annotated[float | None, _unlimited(dollars), Written("USD")]
Tokens = Annotated[int | None, _unlimited(many), Written("N")]
Size = Annotated[int, BeforeValidator(size), Written("SIZE", spelled_size)]
AgentNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    AfterValidator(_fallback_order),
    Written("AGENT,AGENT", ",".join),
]
AgentLimits = Annotated[
    dict[str, Annotated[int, Field(ge=1)]],
    BeforeValidator(_limits),
    Written(
        "AGENT=N", lambda limits: ",".join(f"{name}={most}" for name, most in limits.items()), repeated=True
    ),
]
Patterns = Annotated[
    tuple[str, ...], BeforeValidator(_names), AfterValidator(_patterns), Written("PATTERN,PATTERN", ",".join)
]
Command = Annotated[tuple[str, ...], BeforeValidator(_shell_line), AfterValidator(_argv)]
Commands = Annotated[
    tuple[Command, ...], BeforeValidator(_commands), Written("CMD", _in_a_line, repeated=True)
]

AGENTS, LIMITS, COMMITS, REVIEW, BUDGET, WAITING, HOST, OUTPUT = map(
    Flag, ("Agents", "Limits", "Commits", "Review", "Budget", "Waiting", "Host", "Output")
)


class RunSettings(Section):
    """`[run]`: who works, how much at once, and when to give up; the words below are those of the options."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    impl_agents: Annotated[AgentNames, Flag("Agents", "--impl-agent")] = ("claude-code",)
    """Who implements; a,b is an order of fallback."""
    review_agents: Annotated[AgentNames, Flag("Agents", "--review-agent")] = ("codex",)
    """Who reviews; a,b is an order of fallback."""
    max_per_agent: Annotated[AgentLimits, AGENTS] = Field(default_factory=dict)
    """Attempts of one agent at once; can be repeated."""
    session_resume: Annotated[bool, AGENTS] = True
    """Rework goes on with the session of its implementer where the CLI can."""
    pass_env: Annotated[Variables, AGENTS] = ()
    """Variables that reach every agent besides the usual ones; PREFIX_* for several."""

    confine: Annotated[Literal["auto", "require", "off"], AGENTS] = "auto"
    """Let the kernel confine agents, gates and commit hooks (bubblewrap); auto: where that works."""

    max_concurrent: Annotated[int, Field(ge=1, le=256), LIMITS] = 4
    """Work packages in work at once, 1 to 256."""
    timeout: Annotated[Duration, LIMITS] = 3600.0
    """Longest implement attempt, from its start."""
    review_timeout: Annotated[Duration, LIMITS] = 1800.0
    """Longest review, from its start."""
    stall_timeout: Annotated[DurationOrNone, LIMITS] = 900.0
    """Stop an agent without output, processor time and changed files for so long; 0 for never."""
    max_attempts: Annotated[int, Field(ge=1), LIMITS] = 6
    """Implement attempts per work package before it is parked."""
    min_free_memory: Annotated[Size, LIMITS] = 256 * 1000**2
    """Nothing more is started with less memory free; 0 for no floor."""
    min_free_disk: Annotated[Size, LIMITS] = 512 * 1000**2
    """Nothing more is started with less of the disk free; 0 for no floor."""

    setup: Annotated[Commands, LIMITS] = ()
    """What a new worktree needs before anything runs in it, such as `npm ci`; can be repeated."""
    setup_timeout: Annotated[Duration, LIMITS] = LONGEST_GATE_S
    """How long each command of it may take."""

    max_file_size: Annotated[Size, COMMITS] = 5 * 1000**2
    """Larger files are not added to a commit; 0 for any size."""
    secret_files: Annotated[Patterns, COMMITS] = ()
    """More files that are never added to a commit, by patterns of their names or paths."""
    allow_files: Annotated[Patterns, COMMITS] = ()
    """Files that may be added to a commit although they look like secrets or caches, or are large."""
    commit_hooks: Annotated[bool, COMMITS] = True
    """Run the repository's commit hooks before our commits, with the rights of an agent."""

    review_quorum: Annotated[Quorum, REVIEW] = 1
    """How many reviewers must approve each commit; all for each of the list."""
    require_independent_review: Annotated[bool, REVIEW] = False
    """Never use a reviewer of the family of the implementer."""
    max_review_cycles: Annotated[int, Field(ge=1), REVIEW] = 3
    """Rejections per work package before it is parked."""

    max_cost: Annotated[Money, BUDGET] = None
    """What the mission may cost in all, in US dollars, over all its runs."""
    max_tokens: Annotated[Tokens, BUDGET] = None
    """Tokens for the mission in all, such as 500k or 2M."""
    max_duration: Annotated[float | None, _unlimited(seconds), Written("DURATION", spelled), BUDGET] = None
    """How long this start may take."""
    max_cost_per_wp: Annotated[Money, BUDGET] = None
    """What one work package may cost; beyond that it is parked."""
    budget_hard: Annotated[bool, BUDGET] = False
    """Stop running attempts too when a limit is reached."""
    strict_budget: Annotated[bool, BUDGET] = False
    """Refuse agents that do not tell what they cost where that is limited."""

    on_rate_limit: Annotated[Literal["wait", "fallback", "stop"], WAITING] = "fallback"
    """A quota is used up: wait, let another of the order work meanwhile, or end the run."""
    max_wait: Annotated[Duration, WAITING] = 6 * 3600.0
    """How long to wait for nothing but quotas."""
    poll_interval: Annotated[Duration, WAITING] = 30.0
    """How often to look whether others moved a work package, while only that could free work."""

    actor: Annotated[Text, HOST] = "spec-kitty-orchestrator"
    """The name under which the host knows us."""
    finish_lane: Annotated[Literal["done", "approved"], HOST] = "done"
    """Where an approved work package goes."""
    subtasks: Annotated[Literal["report", "agent"], HOST] = "report"
    """Who ticks subtasks: we, on the word of a report, or the agent alone."""

    report: Annotated[bool, OUTPUT] = True
    """Write report.html beside the journal whenever the run ends."""

    @field_validator("review_quorum")
    @classmethod
    def _enough_reviewers(cls, quorum: Quorum, others: ValidationInfo) -> Quorum:
        known = len(others.data.get("review_agents", ()))
        if known and quorum != "all" and quorum > known:
            raise ValueError(f"{quorum} approvals are more than the number of reviewers, {known}")
        return quorum

    @property
    def needed_approvals(self) -> int:
        """Return the quorum as a number."""
        return len(self.review_agents) if self.review_quorum == "all" else self.review_quorum


class HostSettings(Section):
    """`[host]`: how `spec-kitty` is called."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    executable: PathOrName | None = None
    """A name on PATH or a path; None for `spec-kitty`."""
    call_timeout: Annotated[Duration, AfterValidator(_host_limit)] = 120.0
    """The longest call."""
    transport: Annotated[Literal["auto", "spawn", "warm"], HOST] = "auto"
    """Call the host as a process each time, or one that stays warm; auto: warm where that can be trusted."""
    command_cache: bool = True
    """Whether a warm host builds its tree of commands once, instead of at each call."""
    warm_merge_drivers: bool = True
    """Whether a warm host also answers git's merge drivers."""


class GateSection(Section):
    """`[[gates]]`: a command that must succeed on a commit before a review of it is paid for.

    Attributes:
        name: for its logs and for people.
        command: a line for `/bin/sh`, or a list of words.
        timeout: in seconds.
    """

    name: Annotated[str, AfterValidator(_gate_name)]
    command: Command
    timeout: Duration = LONGEST_GATE_S


def _apart(gates: tuple[GateSection, ...]) -> tuple[GateSection, ...]:
    names = [one.name for one in gates]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise ValueError(f"two gates are named {twice[0]}")
    return gates


class ConfineSettings(Section):
    """`[confine]`: what differs where agents, gates and commit hooks are confined.

    Attributes:
        writable: what they may write besides the worktree.
        hidden: what is not there for them, besides the usual keys and logins.
        shown: what is there although it is one of these.
        network: who of `agents`, `gates` and `hooks` has the network.
    """

    writable: Places = ()
    hidden: Places = ()
    shown: Places = ()
    network: Annotated[tuple[Literal["agents", "gates", "hooks"], ...], BeforeValidator(list_to_tuple)] = (
        "agents",
        "gates",
        "hooks",
    )


class Settings(Section):
    """Everything that can be configured."""

    run: RunSettings = Field(default_factory=RunSettings)
    host: HostSettings = Field(default_factory=HostSettings)
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    confine: ConfineSettings = Field(default_factory=ConfineSettings)
    gates: Annotated[tuple[GateSection, ...], BeforeValidator(list_to_tuple), AfterValidator(_apart)] = ()
    notify: Annotated[tuple[NotifySection, ...], BeforeValidator(list_to_tuple), AfterValidator(apart)] = ()


SECTIONS: Mapping[str, type[BaseModel]] = {"run": RunSettings, "host": HostSettings}
"""Those whose keys are also variables, and flags where their field says so."""


def named_fields() -> Mapping[str, tuple[str, str, FieldInfo]]:
    """Return the section, the key and the field of what `SECTIONS` hold: `<key>` of `[run]`, `host_<key>`."""
    return {
        key if section == "run" else f"{section}_{key}": (section, key, field)
        for section, model in SECTIONS.items()
        for key, field in model.model_fields.items()
    }


def flag_of(name: str) -> str:
    """Return the flag of a setting, by the name that `named_fields` has for it."""
    field = named_fields()[name][2]
    own = next((one.name for one in field.metadata if isinstance(one, Flag)), "")
    return own or f"--{name.replace('_', '-')}"


def written(field: FieldInfo) -> Written:
    """Return how the values of a setting are written."""
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    plain = Written("N" if field.annotation is int else "|".join(words) or "TEXT")
    return next((one for one in field.metadata if isinstance(one, Written)), plain)


def as_option(name: str, value: object) -> str:
    """Return the option that gives a setting this value."""
    flag = flag_of(name)
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {shlex.quote(spelled_value(named_fields()[name][2], value))}"


def spelled_value(field: FieldInfo, value: object) -> str:
    """Write a value of a setting as `load` reads it; what is empty is `none`."""
    return written(field).text(value) if value or value == 0 else NONE
