"""What can be configured, and which values each setting takes; unknown keys and wrong types are errors.

The docstring below a key is what the pages of the settings say of it.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic.fields import FieldInfo

from spec_kitty_orchestrator.core.policy import LONGEST_GATE_S
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.cluster_section import ClusterSettings
from spec_kitty_orchestrator.settings.notify_section import NotifySection, apart
from spec_kitty_orchestrator.settings.run_section import HOST, REVIEW, RunSettings
from spec_kitty_orchestrator.settings.values import (
    NONE,
    Command,
    Duration,
    Flag,
    PathOrName,
    Places,
    Section,
    Written,
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


class HostSettings(Section):
    """`[host]`: how `spec-kitty` is called."""

    executable: PathOrName | None = None
    """A name on PATH, or a path; a relative one starts at the repository.

    None for `spec-kitty` on PATH.
    """
    call_timeout: Annotated[Duration, AfterValidator(_host_limit)] = 120.0
    """The longest call, at least 36 s: the host itself waits 30 s for its lock."""
    transport: Annotated[Literal["auto", "spawn", "warm"], HOST] = "auto"
    """Call the host as a process each time, or one that stays warm; auto: warm where that can be trusted."""
    command_cache: bool = True
    """Whether a warm host builds its tree of commands once, instead of at each call."""
    warm_merge_drivers: bool = True
    """Whether a warm host also answers git when that asks the host to merge a file."""


class GateSection(Section):
    """`[[gates]]`: a command that must succeed on a commit before a review of it is paid for."""

    name: Annotated[str, AfterValidator(_gate_name)]
    """Short, for people; part of the name of its logs."""
    command: Command
    """A line for `/bin/sh`, or a list of words that no shell sees."""
    timeout: Duration = LONGEST_GATE_S
    """How long it may take."""


def _apart(gates: tuple[GateSection, ...]) -> tuple[GateSection, ...]:
    names = [one.name for one in gates]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise ValueError(f"two gates are named {twice[0]}")
    return gates


class ConfineSettings(Section):
    """`[confine]`: what differs where agents, gates and commit hooks are confined."""

    writable: Places = ()
    """What they may write besides, as `["~/.m2", "~/.cache/pre-commit"]`.

    Absolute paths, `~/NAME` or `$VARIABLE/NAME`; so are those of the next two.
    """
    hidden: Places = ()
    """What is not there for them, besides the usual keys and logins.

    These are `~/.ssh`, `~/.aws`, `~/.gnupg`, `~/.netrc`, `~/.npmrc`, browsers, other agents' logins and the
    like.
    """
    shown: Places = ()
    """What is there although it is one of these, such as `"~/.npmrc"`; read-only."""
    network: Annotated[tuple[Literal["agents", "gates", "hooks"], ...], BeforeValidator(list_to_tuple)] = (
        "agents",
        "gates",
        "hooks",
    )
    """Who has the network; an agent needs it for its model."""


class Settings(Section):
    """Everything that can be configured."""

    run: RunSettings = Field(default_factory=RunSettings)
    host: HostSettings = Field(default_factory=HostSettings)
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    confine: ConfineSettings = Field(default_factory=ConfineSettings)
    gates: Annotated[tuple[GateSection, ...], BeforeValidator(list_to_tuple), AfterValidator(_apart)] = ()
    notify: Annotated[tuple[NotifySection, ...], BeforeValidator(list_to_tuple), AfterValidator(apart)] = ()


SECTIONS: Mapping[str, type[BaseModel]] = {
    "run": RunSettings,
    "host": HostSettings,
    "cluster": ClusterSettings,
}
"""Those whose keys are also variables, and flags where their field says so."""


def named_fields() -> Mapping[str, tuple[str, str, FieldInfo]]:
    """Return section, key and field of what `SECTIONS` hold: `<key>` of `[run]`, else `<section>_<key>`."""
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
