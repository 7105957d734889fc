"""Every command line and every settings file in a page is read by the program itself, without being run."""

import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from spec_kitty_orchestrator.agents import names
from spec_kitty_orchestrator.cli import PROGRAM, command_line
from spec_kitty_orchestrator.config import CONFIG_FILE, load
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.settings import Settings

__all__ = ["connect"]

log = logging.getLogger(__name__)
BETWEEN = {"&&", "||", "|", ";", "&"}


def connect(app: Sphinx) -> None:
    """Let each page be looked at once it was read."""
    app.connect("doctree-read", _read)


def _read(_app: Sphinx, tree: nodes.document) -> None:
    for block in tree.findall(nodes.literal_block):
        if block.get("language") == "toml" and (wrong := _refusal(block.astext())):
            log.warning(wrong, location=block)
        if block.get("language") in ("text", "sh", "console", "default") and "source" not in block:
            for words in _commands(block.astext()):
                if wrong := _objection(words):
                    log.warning("%s %s: %s", PROGRAM, shlex.join(words), wrong, location=block)


def _refusal(text: str) -> str:
    """Say what the program has against a settings file, "" if it takes it, or if it is another file."""
    if not tomllib.loads(text).keys() <= Settings.model_fields.keys():
        return ""
    with TemporaryDirectory() as folder:
        file = Path(folder, CONFIG_FILE)
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        try:
            load(Path(folder), {}, {}, names())
        except ConfigError as error:
            return str(error)
    return ""


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each of our commands; lines that leave something out are none."""
    for line in text.replace("\\\n", " ").splitlines():
        if PROGRAM not in line or "…" in line:
            continue
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:  # prose
            continue
        while words:
            end = next((place for place, word in enumerate(words) if word in BETWEEN), len(words))
            command, words = words[:end], words[end + 1 :]
            if command[:1] == [PROGRAM]:
                yield command[1:]


def _objection(words: list[str]) -> str:
    """Say what the program has against a command, "" if it takes it."""
    whole = command_line()
    name = words[0] if words else ""
    if name in whole.commands:
        try:
            whole.commands[name].make_context(name, words[1:])
        except Exception as error:  # noqa: BLE001 - of the library below typer, wherever that is
            return getattr(error, "message", "") or str(error)
        return ""
    return "" if name.startswith("-") else "there is no such command"
