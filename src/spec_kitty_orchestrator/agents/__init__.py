"""Speaks each agent CLI: pure argv building and output parsing, no processes."""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from spec_kitty_orchestrator.errors import UsageError

if TYPE_CHECKING:
    from spec_kitty_orchestrator.agents.spec import Agent

__all__ = ["BUILT_IN", "find", "names"]

_CLASSES: Final = {
    "claude-code": "claude_code.ClaudeCode",
    "codex": "codex.Codex",
    "opencode": "opencode.OpenCode",
    "gemini": "gemini.Gemini",
    "qwen": "qwen.Qwen",
    "copilot": "copilot.Copilot",
    "kilocode": "kilocode.KiloCode",
    "augment": "augment.Augment",
    "cursor": "cursor.Cursor",
    "pi": "pi.Pi",
    "letta": "letta.Letta",
    "scripted": "scripted.Scripted",
}


class _BuiltIn(Mapping[str, "Agent"]):
    """Loads the module of each agent when that is asked for."""

    def __getitem__(self, name: str) -> "Agent":
        return _made(_CLASSES[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


@cache
def _made(path: str) -> "Agent":
    module, _, name = path.partition(".")
    agent: Agent = getattr(import_module(f"{__name__}.{module}"), name)()
    return agent


BUILT_IN: Final = _BuiltIn()
"""The agents that come with the package, by the name that `--impl-agent` takes."""


def names() -> tuple[str, ...]:
    """Return the names of the built-in agents, then those of plug-ins; no plug-in is loaded."""
    from spec_kitty_orchestrator.agents import plugins

    return tuple(dict.fromkeys((*BUILT_IN, *plugins.names())))


def find(name: str) -> "Agent":
    """Return the agent of that name: a built-in one, or else that of a plug-in.

    Raises:
        UsageError: there is none; the message names the nearest one and all known ones.
        PreflightError: the plug-in cannot be used.
    """
    agent = BUILT_IN.get(name)
    if agent is not None:
        return agent
    known = names()
    if name in known:
        from spec_kitty_orchestrator.agents import plugins

        return plugins.load(name)
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise UsageError(f"unknown agent {name!r}{hint} (known: {', '.join(known)})")
