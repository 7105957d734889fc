"""Gates: commands of the operator's that must succeed on a commit before a review of it is paid for."""

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TIMEOUT_S = 900.0
"""Seconds that a gate may take for which nothing else was said."""


@dataclass(frozen=True)
class Gate:
    """One command.

    Attributes:
        name: unique; part of the name of its logs.
        command: the argv; a line of the operator's for the shell is `/bin/sh -c LINE`.
        timeout_s: after which it is stopped, in seconds.
    """

    name: str
    command: tuple[str, ...]
    timeout_s: float = LONGEST_TIMEOUT_S


@dataclass(frozen=True)
class GateResult:
    """What one gate said of one commit.

    Attributes:
        name: the gate's.
        command: what ran, so that a gate that was changed since has said nothing.
        head: the commit.
        ok: whether it passed.
        seconds: how long it took.
        log: absolute path of the directory with its output.
    """

    name: str
    command: tuple[str, ...]
    head: str
    ok: bool
    seconds: float = 0.0
    log: str = ""


@dataclass(frozen=True)
class GateStanding:
    """How far a turn of the gates is.

    Attributes:
        tree: the fingerprint of the workspace when the turn began, "" if it has not begun.
        running: whether one of its gates still runs.
        stopped: how many gates were stopped because they are no part of it.
    """

    tree: str = ""
    running: bool = False
    stopped: int = 0


def unproven(gates: Iterable[Gate], results: Iterable[GateResult], head: str) -> tuple[str, ...]:
    """Name the gates that have not passed on this very commit as they are now."""
    green = {(one.name, one.command) for one in results if one.ok and one.head == head}
    return tuple(one.name for one in gates if (one.name, one.command) not in green)


def told(results: Iterable[GateResult]) -> str:
    """List the results for people and for reviewers, one a line; "" if there are none."""
    return "\n".join(
        f"- {one.name}: {'passed' if one.ok else 'failed'} on {one.head} in {one.seconds:.0f} s"
        for one in results
    )
