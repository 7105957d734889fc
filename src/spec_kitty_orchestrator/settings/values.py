"""The kinds of values that several sections of the settings have in common."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from spec_kitty_orchestrator.quantities import seconds, spelled

__all__ = [
    "NONE",
    "Command",
    "Duration",
    "Environment",
    "Flag",
    "PathOrName",
    "Places",
    "Section",
    "Text",
    "Variables",
    "Word",
    "Words",
    "Written",
    "expandable",
    "list_to_tuple",
]

NONE = "none"
"""What takes a limit or a list back where text is given."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


@dataclass(frozen=True)
class Written:
    """How people write a value: what stands for it, its text, and whether an option of it can be repeated."""

    metavar: str
    text: Callable[[Any], str] = str
    repeated: bool = False


@dataclass(frozen=True)
class Flag:
    """That a setting is an option of the commands that run a mission.

    Attributes:
        heading: under which it is in their help.
        name: "" for that of its key.
    """

    heading: str
    name: str = ""


def list_to_tuple(value: object) -> object:
    """Make a tuple of a list, which is what a file can say; leave anything else to be refused."""
    return tuple(value) if isinstance(value, list) else value


def _patterns(value: object) -> object:
    if value == NONE:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return list_to_tuple(value)


def _variable(pattern: str) -> str:
    if not _VARIABLE.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is not a variable; write NAME, or PREFIX_* for several")
    return pattern


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable text that is not empty")
    return value


def expandable(value: str) -> str:
    """Let a path pass unless it begins with the home of somebody who is not there. Raises `ValueError`."""
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value!r}: there is no such home directory") from None
    return value


def _word(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a zero byte, which no process can be given")
    return value


def _place(value: str) -> str:
    named = value.removeprefix("!")
    if not named.isprintable() or not (
        named.startswith(("/", "~/")) or re.match(r"\$[A-Za-z_]\w*(/|$)", named)
    ):
        raise ValueError(f"{value!r} is not a place: write an absolute path, ~/NAME, or $VARIABLE/NAME")
    return value


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


def _variable_name(name: str) -> str:
    if not name or "=" in name:
        raise ValueError(f"{name!r} cannot be the name of a variable")
    return _word(name)


Duration = Annotated[float, BeforeValidator(seconds), Written("DURATION", spelled)]
Text = Annotated[str, AfterValidator(_printable)]
Variables = Annotated[
    tuple[Annotated[str, AfterValidator(_variable)], ...],
    BeforeValidator(_patterns),
    Written("NAME,NAME", ",".join),
]
Word = Annotated[str, AfterValidator(_word)]
Words = Annotated[tuple[Word, ...], BeforeValidator(list_to_tuple)]
Places = Annotated[tuple[Annotated[str, AfterValidator(_place)], ...], BeforeValidator(list_to_tuple)]
Environment = dict[Annotated[str, AfterValidator(_variable_name)], Word]
PathOrName = Annotated[Text, AfterValidator(expandable)]
Command = Annotated[tuple[str, ...], BeforeValidator(_shell_line), AfterValidator(_argv)]


class Section(BaseModel):
    """A table of the file; unknown keys and other types are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
