"""Words and numbers of a report that several formats show alike."""

from collections.abc import Mapping

from spec_kitty_orchestrator.core import describe
from spec_kitty_orchestrator.core.report import Report

__all__ = ["EXITS", "NOTHING", "RESUMABLE", "outcome", "tokens"]

NOTHING = "–"  # noqa: RUF001 - a dash that stands for nothing

EXITS: Mapping[int, str] = {
    0: "everything is done",
    1: "some work packages are not done",
    2: "the settings were wrong",
    3: "the host is missing or broken",
    4: "another run held the mission",
    5: "an agent or the mission was not acceptable",
    6: "nothing could go on",
    7: "a limit was reached",
    75: "a quota was waited for too long",
    130: "interrupted",
    143: "stopped",
}

RESUMABLE = frozenset({7, 75, 130, 143})
"""Exit codes after which another start goes on without a person."""


def tokens(number: int) -> str:
    """Write a number of tokens; none as `NOTHING`."""
    return describe.tokens(number) if number else NOTHING


def outcome(report: Report) -> tuple[str, str]:
    """Say how the last start ended, in short and in words."""
    if report.active:
        return "running", f"as of {report.now:%H:%M:%S} UTC"
    last = report.starts[-1] if report.starts else None
    if last is None:
        return "not run", "it never began"
    if last.aborted:
        return last.outcome, "a person ended it for good"
    if last.exit_code is None:
        return last.outcome, "it did not come to its end"
    return last.outcome, EXITS.get(last.exit_code, "")
