"""Speaks each agent CLI: pure argv building and output parsing, no processes."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from spec_kitty_orchestrator.agents import plugins
from spec_kitty_orchestrator.agents.augment import Augment
from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.codex import Codex
from spec_kitty_orchestrator.agents.copilot import Copilot
from spec_kitty_orchestrator.agents.cursor import Cursor
from spec_kitty_orchestrator.agents.gemini import Gemini
from spec_kitty_orchestrator.agents.kilocode import KiloCode
from spec_kitty_orchestrator.agents.letta import Letta
from spec_kitty_orchestrator.agents.opencode import OpenCode
from spec_kitty_orchestrator.agents.pi import Pi
from spec_kitty_orchestrator.agents.qwen import Qwen
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.errors import UsageError

BUILT_IN: Mapping[str, Agent] = MappingProxyType(
    {
        "claude-code": ClaudeCode(),
        "codex": Codex(),
        "opencode": OpenCode(),
        "gemini": Gemini(),
        "qwen": Qwen(),
        "copilot": Copilot(),
        "kilocode": KiloCode(),
        "augment": Augment(),
        "cursor": Cursor(),
        "pi": Pi(),
        "letta": Letta(),
        "scripted": Scripted(),
    }
)
"""The agents that come with the package, by the name that `--impl-agent` takes."""


def names() -> tuple[str, ...]:
    """Return the names of the built-in agents, then those of plug-ins; no plug-in is loaded."""
    return tuple(dict.fromkeys((*BUILT_IN, *plugins.names())))


def find(name: str) -> Agent:
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
        return plugins.load(name)
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise UsageError(f"unknown agent {name!r}{hint} (known: {', '.join(known)})")
