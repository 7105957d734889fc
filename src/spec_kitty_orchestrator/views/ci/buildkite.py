"""Buildkite: groups of its log, and the style of an annotation."""

from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.views.ci import inert

__all__ = ["META_DATA", "group", "style"]

META_DATA = "spec-kitty-orchestrator"
"""The key under which later steps find the figures of the run, as JSON."""


def group(title: str, *, folded: bool) -> str:
    """Begin a group; it ends where the next one begins."""
    return f"{'---' if folded else '+++'} {inert(title)}"


def style(report: Report) -> str:
    """Return how an annotation looks."""
    if len(report.of(Status.DONE)) == len(report.wps):
        return "success"
    return "error" if report.of(Status.NEEDS_YOU) else "warning"
