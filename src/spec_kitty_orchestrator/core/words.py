"""The words of the domain that have a fixed set of values."""

from enum import StrEnum


class Lane(StrEnum):
    """The host's status of a work package. We read it and ask for changes; it is never ours to store."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    IN_PROGRESS = "in_progress"
    FOR_REVIEW = "for_review"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    DONE = "done"
    BLOCKED = "blocked"
    CANCELED = "canceled"

    @property
    def complete(self) -> bool:
        """Whether the host lets dependents of a work package in this lane start."""
        return self in (Lane.APPROVED, Lane.DONE)


class Phase(StrEnum):
    """Where a work package stands in this run; never to be confused with its lane."""

    WAITING = "waiting"
    CLAIMING = "claiming"
    IMPLEMENTING = "implementing"
    COMMITTING = "committing"
    GATING = "gating"
    SUBMITTING = "submitting"
    CLAIMING_REVIEW = "claiming review"
    REVIEWING = "reviewing"
    RECORDING = "recording"
    PARKING = "parking"
    FINISHED = "finished"


class Role(StrEnum):
    """What an agent process is for; rework is an implement attempt with feedback."""

    IMPLEMENT = "implement"
    REVIEW = "review"


class Outcome(StrEnum):
    """How an attempt ended. Only `ok` says that the agent finished what it was asked."""

    OK = "ok"
    FAILED = "failed"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    INVALID_REQUEST = "invalid_request"
    BUDGET = "budget"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    CRASHED = "crashed"
    CANCELED = "canceled"
    LOST = "lost"


class Result(StrEnum):
    """How a work package left the run."""

    DONE = "done"
    APPROVED = "approved"
    PARKED = "parked"
    BLOCKED = "blocked"
    CANCELED = "canceled"
    FOREIGN = "held by another actor"
    UNREVIEWED = "completed by others"
    REQUEUED = "requeued"
