"""Whether rework and review turn in place: the same findings, or the same content, twice in a row."""

import re

from spec_kitty_orchestrator.core.model import Evidence, Policy, Verdict, WorkPackage
from spec_kitty_orchestrator.core.verdict import feedback_text

LONGEST_QUOTE = 300

_POSITION = re.compile(r"\blines?\s+\d+(\s*[-\u2013]\s*\d+)?|:\d+")
"""Where in a file something is, which changes when anything above it does."""


def same_findings(wp: WorkPackage, verdict: Verdict, policy: Policy) -> str:
    """Say that the last review of this start asked for just the same, "" if it did not.

    Reviews without findings are never the same: a summary often says no more than "changes are needed".
    """
    rejected = wp.rejected[wp.rejected_from :] if policy.stop_repeats else ()
    if not rejected or not verdict.findings or _asked(rejected[-1]) != _asked(verdict):
        return ""
    last = rejected[-1]
    return (
        f"two reviews in a row ask for the same: {last.reviewer} of {last.head} and {verdict.reviewer} of "
        f"{verdict.head}: {_quote(verdict)}"
    )


def same_content(wp: WorkPackage, found: Evidence, policy: Policy) -> str:
    """Say that the commit holds just what the last review of this start rejected, "" if it does not."""
    rejected = wp.rejected[wp.rejected_from :] if policy.stop_repeats else ()
    if not rejected or not found.tree or found.tree != wp.rejected_tree:
        return ""
    last = rejected[-1]
    reason = wp.report.no_change_reason or wp.report.summary or "nothing"
    return (
        f"the same content twice in a row: {found.head} holds what {last.reviewer} rejected in {last.head}; "
        f"the reviewer asks: {_quote(last)}; the implementer says: {_line(reason)}"
    )


def _asked(verdict: Verdict) -> frozenset[tuple[str, str, str]]:
    """Reduce what is asked for to what stays the same when lines move and words are set otherwise."""
    return frozenset((one.severity.lower(), one.file, _words(one.message)) for one in verdict.findings)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", _POSITION.sub(" ", text.lower())))


def _quote(verdict: Verdict) -> str:
    return _line(feedback_text(verdict))


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_QUOTE]
