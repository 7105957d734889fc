"""Findings of the checks before a run, each with a command that fixes it.

Each check exists once: a run raises the errors among its findings, and `doctor` shows all of them.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from spec_kitty_orchestrator.errors import HostError, OrchestratorError, PreflightError, RunActive, UsageError

__all__ = ["Finding", "Level", "edit", "error", "errors", "line", "noted", "ok", "some", "stop_at", "warning"]

_SHOWN = 3


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

    level: Level
    id: str
    text: str
    fix: str = ""
    about: str = ""
    kind: type[OrchestratorError] = PreflightError


ok: partial[Finding] = partial(Finding, Level.OK)
warning: partial[Finding] = partial(Finding, Level.WARNING)
error: partial[Finding] = partial(Finding, Level.ERROR)


def errors(found: Iterable[Finding]) -> list[OrchestratorError]:
    """Return what a run stops with; each says how to fix it, on a line of its own unless its text does."""
    wrong = (one for one in found if one.level is Level.ERROR)
    return [one.kind(one.text if one.fix in one.text else f"{one.text}\n{one.fix}") for one in wrong]


@contextmanager
def noted(
    told: list[Finding],
    identity: str,
    about: str = "",
    who: str = "the host",
    fix: Callable[[Exception], str] = lambda _: "",
) -> Iterator[None]:
    """Record a failure in this block, or that `who` takes too long, as a finding."""
    try:
        yield
    except (OrchestratorError, TimeoutError) as failure:
        text = str(failure).replace("\n", "; ") or f"{who} did not answer in time"
        told.append(error(identity, text, fix(failure), about))


def line(*words: object) -> str:
    """Write an argv as a line for a shell."""
    return shlex.join(str(word) for word in words)


def edit(*files: object) -> str:
    """Write the command with which a person edits files."""
    # It is not quoted, because it may hold arguments, such as `code --wait`.
    return f"${{EDITOR:-vi}} {line(*files)}"


def some(names: Sequence[object]) -> str:
    """List the first few, and count the rest."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(str(name) for name in names[:_SHOWN]) + more


def stop_at(problems: Iterable[OrchestratorError]) -> None:
    """Raise all problems as one error with the exit code of the gravest: usage, host, lock, preflight."""
    found = sorted(problems, key=lambda problem: problem.exit_code)
    if len(found) == 1:
        raise found[0]
    for kind in (UsageError, HostError, RunActive, PreflightError):
        if found and kind.exit_code == found[0].exit_code:
            raise kind("\n".join(str(problem) for problem in found))
