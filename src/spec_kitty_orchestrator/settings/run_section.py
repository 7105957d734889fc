"""`[run]`: how a mission is run. Each key is an option of the commands that run one, too."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

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
from spec_kitty_orchestrator.settings.cluster_section import CLUSTER, Executor
from spec_kitty_orchestrator.settings.values import (
    NONE,
    Command,
    Duration,
    Flag,
    Section,
    Text,
    Variables,
    Written,
    list_to_tuple,
)

__all__ = ["HOST", "REVIEW", "RunSettings"]

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


def _commands(value: object) -> object:
    """Accept one line for the shell where only text can be given."""
    if value in (NONE, [NONE]):
        return ()
    return (value,) if isinstance(value, str) else list_to_tuple(value)


def _in_a_line(commands: Iterable[tuple[str, ...]]) -> str:
    return " && ".join(Gate("setup", one).line for one in commands)


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
Commands = Annotated[
    tuple[Command, ...], BeforeValidator(_commands), Written("CMD", _in_a_line, repeated=True)
]

AGENTS, LIMITS, COMMITS, REVIEW, BUDGET, WAITING, HOST, OUTPUT = map(
    Flag, ("Agents", "Limits", "Commits", "Review", "Budget", "Waiting", "Host", "Output")
)


class RunSettings(Section):
    """`[run]`: who works, how much at once, and when to give up.

    The first paragraph below a key is the help of its option; the pages of the settings show all.
    """

    impl_agents: Annotated[AgentNames, Flag("Agents", "--impl-agent")] = ("claude-code",)
    """Who implements; a,b is an order of fallback.

    If the first cannot work (no login, no quota, repeated failures), the next one does.
    """
    review_agents: Annotated[AgentNames, Flag("Agents", "--review-agent")] = ("codex",)
    """Who reviews; a,b is an order of fallback."""
    max_per_agent: Annotated[AgentLimits, AGENTS] = Field(default_factory=dict)
    """Attempts of one agent at once; can be repeated.

    For an agent whose quota or memory allows fewer than `max_concurrent`. A WP whose agent is at its limit
    waits, and others continue.
    """
    session_resume: Annotated[bool, AGENTS] = True
    """Rework goes on with the session of its implementer where the CLI can.

    That is cheaper, and it knows the work. Off: a new session each time.
    """
    pass_env: Annotated[Variables, AGENTS] = ()
    """Variables that reach every agent besides the usual ones; PREFIX_* for several."""

    confine: Annotated[Literal["auto", "require", "off"], AGENTS] = "auto"
    """Let the kernel confine agents, gates and commit hooks (bubblewrap); auto: where that works.

    Where it does not, `auto` says so in a warning, and with `require` the run does not start (exit code 5).
    """

    max_concurrent: Annotated[int, Field(ge=1, le=256), LIMITS] = 4
    """Work packages in work at once, 1 to 256."""
    timeout: Annotated[Duration, LIMITS] = 3600.0
    """Longest implement attempt, from its start."""
    review_timeout: Annotated[Duration, LIMITS] = 1800.0
    """Longest review, from its start."""
    stall_timeout: Annotated[DurationOrNone, LIMITS] = 900.0
    """Stop an agent without output, processor time and changed files for so long; 0 for never.

    The processor time of all its processes counts, and all changes in its worktree. At half of that time a
    line says so.
    """
    max_attempts: Annotated[int, Field(ge=1), LIMITS] = 6
    """Implement attempts per work package before it is parked."""
    min_free_memory: Annotated[Size, LIMITS] = 256 * 1000**2
    """Nothing more is started with less memory free; 0 for no floor.

    A container's limit counts. Agents on other machines need none here.
    """
    min_free_disk: Annotated[Size, LIMITS] = 512 * 1000**2
    """Nothing more is started with less of the disk free; 0 for no floor.

    The disks of the repository and of its logs are looked at.
    """

    setup: Annotated[Commands, LIMITS] = ()
    """What a new worktree needs before anything runs in it, such as `npm ci`; can be repeated."""
    setup_timeout: Annotated[Duration, LIMITS] = LONGEST_GATE_S
    """How long each command of it may take."""

    max_file_size: Annotated[Size, COMMITS] = 5 * 1000**2
    """Larger files are not added to a commit; 0 for any size.

    They are named. What the project has in git already may grow.
    """
    secret_files: Annotated[Patterns, COMMITS] = ()
    """More files that are never added to a commit, by patterns of their names or paths.

    Such as `*.vault` or `conf/prod*`, besides those that look like secrets: `.env*`, `*.pem`, `id_rsa*` and
    the like. These are judged by their content too: a public key, a certificate and a `.env.example` without
    values are none.
    """
    allow_files: Annotated[Patterns, COMMITS] = ()
    """Files that may be added to a commit although they look like secrets or caches, or are large.

    Or like an agent's own file: `["tests/data/*"]`. The value of a secret of this machine in any commit is
    refused all the same.
    """
    commit_hooks: Annotated[bool, COMMITS] = True
    """Run the repository's commit hooks before our commits, with the rights of an agent.

    These are `pre-commit`, `prepare-commit-msg`, `commit-msg` and `post-commit`.
    """

    review_quorum: Annotated[Quorum, REVIEW] = 1
    """How many reviewers must approve each commit; all for each of the list.

    They are asked one after the other; the first that requests changes sends the WP back.
    """
    require_independent_review: Annotated[bool, REVIEW] = False
    """Never use a reviewer of the family of the implementer.

    A family is a vendor. Without this, such a reviewer is asked last, and a run that has no other says so at
    its start.
    """
    max_review_cycles: Annotated[int, Field(ge=1), REVIEW] = 3
    """Rejections per work package before it is parked."""

    max_cost: Annotated[Money, BUDGET] = None
    """What the mission may cost in all, in US dollars, over all its runs.

    As its agents report it. What running attempts may still cost is kept for them. At 80 % there is a
    warning; at 100 % nothing new starts, running attempts finish and their work is kept, and the run ends
    with exit code 7.
    """
    max_tokens: Annotated[Tokens, BUDGET] = None
    """Tokens for the mission in all, such as 500k or 2M.

    Those sent and those received.
    """
    max_duration: Annotated[float | None, _unlimited(seconds), Written("DURATION", spelled), BUDGET] = None
    """How long this start may take."""
    max_cost_per_wp: Annotated[Money, BUDGET] = None
    """What one work package may cost; beyond that it is parked.

    In US dollars, over all starts since `--fresh`.
    """
    budget_hard: Annotated[bool, BUDGET] = False
    """Stop running attempts too when a limit is reached.

    As by a signal; what they did stays in the worktree.
    """
    strict_budget: Annotated[bool, BUDGET] = False
    """Refuse agents that do not tell what they cost where that is limited.

    With exit code 5. Off: they are only named.
    """

    on_rate_limit: Annotated[Literal["wait", "fallback", "stop"], WAITING] = "fallback"
    """A quota is used up: wait, let another of the order work meanwhile, or end the run.

    The agent is paused for all WPs. With `wait` nobody takes its place; with `stop` the run ends, resumable,
    once its running attempts have ended (exit code 75).
    """
    max_wait: Annotated[Duration, WAITING] = 6 * 3600.0
    """How long to wait for nothing but quotas.

    Then, or at once if the first reset is further away, the run ends with exit code 75.
    """
    poll_interval: Annotated[Duration, WAITING] = 30.0
    """How often to look whether others moved a work package, while only that could free work.

    Others are people and other actors. At other times nothing is polled.
    """

    executor: Annotated[Executor, CLUSTER] = ""
    """Run agents on a Dask cluster: dask://HOST:8786, tls://HOST:8786, or local:N for N workers here.

    `none` for this machine without a cluster. It needs the extra `dask`; docs/cluster.md tells how workers
    are started.
    """

    actor: Annotated[Text, HOST] = "spec-kitty-orchestrator"
    """The name under which the host knows us.

    A WP that another actor claimed is left alone, so keep the name the same between runs.
    """
    finish_lane: Annotated[Literal["done", "approved"], HOST] = "done"
    """Where an approved work package goes.

    With `approved`, the host's merge closes it.
    """
    subtasks: Annotated[Literal["report", "agent"], HOST] = "report"
    """Who ticks subtasks: we, on the word of a report, or the agent alone.

    With `report`, those that the implementer's report names as done and the host still counts as open are
    ticked for it.
    """

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
    def elsewhere(self) -> bool:
        """Tell whether agents run on other machines, so that nothing depends on what is installed here."""
        return bool(self.executor) and not self.executor.startswith("local:")

    @property
    def needed_memory(self) -> int:
        """Return how many bytes of memory must be free here for one more agent; none for agents elsewhere."""
        return 0 if self.elsewhere else self.min_free_memory

    @property
    def needed_approvals(self) -> int:
        """Return the quorum as a number."""
        return len(self.review_agents) if self.review_quorum == "all" else self.review_quorum
