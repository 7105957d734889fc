"""What a module for one agent CLI gives: an argv, and an outcome read from its structured output.

Modules are pure: they build and parse, and never start a process.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from spec_kitty_orchestrator.core.model import AgentReport, Role
from spec_kitty_orchestrator.core.records import dataclass, field

__all__ = [
    "BOTH_ROLES",
    "OWN_FOLDER",
    "PROMPT_FILE",
    "PROMPT_WORD",
    "USAGE_FILE",
    "Agent",
    "AgentCommand",
    "AgentSettings",
    "Assignment",
    "GoesOn",
    "HasSandbox",
    "ListsModels",
    "Login",
    "Moved",
    "Permissions",
    "ShellInReview",
]


@dataclass(frozen=True)
class AgentSettings:
    """What the configuration says of one agent.

    Attributes:
        executable: a name to find on PATH or a path; None for the module's own.
        model: passed to the CLI; None for its default.
        extra_args: added to the argv as they are.
        env: added to the process's environment by whoever starts it; a module leaves it alone.
        pass_env: variables of ours that reach the process too: names, or prefixes before `*`.
        scenario: for the scripted agent, the TOML file that it follows.
        timeout_s: the longest attempt, in seconds; None for that of the role.
    """

    executable: str | None = None
    model: str | None = None
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    scenario: Path | None = None
    pass_env: tuple[str, ...] = ()
    timeout_s: float | None = None


PROMPT_FILE = "prompt.md"
"""The file of an attempt's directory that holds its prompt."""

OWN_FOLDER = "own"
"""The folder of an attempt's directory into which its CLI may write, there if its command names it."""

USAGE_FILE = f"{OWN_FOLDER}/usage.json"
"""The file of an attempt's directory whose content is read as the last line of its CLI's output."""

PROMPT_WORD = "{prompt}"
"""Stands in an argv for the text of the prompt, where a CLI takes it in no other way."""


@dataclass(frozen=True)
class Assignment:
    """One attempt, as the module of its agent needs to know it.

    Attributes:
        workspace: the worktree, where the process runs.
        directory: the attempt's own folder, private; `PROMPT_FILE` in it is the prompt.
        session: what an earlier report in the same workspace called its session, to go on with it; "" begins
            a new one.
        max_cost_usd: what it may cost; None for no limit.
        confined: whether the system confines the process, so that no reviewer can write with a shell.
    """

    role: Role
    workspace: Path
    attempt_id: str
    directory: Path
    session: str = ""
    max_cost_usd: float | None = None
    confined: bool = False


@dataclass(frozen=True)
class AgentCommand:
    """One process to run.

    Attributes:
        argv: without shell syntax; the first word is the executable.
        env: added to the environment, also where the agent's settings say otherwise: what allows or forbids
            stands here.
        prompt: how it is delivered: on standard input, or else in a file that `argv` names, or as the word
            `PROMPT_WORD` of `argv`, with nothing on standard input.
        stop_signal: the gentler first signal of a stop, where the CLI cleans up better on it.
        default_env: added where neither the agent's settings nor our own environment set the variable.
        function: whether no process runs, but the function that `argv` names.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: Literal["INT", "TERM"] = "TERM"
    default_env: Mapping[str, str] = field(default_factory=dict)
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    function: bool = False


@dataclass(frozen=True)
class Login:
    """How it shows, at no cost, that a CLI can use an account; any one of these is enough.

    Attributes:
        variables: names of environment variables that hold a key, or name what needs none.
        files: exist after a login; `~` is HOME, and `$NAME` or `${NAME}` a variable.
        command: arguments with which the CLI exits with 0 if somebody is logged in; () if it has none.
        how: what a person does to log in, as an imperative sentence without a full stop.
    """

    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    how: str = ""


@dataclass(frozen=True)
class Permissions:
    """What an argv allows, in the words of the host's policy (values of `PolicyMetadata`)."""

    approval_mode: str
    sandbox_mode: str
    network_mode: str


BOTH_ROLES = frozenset(Role)
"""The roles of an agent that both implements and reviews.
"""
ShellInReview = Literal["always", "confined", "never"]
"""When a reviewer may use a shell; `confined` is where the system confines it."""


@runtime_checkable
class ListsModels(Protocol):
    """An agent whose CLI names the models that it can use, one a line, at no cost.

    Attributes:
        models_command: the arguments for that.
    """

    models_command: tuple[str, ...]


@runtime_checkable
class HasSandbox(Protocol):
    """An agent whose CLI confines the commands of its model itself.

    Attributes:
        sandbox_command: the arguments with which it runs a harmless command so, at no cost.
    """

    sandbox_command: tuple[str, ...]

    def sandbox_failure(self, output: str) -> str:
        """Say why its sandbox could not start the command that printed this, "" if that is not the reason."""
        ...

    def sandbox_fix(self, failure: str, settings: AgentSettings, env: Mapping[str, str]) -> str:
        """Return a command for a shell that mends such a failure, "" if none surely does."""
        ...


@runtime_checkable
class Moved(Protocol):
    """An agent whose CLI is in another package now, which refuses to be installed beside the earlier one.

    Attributes:
        earlier: the command that removes that.
    """

    earlier: str


@runtime_checkable
class GoesOn(Protocol):
    """An agent whose CLI may go on by itself after a result."""

    def goes_on(self, stdout: Iterable[str]) -> bool:
        """Tell of the output so far whether it will, for example as a command still runs."""
        ...


class Agent(Protocol):
    """One agent CLI.

    Attributes:
        name: what `--impl-agent` takes.
        family: the vendor, for the host's policy; without the host's forbidden words.
        executable: the default name to look up on PATH.
        environment: variables that this CLI reads, its keys included: names, or prefixes before `*`. They and
            what every program needs reach its process; other variables do not.
        roles: what it can be used for.
        versions: those that were tested, oldest first; one outside of their range is warned of.
        install: the command with which a person installs it, "" if there is none.
        login: how it shows that it can use an account.
        shell_in_review: whether its reviewer can run `git diff`: always, where the system confines it, or
            never; where it cannot, its prompt must hold the changes.
        traces: files and folders at the top of the worktree that the CLI writes for itself.
        state: what a confined CLI may write besides, for logins and sessions: files, and folders with a `/`
            at their end; `~` is HOME, `$NAME` a variable. What begins with `!` it may read only: settings
            from which code would run later, unconfined. No other agent sees any of it. What begins with `./`
            is a folder of the worktree in which its reviewer writes to no effect.
        resumes: whether it can go on with an earlier conversation in the same worktree.
        reports_cost: whether its reports say what an attempt cost in dollars.
        caps_cost: whether it ends by itself when an attempt has cost `max_cost_usd`.
    """

    name: str
    family: str
    executable: str
    environment: tuple[str, ...]
    roles: frozenset[Role]
    versions: tuple[str, ...]
    install: str
    login: Login
    shell_in_review: ShellInReview
    traces: tuple[str, ...]
    state: tuple[str, ...]
    resumes: bool
    reports_cost: bool
    caps_cost: bool

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv for an attempt; no flag that the host bans is ever in it.

        A session or a limit of the cost is ignored by an agent that cannot.
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
