"""The kinds of values that several sections of the settings have in common."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from spec_kitty_orchestrator.quantities import seconds

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


def list_to_tuple(value: object) -> object:
    """Make a tuple of a list, which is what a file can say; leave anything else to be refused."""
    return tuple(value) if isinstance(value, list) else value


def _patterns(value: object) -> object:
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


Duration = Annotated[float, BeforeValidator(seconds)]
Text = Annotated[str, AfterValidator(_printable)]
Variables = Annotated[tuple[Annotated[str, AfterValidator(_variable)], ...], BeforeValidator(_patterns)]
Words = Annotated[tuple[str, ...], BeforeValidator(list_to_tuple)]


class Section(BaseModel):
    """A table of the file; unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
