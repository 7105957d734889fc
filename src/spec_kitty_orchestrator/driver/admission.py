"""Decides before each command whether a work package may go on, and who makes its next attempt."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf

import anyio

from spec_kitty_orchestrator.core.commands import Claim, ClaimReview, Command, OpenAttempt, Park, RunAgent
from spec_kitty_orchestrator.core.events import AgentExited, BudgetSpent, Event, StandIn
from spec_kitty_orchestrator.core.model import Policy, WorkPackage
from spec_kitty_orchestrator.core.quota import Rest, used_up
from spec_kitty_orchestrator.driver.closing import Closing
from spec_kitty_orchestrator.driver.lookout import Lookout
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.driver.quotas import LOOK_S, Quotas
from spec_kitty_orchestrator.driver.result import EXIT_BUDGET, EXIT_QUOTA, Ending
from spec_kitty_orchestrator.driver.spending import Spending
from spec_kitty_orchestrator.ports import Observer


@dataclass(frozen=True)
class Held:
    """A work package must give its slot back.

    Attributes:
        reason: what it waits for.
        until: when it is to ask again, on the event loop's clock; None if something else wakes it.
    """

    reason: str
    until: float | None = None


class Admission:
    """The one place where seats, quotas and the budget are asked for."""

    def __init__(
        self,
        policy: Policy,
        progress: Progress,
        quotas: Quotas,
        spending: Spending,
        closing: Closing,
        lookout: Lookout,
        observer: Observer,
    ) -> None:
        self._policy, self._progress, self._quotas = policy, progress, quotas
        self._spending, self._closing = spending, closing
        self._lookout, self._observer = lookout, observer

    def ask(self, wp: WorkPackage, command: Command) -> Held | Event | None:
        """Return None if `command` may be performed, why it must wait, or what happens instead of it."""
        board = self._progress.board
        if wp.id == board.ahead and not isinstance(command, Claim | Park):
            return Held("claimed ahead, waits for a slot")
        if isinstance(command, OpenAttempt):
            return self._ask_for_attempt(wp, command)
        if not isinstance(command, Claim | ClaimReview | RunAgent):
            board.vacate(wp.id)
            self.leave(wp.id)
            self._progress.tell()
        return None

    def _ask_for_attempt(self, wp: WorkPackage, command: OpenAttempt) -> Held | Event | None:
        spent = self._check_budget()
        if spent:
            return Held(spent)
        too_much = self._spending.over(wp)
        if too_much:
            return BudgetSpent(too_much)
        answer = self._quotas.ask(wp, command.role)
        if isinstance(answer, Rest):
            if self._quotas.stops:
                self._closing.end(Ending(EXIT_QUOTA, answer.reason))
            return Held(answer.reason, self._quotas.rest(wp.id, answer))
        _, agents = wp.order(command.role, self._policy)
        if agents[answer.position] != command.agent:
            return StandIn(command.role, answer.position)
        if not self._progress.board.admit(wp.id, command.agent):
            return Held(self._progress.board.seats.refusal(command.agent))
        self._quotas.began(wp.id, command.agent)
        return None

    def ended(self, before: WorkPackage, wp: WorkPackage, event: AgentExited, at: datetime) -> None:
        """Note how an open attempt ended, if it is that, and wake who waited for it."""
        attempt = before.open_attempt
        if attempt is None or attempt.id != event.attempt_id:
            return
        self._spending.ended(before, wp, attempt, event.report)
        self._check_budget()
        agent, rested = attempt.agent, self._quotas.resting
        self._rouse(self._quotas.ended(wp.id, agent, event.report, at))
        until = self._quotas.resting.get(agent)
        if until is None:
            return
        if self._quotas.stops:
            self._closing.end(Ending(EXIT_QUOTA, f"{agent} rests: {used_up(until)}"))
        elif rested.get(agent) != until:
            self._observer.said(f"{agent} rests: {used_up(until)}")

    def equipped(self, wp: WorkPackage, command: Command) -> Command:
        """Return the command with what its attempt may cost."""
        if not isinstance(command, OpenAttempt):
            return command
        return replace(command, max_cost_usd=self._spending.left(wp))

    def begin(self) -> None:
        """Let the time of the run begin; one that may spend nothing only ends what it began."""
        self._spending.begin()
        if not any(wp.open_attempt for wp in self._progress.board.wps.values()):
            self._check_budget()

    async def keep_time(self) -> None:
        """End the run when its time is over; goes on until it is canceled."""
        while True:
            await self._spending.wait()
            if self._check_budget():
                await anyio.sleep_forever()

    def _check_budget(self) -> str:
        spent = self._spending.check()
        if spent:
            self._closing.end(Ending(EXIT_BUDGET, spent), hard=self._spending.hard)
        return spent

    def leave(self, wp_id: str) -> None:
        """Note that a work package has no attempt, and wake who waited for it to end."""
        self._rouse(self._quotas.left(wp_id))

    def hold_new_work(self) -> None:
        """Let nothing be claimed while nobody may implement it."""
        rest = self._quotas.ask_for_new_work()
        self._progress.board.hold_new(rest.reason if rest else "", self._quotas.due(rest) if rest else inf)

    async def idle(self, until: float | None) -> None:
        """Wait for a change or until then; a run that waits for nothing but quotas has its own patience."""
        began = anyio.current_time()
        ends = inf if until is None else until
        alone = self._waits_for_quotas_only(until)
        reason = self._quotas.too_long(ends - began) if alone else ""
        if reason:
            self._closing.end(Ending(EXIT_QUOTA, reason))
            return
        with anyio.move_on_after(min(ends - began, LOOK_S if self._quotas.resting else inf)):
            await self._progress.to_slots.wait()
        if alone:
            self._quotas.waited(anyio.current_time() - began)
            if self._quotas.passed():
                # Nobody looked for hours what people did meanwhile.
                await self._lookout.look()
        self._rouse(self._quotas.passed())

    def _waits_for_quotas_only(self, until: float | None) -> bool:
        board = self._progress.board
        if until is None or board.active or board.resolving:
            return False
        return self._quotas.alone(board.resting)

    def _rouse(self, wp_ids: Iterable[str]) -> None:
        for one in wp_ids:
            self._quotas.woke(one)
            self._progress.board.rouse(one)
        self._progress.tell()
