"""What is said of a work package's commits: verdicts with their findings, and what must be mended."""

from dataclasses import dataclass
from enum import StrEnum

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"


@dataclass(frozen=True)
class Finding:
    """One thing that a reviewer wants changed; `file` and `line` are "" and 0 when it named none."""

    severity: str
    message: str
    file: str = ""
    line: int = 0


class Ruling(StrEnum):
    """What a reviewer's last word amounts to."""

    APPROVED = APPROVED
    CHANGES_REQUESTED = CHANGES_REQUESTED
    UNUSABLE = "unusable"


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
