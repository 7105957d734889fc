"""A reviewer's final text -> a verdict that is bound to one attempt and one commit.

Whatever is not exactly that is `unusable`, which is neither approval nor rejection. Numbers and prose
outside the object never count.
"""

from collections.abc import Mapping
from enum import StrEnum

from spec_kitty_orchestrator.core.json_text import Found, objects, text_of
from spec_kitty_orchestrator.core.records import dataclass

__all__ = [
    "APPROVED",
    "BY_PERSON",
    "CHANGES_REQUESTED",
    "Feedback",
    "FeedbackSource",
    "Finding",
    "Ruling",
    "Verdict",
    "feedback_text",
    "read_verdict",
]

LONGEST_SUMMARY = 4_000
LONGEST_MESSAGE = 4_000
MOST_FINDINGS = 100

APPROVED = "approved"
"""The word of a verdict by which a reviewer approves."""
CHANGES_REQUESTED = "changes_requested"
"""The word of a verdict by which a reviewer sends work back."""


@dataclass(frozen=True)
class Finding:
    """One thing that a reviewer wants changed.

    Attributes:
        severity: a word of the reviewer's own, such as "major", or "". Reports and CI files show it, and rank
            by it: "critical", "blocker", "high", "major" and "error" are errors; "medium", "minor", "low" and
            "warning" are warnings; "nit", "info", "style" and "suggestion" are notes. An unknown word is an
            error if the verdict asks for changes, else a note. It decides nothing.
        message: what has to change.
        file: its path in the worktree, "" if none was named.
        line: counted from 1, 0 if none was named.
    """

    severity: str
    message: str
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """Write its place as ``src/app.py:12``, ``src/app.py`` or "", as far as it is known."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file


class Ruling(StrEnum):
    """What a reviewer's last word amounts to."""

    APPROVED = APPROVED
    CHANGES_REQUESTED = CHANGES_REQUESTED
    UNUSABLE = "unusable"


BY_PERSON = "a-person"
"""What stands for the attempt of a reviewer in the approval of a person."""


@dataclass(frozen=True)
class Verdict:
    """What a reviewer said about one commit.

    Attributes:
        ruling: `unusable` is neither approval nor rejection; `summary` then says why.
        head: the sha that the verdict is bound to.
        attempt_id: the review attempt it came from.
        reviewer: name of the agent.
    """

    ruling: Ruling
    head: str
    attempt_id: str
    reviewer: str
    summary: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def by_person(self) -> bool:
        """Whether a person gave it, whose name is `reviewer`."""
        return self.attempt_id == BY_PERSON


class FeedbackSource(StrEnum):
    """Who sends a work package back to its implementer."""

    REVIEW = "review"
    OPERATOR = "operator"
    HOST = "host"
    COMMIT = "commit"
    REPORT = "report"
    GATE = "gate"


@dataclass(frozen=True)
class Feedback:
    """What the next implement attempt must mend, in the words of whoever refused."""

    source: FeedbackSource
    text: str


def read_verdict(text: str, *, attempt_id: str, head: str, reviewer: str) -> Verdict:
    """Read the verdict of one review attempt.

    The text must end with one JSON object that begins a line (a closing code fence may follow), whose
    `attempt` and `head` are the ones we gave and whose `verdict` is `approved` or `changes_requested`. An
    earlier object for the same attempt must agree with it, and nothing before it may be a broken one; objects
    for other attempts are quotations and are ignored.
    """
    found = [one for one in objects(text) if "verdict" in one.value]
    reason = _why_unusable(found, attempt_id, head)
    if reason:
        return Verdict(Ruling.UNUSABLE, head, attempt_id, reviewer, reason)
    last = found[-1].value
    findings = _findings(last.get("findings"))
    summary = text_of(last.get("summary"), LONGEST_SUMMARY)
    if last["verdict"] == CHANGES_REQUESTED and not findings and not summary:
        reason = "it requests changes but names nothing to change"
        return Verdict(Ruling.UNUSABLE, head, attempt_id, reviewer, reason)
    return Verdict(Ruling(str(last["verdict"])), head, attempt_id, reviewer, summary, findings)


def _why_unusable(found: list[Found], attempt_id: str, head: str) -> str:
    if not found:
        return "it holds no verdict object"
    last = found[-1]
    if last.value.get("attempt") != attempt_id:
        return "its last verdict object is for another attempt"
    if last.value.get("head") != head:
        return "its verdict object names another commit"
    if not last.last:
        return "its verdict object is not its last word"
    if not last.apart:
        return (
            "its verdict object does not begin a line, so it may be a quotation or a part of something else"
        )
    if not last.intact:
        return "something before its verdict object began like one and is broken"
    if last.value["verdict"] not in (APPROVED, CHANGES_REQUESTED):
        return f"its verdict is neither {APPROVED} nor {CHANGES_REQUESTED}"
    ours = [one.value for one in found if one.value.get("attempt") == attempt_id]
    if any(one["verdict"] != last.value["verdict"] or one.get("head") != head for one in ours):
        return "it holds contradicting verdict objects"
    return ""


def _findings(value: object) -> tuple[Finding, ...]:
    if not isinstance(value, list):
        return ()
    read = (_finding(one) for one in value[:MOST_FINDINGS])
    return tuple(one for one in read if one.message)


def _finding(value: object) -> Finding:
    if not isinstance(value, Mapping):
        return Finding("", text_of(value, LONGEST_MESSAGE))
    line = value.get("line")
    return Finding(
        severity=text_of(value.get("severity"), 40),
        message=text_of(value.get("message"), LONGEST_MESSAGE),
        file=text_of(value.get("file"), 400),
        line=line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else 0,
    )


def feedback_text(verdict: Verdict) -> str:
    """Write a rejection down for the implementer and for the next reviewer, as Markdown."""
    lines = [verdict.summary] if verdict.summary else []
    for one in verdict.findings:
        place = f"{one.place}: " if one.place else ""
        severity = f"[{one.severity}] " if one.severity else ""
        lines.append(f"- {severity}{place}{one.message}")
    return "\n".join(lines)
