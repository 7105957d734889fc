"""A folder with the journal of a mission that stand-ins ran, for examples that read events."""

import os
import subprocess
import tempfile
from pathlib import Path

import anyio

from spec_kitty_orchestrator import Orchestrator, Parts, Policy, Prompts
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.testing import (
    FakeHost,
    FakeWorkspaces,
    LoopClock,
    MemoryLock,
    Play,
    ScriptedAgents,
    Watcher,
)

__all__ = ["go_there"]


def go_there(mission: str) -> None:
    """Make a repository in which two work packages are done, and let it be the current directory."""
    root = Path(tempfile.mkdtemp())
    subprocess.run(["git", "init", "-q", root], check=True)  # noqa: S607 - whichever git the examples find
    workspaces = FakeWorkspaces()
    parts = Parts(
        mission,
        "me",
        Policy(impl_agents=("ada",), review_agents=("rob",)),
        lock=MemoryLock(),
        host=FakeHost({"WP01": (), "WP02": ("WP01",)}, mission=mission),
        agents=ScriptedAgents(workspaces, lambda _: Play(seconds=0)),
        workspaces=workspaces,
        journal=JsonlJournal(root / ".kittify" / "orchestrator" / mission, root),
        clock=LoopClock(),
        observer=Watcher(),
        prompts=Prompts("${task}${report}", "${task}${feedback}${report}", "${task}${verdict}"),
        version="0",
    )
    anyio.run(Orchestrator(parts).run)
    os.chdir(root)
