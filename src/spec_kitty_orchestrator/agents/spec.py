"""What a module for one agent CLI gives: an argv, and an outcome read from its structured output.

Modules are pure: they build and parse, and never start a process.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from spec_kitty_orchestrator.core.model import AgentReport, Role


@dataclass(frozen=True)
class AgentSettings:
    """What the configuration says of one agent.

    Attributes:
        executable: a name to find on PATH or a path; None for the module's own.
        model: passed to the CLI; None for its default.
        extra_args: added to the argv as they are.
        env: added to the process's environment.
        pass_env: variables of ours that reach the process too: names, or prefixes before `*`.
        scenario: for the scripted agent, the TOML file that it follows.
    """

    executable: str | None = None
    model: str | None = None
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    scenario: Path | None = None
    pass_env: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentCommand:
    """One process to run; the prompt is its standard input.

    Attributes:
        argv: without shell syntax; the first word is the executable.
        env: added to the environment.
        stop_signal: the gentler first signal of a stop, where the CLI cleans up better on it.
        default_env: added where neither the agent's settings nor our own environment set the variable.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: Literal["INT", "TERM"] = "TERM"
    default_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Permissions:
    """What an argv allows, in the words of the host's policy (values of `PolicyMetadata`)."""

    approval_mode: str
    sandbox_mode: str
    network_mode: str


class Agent(Protocol):
    """One agent CLI.

    Attributes:
        name: what `--impl-agent` takes.
        family: the vendor, for the host's policy; without the host's forbidden words.
        executable: the default name to look up on PATH.
        environment: variables that this CLI reads, its keys included: names, or prefixes before `*`. They and
            what every program needs reach its process; other variables do not.
        resumes: whether it can go on with an earlier conversation in the same worktree.
        reports_cost: whether its reports say what an attempt cost in dollars.
        caps_cost: whether it ends by itself when an attempt has cost `max_cost_usd`.
    """

    name: str
    family: str
    executable: str
    environment: tuple[str, ...]
    resumes: bool
    reports_cost: bool
    caps_cost: bool

    def command(
        self,
        role: Role,
        settings: AgentSettings,
        *,
        workspace: Path,
        attempt_id: str,
        session: str = "",
        max_cost_usd: float | None = None,
    ) -> AgentCommand:
        """Build the argv for a role; no flag that the host bans is ever in it.

        `session` is what an earlier report in the same `workspace` called its session, to go on with it; ""
        begins a new one. `max_cost_usd` is what it may cost. Each is ignored by an agent that cannot.
        """
        ...

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows."""
        ...

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome. `stdout` yields lines once, so a huge log costs no memory.

        Anything unreadable is `crashed` or `failed` with the reason, never an exception.
        """
        ...
