"""The command line, from the commands themselves; a setting is told of where the settings are."""

from collections.abc import Iterator
from typing import Any

from spec_kitty_orchestrator.cli import COMMANDS, PROGRAM, SECTIONS, command_line
from spec_kitty_orchestrator.settings import flag_of, named_fields

__all__ = ["lines"]

SETTINGS = {flag_of(name): f"{section}.{key}" for name, (section, key, _) in named_fields().items()}


def lines(_: str) -> Iterator[str]:
    """Yield the Markdown of all commands, in the sections of the help."""
    whole = command_line()
    for heading, names in SECTIONS.items():
        yield from ("", f"## {heading}")
        for name in names.split():
            context = whole.commands[name].make_context(name, [], resilient_parsing=True)
            yield from _command(context, name, COMMANDS[name][1])


def _command(context: Any, name: str, line: str) -> Iterator[str]:
    command = context.command
    yield from ("", f"### `{name}`", "", f":::{{program}} {PROGRAM} {name}", ":::", "")
    if name in COMMANDS:
        yield from (
            "```none",
            f"{PROGRAM} {name} {' '.join(command.collect_usage_pieces(context))}",
            "```",
            "",
        )
    yield command.help or line
    yield from _options(context)
    for below in getattr(command, "commands", {}).values():
        inner = below.make_context(below.name, [], parent=context, resilient_parsing=True)
        yield from _command(inner, f"{name} {below.name}", below.help or "")


def _options(context: Any) -> Iterator[str]:
    settings: dict[str, list[str]] = {}
    for one in context.command.get_params(context):
        record = one.get_help_record(context)
        if record is None or "--help" in one.opts:
            continue
        if one.opts[0] in SETTINGS:
            link = f"{{setting}}`{one.opts[0]} <{SETTINGS[one.opts[0]]}>`"
            settings.setdefault(one.rich_help_panel, []).append(link)
        elif one.param_type_name == "argument":
            yield from ("", f"`{record[0]}`: {record[1]}")
        else:
            yield from ("", f"::::{{option}} {record[0].replace(' / ', ', ')}", record[1], "::::")
    if settings:
        yield from ("", "Each of these is a key of the [settings](configuration.md), too:", "")
        yield from (f"- {heading}: {', '.join(links)}" for heading, links in settings.items())
