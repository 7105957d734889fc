"""What `watch` needs to know of a mission's run, and asks again and again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from spec_kitty_orchestrator.agents.steps import Step
from spec_kitty_orchestrator.core.model import Attempt, Evidence
from spec_kitty_orchestrator.core.orders import Order
from spec_kitty_orchestrator.core.report import Report

__all__ = ["Source", "StepLog"]


class StepLog(Protocol):
    """The output of one attempt in words; of a long one its end, and more when that is asked for."""

    @property
    def steps(self) -> Sequence[Step]:
        """The steps that are known, oldest first."""
        ...

    @property
    def whole(self) -> bool:
        """Whether there is nothing before them."""
        ...

    def more(self) -> bool:
        """Read what is new; tell whether there was anything."""
        ...

    def earlier(self) -> bool:
        """Read what is before; tell whether there was anything."""
        ...


class Source(Protocol):
    """A mission's run, as its journal tells it and while that grows."""

    @property
    def report(self) -> Report:
        """What was known at the last look."""
        ...

    @property
    def trouble(self) -> str:
        """Why the journal cannot be read any more, in one line; "" if it can."""
        ...

    def now(self) -> datetime:
        """Return the time, in UTC."""
        ...

    def look(self) -> bool:
        """Read what is new; tell whether there was anything."""
        ...

    def log(self, attempt: Attempt) -> StepLog:
        """Return the output of an attempt, the same object each time."""
        ...

    async def diff(self, evidence: Evidence) -> str:
        """Return what a range of commits changes, or why that cannot be told."""
        ...

    async def give(self, order: Order) -> str:
        """Give an order to the run, or for its next start, and return the answer.

        Raises:
            OrchestratorError: it is refused, or nobody answers.
            OSError: the disk refuses.
        """
        ...
