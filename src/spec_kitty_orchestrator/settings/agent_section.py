"""`[agents.<name>]`: what differs from an agent's own defaults, or with `command` an agent of one's own."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spec_kitty_orchestrator.core.host_rules import forbidden_word, refusal
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.settings.declaration import (
    Condition,
    Declaration,
    OutputFormat,
    ValuePath,
    placeholders,
    read_conditions,
    read_output,
    read_path,
)
from spec_kitty_orchestrator.settings.values import (
    Duration,
    Environment,
    PathOrName,
    Places,
    Section,
    Text,
    Variables,
    Words,
    expandable,
    list_to_tuple,
)

__all__ = ["AgentSection"]

CUSTOM = "custom"
"""What the policy says of modes for which we cannot vouch."""
_STRUCTURED = ("ok", "error", "session", "cost", "input_tokens", "output_tokens")
_FULL = "--dangerously-skip-permissions"


def _least(value: object) -> object:
    if value != "least":
        raise ValueError(
            f'only "least" is possible: {value!r} needs a flag such as {_FULL}, and the host refuses that: '
            f'"{refusal(_FULL)}"; agents work unattended with the least permissions'
        )
    return value


def _word_list(value: object) -> object:
    if isinstance(value, str):
        wanted = 'must be a list of words, as in ["my-bot", "--quiet"]; no shell splits a line'
        raise ValueError(wanted)  # noqa: TRY004 - pydantic reports values, not types
    return list_to_tuple(value)


def _argv(words: tuple[str, ...]) -> tuple[str, ...]:
    if any(not word or "\0" in word for word in words):
        raise ValueError("holds an empty word, or one with a zero byte")
    placeholders(words)
    return words


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip() or placeholders(words[:1]):
        raise ValueError("its first word must be the program")
    expandable(words[0])
    return words


def _policy_word(value: str) -> str:
    word = forbidden_word(value)
    if word:
        raise ValueError(f"the host refuses a policy in which a value contains {word!r}: {value!r}")
    return value


def _both(value: object) -> object:
    """Accept one word for both roles as well as a table."""
    return {"implement": value, "review": value} if isinstance(value, str) else value


def _roles(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(set(value)) < len(value):
        raise ValueError("at least one role is needed, and none twice")
    return value


def _trace(value: str) -> str:
    if value in ("", ".", "..", ".git") or set(value) & set("/*?[") or not value.isprintable():
        raise ValueError(f"{value!r} is not the name of a file or folder at the top of the worktree")
    return value


def _read_by(read: Callable[[str], object]) -> BeforeValidator:
    def parse(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004 - pydantic reports values, not types
        return read(value)

    return BeforeValidator(parse)


RoleName = Literal["implement", "review"]
OwnWords = Annotated[tuple[str, ...], BeforeValidator(_word_list), AfterValidator(_argv)]
PolicyWord = Annotated[Text, AfterValidator(_policy_word)]
PolicyWords = Annotated[dict[RoleName, PolicyWord], BeforeValidator(_both)]
PathText = Annotated[ValuePath, _read_by(read_path)]


class AgentSection(Section):
    """One agent; what stands from `command` on is for agents of one's own only."""

    executable: PathOrName | None = None
    """A name on PATH, or a path; a relative one starts at the repository."""
    model: Text | None = None
    """Passed to the CLI."""
    extra_args: Words = ()
    """Added to the command line unchanged."""
    env: Environment = Field(default_factory=dict)
    """Added to the environment of its processes."""
    scenario: PathOrName | None = None
    """Of `scripted` only: the TOML file that it follows, relative to the repository's root."""
    pass_env: Variables = ()
    """Your variables that reach this agent, in addition to those of `[run]`."""
    max_concurrent: int | None = Field(default=None, ge=1, le=256)
    """Its most attempts at once, 1 to 256.

    If `max_per_agent` of `[run]` names it too, the smaller number holds. Read at each start, also by
    `resume`.
    """
    timeout: Duration | None = None
    """Its longest attempt, in either role, instead of `timeout` and `review_timeout` of `[run]`."""
    permissions: Annotated[Literal["least"], BeforeValidator(_least)] = "least"
    """The only value: for more, an agent needs a flag that the host refuses."""

    command: Annotated[OwnWords, AfterValidator(_program)] | None = None
    """The program (on PATH, or a path relative to the repository) and its words. No shell sees them."""
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    """How it takes the prompt; an argument is at most 128 KiB."""
    output: Annotated[OutputFormat, _read_by(read_output)] = OutputFormat("text")
    """Where its answer is: `"text"`, `"json:PATH"`, `"jsonl:PATH"`, `"jsonl:CONDITIONS:PATH"`."""
    roles: Annotated[tuple[RoleName, ...], BeforeValidator(list_to_tuple), AfterValidator(_roles)] = (
        "implement",
        "review",
    )
    """What it can be used for; using it in another role is an error (exit code 5)."""
    implement_args: OwnWords = ()
    """Words after `command` when it implements."""
    review_args: OwnWords = ()
    """Words after `command` when it reviews: those that forbid it to write."""
    resume_args: OwnWords = ()
    """Further words when it continues a `{session}`; without them, rework is a new session."""
    ok: Annotated[tuple[Condition, ...], _read_by(read_conditions)] = ()
    """What the last JSON object of its output must meet; the exit code then says nothing.

    Without conditions, the exit code 0 decides.
    """
    error: PathText = ()
    """PATH in that object to an error message."""
    session: PathText = ()
    """PATH to the session's name, in whichever object contains it; needed for `resume_args`."""
    cost: PathText = ()
    """PATH to the cost of the attempt in US dollars, for budgets; the last value counts."""
    input_tokens: PathText = ()
    """The same for tokens sent."""
    output_tokens: PathText = ()
    """The same for tokens received."""
    family: PolicyWord | None = None
    """Its vendor, for the policy and for independent reviews; its name, if it is not given."""
    approval: PolicyWords = Field(default_factory=dict)
    """What the host is told about how it asks for permission: a word, or a table by role.

    What is not given is `"custom"`, here and for the next two.
    """
    sandbox: PolicyWords = Field(default_factory=dict)
    """The same for what confines it, such as `{ implement = "workspace_write", review = "read_only" }`."""
    network: PolicyWords = Field(default_factory=dict)
    """The same for its network."""
    traces: Annotated[tuple[Annotated[str, AfterValidator(_trace)], ...], BeforeValidator(list_to_tuple)] = ()
    """Files and folders that it writes for itself at the top of the worktree."""
    state: Places = ()
    """What it may write besides where it is confined: its logins and sessions.

    As `["~/.my-bot/", "~/.my-bot.json"]`; with a `!` before it, what it may only read.
    """

    @model_validator(mode="after")
    def _fits(self) -> "AgentSection":
        given = self.model_fields_set & _OWN
        if self.command is None:
            if given:
                raise ValueError(f"{_list(given)}: only for an agent of your own, which has a command")
            return self
        wrong = self.model_fields_set & {"executable", "scenario"}
        if wrong:
            raise ValueError(f"{_list(wrong)} cannot stand beside command, whose first word is the program")
        for role in ("implement", "review"):
            if role not in self.roles and f"{role}_args" in given:
                raise ValueError(f"{role}_args is given, but {role} is not one of its roles")
        self._check_words(self.command)
        self._check_output(given)
        return self

    def _check_words(self, command: tuple[str, ...]) -> None:
        words = (*command, *self.implement_args, *self.review_args)
        used = placeholders((*words, *self.resume_args))
        for name, way in (("prompt", "argument"), ("prompt_file", "file")):
            if name in used and self.prompt != way:
                raise ValueError(f'{{{name}}} is for prompt = "{way}", but prompt is "{self.prompt}"')
        if ("model" in used) is not (self.model is not None):
            has, lacks = ("{model}", "a model") if "model" in used else ("a model", "{model} in any word")
            raise ValueError(f"it has {has}, but not {lacks}")
        if "session" in placeholders(words):
            raise ValueError("{session} is for resume_args")
        if self.resume_args and "session" not in used:
            raise ValueError("resume_args lacks {session}")

    def _check_output(self, given: set[str]) -> None:
        if self.output.kind == "text" and given & {*_STRUCTURED}:
            told = _list(given & {*_STRUCTURED})
            raise ValueError(f'with output = "text" there is nothing to look into for {told}')
        if bool(self.resume_args) is not bool(self.session):
            raise ValueError("resume_args and session, where the output names it, need each other")

    def declaration(self, name: str) -> Declaration | None:
        """Return the agent of one's own that the section makes, None if it has no `command`."""
        if self.command is None:
            return None
        return Declaration(
            name=name,
            family=self.family or name,
            command=self.command,
            prompt=self.prompt,
            output=self.output,
            roles=frozenset(map(Role, self.roles)),
            role_args={Role.IMPLEMENT: self.implement_args, Role.REVIEW: self.review_args},
            resume_args=self.resume_args,
            ok=self.ok,
            error=self.error,
            session=self.session,
            cost=self.cost,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            approval=_by_role(self.approval),
            sandbox=_by_role(self.sandbox),
            network=_by_role(self.network),
            traces=self.traces,
            state=self.state,
        )


_OWN = frozenset(AgentSection.model_fields) - {
    *("executable", "model", "extra_args", "env", "scenario", "pass_env"),
    *("max_concurrent", "timeout", "permissions", "command"),
}
"""Keys that need `command`."""


def _by_role(words: dict[RoleName, str]) -> dict[Role, str]:
    return {role: words.get(role.value, CUSTOM) for role in Role}


def _list(keys: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(keys))
