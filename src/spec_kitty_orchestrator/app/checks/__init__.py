"""Findings of the checks before a run, each with a command that fixes it.

Each check exists once: a run raises the errors among its findings, and `doctor` shows all of them.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spec_kitty_orchestrator.errors import (
    HostError,
    OrchestratorError,
    PreflightError,
    RunActive,
    UsageError,
)


class Level(StrEnum):
    """The severity; with an error, a run would fail or not start."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """The result of checking one thing.

    Attributes:
        id: what was checked, a stable name such as ``agent.version``.
        text: one sentence without a full stop.
        fix: a command for a shell that fixes it, "" if none does or nothing is wrong.
        about: the agent, work package or gate that it concerns, "" for the whole run.
        kind: the error that a run stops with.
    """

    id: str
    level: Level
    text: str
    fix: str = ""
    about: str = ""
    kind: type[OrchestratorError] = PreflightError

    @property
    def error(self) -> OrchestratorError:
        """What a run raises for it."""
        return self.kind(self.text)


def ok(identity: str, text: str, about: str = "") -> Finding:
    """Make a finding of something that is as it should be."""
    return Finding(identity, Level.OK, text, about=about)


def warning(identity: str, text: str, fix: str = "", about: str = "") -> Finding:
    """Make a finding of something that a run survives."""
    return Finding(identity, Level.WARNING, text, fix, about)


def error(
    identity: str,
    text: str,
    fix: str = "",
    about: str = "",
    kind: type[OrchestratorError] = PreflightError,
) -> Finding:
    """Make a finding of something that would fail a run."""
    return Finding(identity, Level.ERROR, text, fix, about, kind)


def errors(found: Iterable[Finding]) -> list[OrchestratorError]:
    """Return what a run stops with."""
    return [one.error for one in found if one.level is Level.ERROR]


def line(*words: object) -> str:
    """Write an argv as a line for a shell."""
    return shlex.join(str(word) for word in words)


def edit(file: object) -> str:
    """Write the command with which a person edits a file."""
    # It is not quoted, because it may hold arguments, such as `code --wait`.
    return f"${{EDITOR:-vi}} {shlex.quote(str(file))}"


def stop_at(problems: Iterable[OrchestratorError]) -> None:
    """Raise all problems as one error with the exit code of the gravest: usage, host, lock, preflight."""
    found = sorted(problems, key=lambda problem: problem.exit_code)
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    kinds: Mapping[int, type[OrchestratorError]] = {
        kind.exit_code: kind for kind in (UsageError, HostError, RunActive, PreflightError)
    }
    raise kinds[found[0].exit_code]("\n".join(str(problem) for problem in found))
