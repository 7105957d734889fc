"""The options that `orchestrate` and `resume` share; those of settings are made from the model's fields."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from spec_kitty_orchestrator.settings import REVIEW, flag_of, named_fields, spelled_value, written
from spec_kitty_orchestrator.settings.values import NONE, Flag

__all__ = [
    "SETTINGS",
    "Ci",
    "Executor",
    "Gate",
    "ImplAgent",
    "Insecure",
    "Json",
    "OnInterrupt",
    "Output",
    "RepoRoot",
    "ReviewAgent",
    "RunOptions",
    "TlsCa",
    "TlsCert",
    "TlsKey",
    "mission_option",
]

PARAGRAPH = "\n\n"
"""Ends what the help of an option tells of a setting."""


class Ci(StrEnum):
    """What kind of job a run is a part of."""

    AUTO = "auto"
    GITHUB = "github"
    GITLAB = "gitlab"
    BUILDKITE = "buildkite"
    OFF = "off"


class OnInterrupt(StrEnum):
    """What the first signal does; a later one always stops the agents."""

    STOP = "stop"
    DRAIN = "drain"


class Output(StrEnum):
    """How a run is shown."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSONL = "jsonl"


def _guarded(given: Path | None) -> Path | None:
    """Keep a repository's programs out before anything is started there: every command has this option."""
    from spec_kitty_orchestrator.app.trust import keep_out_untrusted

    with suppress(OSError):  # whoever looks for the project says that the current folder is gone
        keep_out_untrusted(given or Path.cwd())
    return given


RepoRoot = Annotated[
    Path | None,
    typer.Option(help="The project; else the current directory's.", show_default=False, callback=_guarded),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def mission_option(words: str) -> Any:
    """Make the option that names a mission."""
    return typer.Option("--mission", "-m", help=words, show_default=False)


def _of_setting(name: str) -> inspect.Parameter | None:
    """Make the option of a setting from its field; None if it is no option.

    What is not given is None: then what a run recorded, the variable, the file or the default holds.
    """
    _, key, info = named_fields()[name]
    flag = next((one for one in info.metadata if isinstance(one, Flag)), None)
    if flag is None:
        return None
    option, value = flag_of(name), written(info)
    kind: Any = list[str] if value.repeated else str
    if info.annotation is bool:
        kind, option = bool, f"{option}/--no-{option.removeprefix('--')}"
    made = typer.Option(
        option,
        metavar=None if kind is bool else value.metavar,
        help=f"{str(info.description).partition(PARAGRAPH)[0]} [default: {_default(info)}]",
        show_default=False,
        rich_help_panel=flag.heading,
        autocompletion=None if kind is bool else _completion(key, info),
    )
    annotation = Annotated[kind | None, made]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return ("off", "on")[value] if isinstance(value, bool) else spelled_value(info, value)


def _completion(key: str, info: FieldInfo) -> Callable[[str], list[str]]:
    def matching(incomplete: str) -> list[str]:
        known = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        if key.endswith("_agents"):
            from spec_kitty_orchestrator.agents import names

            known = names()
        return [one for one in known if one.startswith(incomplete)]

    return matching


_MADE = ((name, _of_setting(name)) for name in named_fields())

SETTINGS = {name: made for name, made in _MADE if made is not None}
"""The options of all settings, and `--gate`."""

ImplAgent = SETTINGS["impl_agents"].annotation
ReviewAgent = SETTINGS["review_agents"].annotation
Executor = SETTINGS["executor"].annotation
TlsCa = SETTINGS["cluster_tls_ca"].annotation
TlsCert = SETTINGS["cluster_tls_cert"].annotation
TlsKey = SETTINGS["cluster_tls_key"].annotation
Insecure = SETTINGS["cluster_insecure"].annotation
Gate = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CMD",
        help="A command that must succeed on a commit before it is reviewed, after the gates of the file; "
        f"can be repeated. `{NONE}` takes back those that a run was given.",
        show_default=False,
        rich_help_panel=REVIEW.heading,
    ),
]
SETTINGS["gate"] = inspect.Parameter("gate", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Gate)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a command that runs a mission takes: settings, and what concerns this start alone.

    Attributes:
        settings: those that were given, by the names that `config.load` wants.
    """

    settings: Mapping[str, object] = field(default_factory=dict)
    repo_root: RepoRoot = None
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the mission if every WP is approved or done.")
    ] = False
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the mission if every WP is approved or done.")
    ] = False
    output: Annotated[
        Output,
        typer.Option(
            help="How to show the run: as a live table (on a terminal), as plain lines, or as one JSON "
            "object for each event on stdout, with everything else on stderr."
        ),
    ] = Output.AUTO
    ci: Annotated[
        Ci,
        typer.Option(
            help="Group the log, and put notes, a summary and outputs where this service shows them; by "
            "default where its variables say that it is a job of it."
        ),
    ] = Ci.AUTO
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a test report, with a case per WP.", show_default=False),
    ] = None
    sarif: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what reviewers still want changed.", show_default=False),
    ] = None
    on_interrupt: Annotated[
        OnInterrupt,
        typer.Option(help="On the first signal: stop the agents, or let them end their attempts."),
    ] = OnInterrupt.STOP
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="In plain lines, tell what always happens, too.")
    ] = False
    no_caffeinate: Annotated[
        bool, typer.Option("--no-caffeinate", help="Let the machine fall asleep while agents work.")
    ] = False
