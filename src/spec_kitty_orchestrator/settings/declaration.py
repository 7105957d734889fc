"""An agent of one's own as it is declared: its words, and where in its output the answer stands.

The small syntax of output formats, conditions and placeholders is read here, once, when settings are loaded.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from spec_kitty_orchestrator.core.model import Role

__all__ = [
    "Condition",
    "Declaration",
    "OutputFormat",
    "ValuePath",
    "filled",
    "placeholders",
    "read_conditions",
    "read_output",
    "read_path",
]

PLACEHOLDERS = ("prompt", "prompt_file", "model", "session", "workspace", "attempt")
"""What `{name}` in a word of a command can stand for."""

_PLACE = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")
_STEP = re.compile(r"[A-Za-z0-9_$@/-]+")
_WHERE = "type=result, or item.type=agent_message,status=ok"

ValuePath = tuple[str, ...]
"""Names of keys, and indices of lists, from the outermost object inwards."""


@dataclass(frozen=True)
class Condition:
    """An object meets it if the value at `path` is `value`: a string, or what JSON writes as `value`."""

    path: ValuePath
    value: str


@dataclass(frozen=True)
class OutputFormat:
    """Where the final text stands.

    Attributes:
        kind: all of stdout, the last JSON object of stdout, or one of the JSON objects of its lines.
        path: to the text in that object; () for `text`.
        where: for `jsonl`, what the object must meet; the last one that does counts.
    """

    kind: Literal["text", "json", "jsonl"]
    path: ValuePath = ()
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Declaration:
    """An agent of one's own.

    Attributes:
        name: what `--impl-agent` takes.
        family: its vendor, for the host's policy and for independent reviews.
        command: the program and its words, with placeholders.
        prompt: how it takes the prompt.
        output: where its final text stands.
        roles: what it can be used for.
        role_args: words that follow `command`, by role.
        resume_args: words that follow these where a session is gone on with; () if it cannot.
        ok: what the last JSON object must meet; () if the exit code 0 decides.
        error: where the last JSON object says what went wrong.
        session: where it names its session; () if it has none.
        cost: where it says what the attempt cost, in dollars; the next two are tokens.
        approval: the word for the host's policy, by role; so are the next two.
        traces: files and folders at the top of the worktree that it writes for itself.
        state: what it may write besides where it is confined: its logins and sessions.
    """

    name: str
    family: str
    command: tuple[str, ...]
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    output: OutputFormat = OutputFormat("text")
    roles: frozenset[Role] = frozenset(Role)
    role_args: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    resume_args: tuple[str, ...] = ()
    ok: tuple[Condition, ...] = ()
    error: ValuePath = ()
    session: ValuePath = ()
    cost: ValuePath = ()
    input_tokens: ValuePath = ()
    output_tokens: ValuePath = ()
    approval: Mapping[Role, str] = field(default_factory=dict)
    sandbox: Mapping[Role, str] = field(default_factory=dict)
    network: Mapping[Role, str] = field(default_factory=dict)
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()


def read_path(text: str) -> ValuePath:
    """Read `item.text`, or `choices.0.text` with an index of a list. Raises `ValueError`."""
    steps = tuple(text.split("."))
    if not all(_STEP.fullmatch(step) for step in steps):
        raise ValueError(f"{text!r} is not a path to a value; write names with dots between, as in item.text")
    return steps


def read_conditions(text: str) -> tuple[Condition, ...]:
    """Read `type=result,is_error=false`: all must be met. Raises `ValueError`."""
    found = []
    for part in text.split(","):
        path, equals, value = part.partition("=")
        if not equals or not value or value != value.strip():
            raise ValueError(f"{part!r} is not a condition; write PATH=VALUE, as in {_WHERE}")
        found.append(Condition(read_path(path), value))
    return tuple(found)


def read_output(text: str) -> OutputFormat:
    """Read `text`, `json:PATH`, `jsonl:PATH` or `jsonl:CONDITIONS:PATH`. Raises `ValueError`."""
    kind, colon, rest = text.partition(":")
    if kind == "text" and not colon:
        return OutputFormat("text")
    if kind == "json" and rest:
        return OutputFormat("json", read_path(rest))
    if kind == "jsonl" and rest:
        where, colon, path = rest.rpartition(":")
        return OutputFormat("jsonl", read_path(path), read_conditions(where) if colon else ())
    raise ValueError(
        f"{text!r} is not a format of output; write text, json:PATH, jsonl:PATH or jsonl:CONDITIONS:PATH, "
        "as in jsonl:type=result:result"
    )


def placeholders(words: Iterable[str]) -> frozenset[str]:
    """Return the names that stand in braces in `words`.

    Raises:
        ValueError: a name is none of `PLACEHOLDERS`, or doubled braces hold one.
    """
    found = {match.groups() for word in words for match in _PLACE.finditer(word)}
    for literal, name in found:
        if name and name not in PLACEHOLDERS:
            known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise ValueError(
                f"there is no {{{name}}}; known: {known}; {{{{{name}}}}} stands for the word itself"
            )
        if literal in PLACEHOLDERS:
            raise ValueError(f"{{{{{literal}}}}} cannot be told from {{{literal}}}")
    return frozenset(name for _, name in found if name)


def filled(word: str, values: Mapping[str, str]) -> str:
    """Put `values` in the place of their names; what they hold is never looked at again."""
    return _PLACE.sub(lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], word)
