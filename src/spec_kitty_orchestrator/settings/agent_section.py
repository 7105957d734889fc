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
    """One agent; what stands after `command` is for agents of one's own only.

    Attributes:
        max_concurrent: attempts of it at once; None for no limit.
        timeout: of an attempt in either role, in seconds; None for that of the run.
        permissions: the only ones with which the host takes an agent.
        command: the program and its words, with placeholders; None for an agent that is known without it.

    The others are those of `Declaration`.
    """

    executable: PathOrName | None = None
    model: Text | None = None
    extra_args: Words = ()
    env: Environment = Field(default_factory=dict)
    scenario: PathOrName | None = None
    pass_env: Variables = ()
    max_concurrent: int | None = Field(default=None, ge=1, le=256)
    timeout: Duration | None = None
    permissions: Annotated[Literal["least"], BeforeValidator(_least)] = "least"

    command: Annotated[OwnWords, AfterValidator(_program)] | None = None
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    output: Annotated[OutputFormat, _read_by(read_output)] = OutputFormat("text")
    roles: Annotated[tuple[RoleName, ...], BeforeValidator(list_to_tuple), AfterValidator(_roles)] = (
        "implement",
        "review",
    )
    implement_args: OwnWords = ()
    review_args: OwnWords = ()
    resume_args: OwnWords = ()
    ok: Annotated[tuple[Condition, ...], _read_by(read_conditions)] = ()
    error: PathText = ()
    session: PathText = ()
    cost: PathText = ()
    input_tokens: PathText = ()
    output_tokens: PathText = ()
    family: PolicyWord | None = None
    approval: PolicyWords = Field(default_factory=dict)
    sandbox: PolicyWords = Field(default_factory=dict)
    network: PolicyWords = Field(default_factory=dict)
    traces: Annotated[tuple[Annotated[str, AfterValidator(_trace)], ...], BeforeValidator(list_to_tuple)] = ()
    state: Places = ()

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
