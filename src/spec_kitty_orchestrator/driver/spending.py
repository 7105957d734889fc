"""Watches what a run spends: money and tokens over all runs of its mission, time in this one."""

import anyio

from spec_kitty_orchestrator.core.budget import WARN_AT, Budget, left, moved, nearing, over, reached, total
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Usage, WorkPackage
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.ports import Observer


class Spending:
    """What is spent, by the work packages' own records, and what may still be."""

    def __init__(self, budget: Budget, progress: Progress, observer: Observer) -> None:
        self._budget, self._progress, self._observer = budget, progress, observer
        self._began, self._spent = 0.0, Usage()
        self._warned: set[str] = set()
        self._capped: set[str] = set()
        self._used_up = ""

    @property
    def hard(self) -> bool:
        """Whether attempts at work are stopped at the limit."""
        return self._budget.hard

    def begin(self) -> None:
        """Let the time of the run begin now, and count what earlier ones have spent."""
        self._began = anyio.current_time()
        self._spent = total(wp.usage for wp in self._progress.board.wps.values())

    def check(self) -> str:
        """Say which limit of the run is reached, "" if none is; warn once of each that nearly is."""
        spent, elapsed_s = self._spent, anyio.current_time() - self._began
        found = reached(self._budget, spent, elapsed_s) or self._used_up
        if not found:
            for name, text in nearing(self._budget, spent, elapsed_s).items():
                if name not in self._warned:
                    self._observer.said(f"the budget is nearly used up: {text}")
                self._warned.add(name)
        return f"the budget is used up: {found}; a start with a higher limit goes on" if found else ""

    def over(self, wp: WorkPackage) -> str:
        """Say why a work package may cost no more, "" if it may."""
        found = over(self._budget, wp.usage)
        if not found and wp.id in self._capped:
            limit = f"${self._budget.max_cost_per_wp_usd:.2f}"
            found = f"an attempt used the last of {limit}, the most for one work package"
        return found

    def left(self, wp: WorkPackage) -> float | None:
        """Return what the next attempt of a work package may cost, in US dollars; None for any sum."""
        return left(self._budget, self._spent, wp.usage)

    def ended(self, before: WorkPackage, wp: WorkPackage, attempt: Attempt, report: AgentReport) -> None:
        """Note what an attempt used; one that its own agent ended at our limit has used that up."""
        self._spent = moved(self._spent, before.usage, wp.usage)
        if report.outcome is not Outcome.BUDGET or attempt.max_cost_usd is None:
            return
        of_wp = left(Budget(max_cost_per_wp_usd=self._budget.max_cost_per_wp_usd), Usage(), wp.usage)
        of_run = left(Budget(max_cost_usd=self._budget.max_cost_usd), self._spent, Usage())
        if of_wp is not None and (of_run is None or of_wp <= of_run):
            self._capped.add(wp.id)
        elif of_run is not None:
            self._used_up = f"an attempt used the last of ${self._budget.max_cost_usd:.2f}"

    async def wait(self) -> None:
        """Wait until the time of the run is worth a look: near its end, and at its end."""
        limit_s = self._budget.max_duration_s
        if limit_s is None:
            await anyio.sleep_forever()
            return
        elapsed_s = anyio.current_time() - self._began
        await anyio.sleep(max(limit_s * (WARN_AT if elapsed_s < limit_s * WARN_AT else 1.0) - elapsed_s, 0.0))
