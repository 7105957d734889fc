"""What the status of a mission is, and how it is told to programs; `views.status_rows` shows it to people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property

from spec_kitty_orchestrator.agents.steps import Step
from spec_kitty_orchestrator.core.advice import groups, merge, next_commands, resume
from spec_kitty_orchestrator.core.describe import command_line, spent
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Phase, Role
from spec_kitty_orchestrator.core.pauses import Pause
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.report import Report, StartRecord, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.suspension import Suspension
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.machine.lock import Owner

__all__ = ["MissionStatus", "gate_log"]

CUT_OFF, NEVER_RUN = 130, 6
"""What a run that was cut off exits with, and one that cannot go on: nothing runs although work is left."""


@dataclass(frozen=True)
class MissionStatus:
    """What is known of a mission.

    Attributes:
        report: of its runs, up to now.
        owner: the process that runs it now, None if none does.
        asked: whether the host was asked for the lanes.
        resting: agents that rest, and why.
        causes: for each cause that left work packages to a person, `c1` and so on, their ids.
        steps: by work package, what its agent, which is at work, did last.
        places: by work package, where its agent is at work, where that is on a cluster.
    """

    report: Report
    owner: Owner | None = None
    asked: bool = False
    resting: Mapping[str, Suspension] = field(default_factory=dict)
    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def start(self) -> StartRecord | None:
        """The last start, None if it was not run here."""
        return self.report.starts[-1] if self.report.starts else None

    @property
    def exit_code(self) -> int:
        """What a run would exit with: 0 while all goes well, 1 if a work package needs a person."""
        if self.report.of(Status.NEEDS_YOU):
            return 1
        if self.report.active or len(self.report.of(Status.DONE)) == len(self.report.wps):
            return 0
        if self.start is None:
            return NEVER_RUN
        if self.start.exit_code is None:
            return 1 if self.start.aborted else CUT_OFF
        return self.start.exit_code or 1

    def usual_s(self, attempt: Attempt) -> float | None:
        """Return how long such an attempt of its agent usually takes here, None if it made none before."""
        times = sorted(
            one.took_s
            for one in self.report.attempts
            if one.outcome is Outcome.OK
            and (one.attempt.role, one.attempt.agent) == (attempt.role, attempt.agent)
        )
        return times[len(times) // 2] if times else None

    def round_of(self, wp: WorkPackage) -> tuple[int, int] | None:
        """Return which implement attempt or review is at work, and how many there can be."""
        attempt, policy = wp.open_attempt, self.report.state.policy
        if attempt is None:
            return None
        if attempt.role is Role.REVIEW:
            return len(wp.review.rejected) - wp.bounds.rejected_from + 1, policy.max_review_cycles
        made = wp.attempts[wp.bounds.attempts_from :]
        return sum(one.role is Role.IMPLEMENT for one in made), policy.max_attempts

    def commands(self, one: WpReport) -> list[str]:
        """Return what a person can type to get a work package on, with the mission filled in."""
        if one.situation.status is not Status.NEEDS_YOU:
            return []
        return [command_line("status", one.id, "--mission", self.report.mission), self._next[one.id]]

    @cached_property
    def _next(self) -> Mapping[str, str]:
        return next_commands(self.report)

    @cached_property
    def shared(self) -> Mapping[str, tuple[str, ...]]:
        """The causes that are told once, each with the ids of those that one command puts back."""
        return {name: ids for name, ids in groups(self.report) if name in self.causes and len(ids) > 1}

    @property
    def goes_on(self) -> str:
        """The command that goes on with the mission, "" where one runs or nothing is left to do."""
        return resume(self.report)

    def logs(self, one: WpReport) -> str:
        """The command that shows what its agents did, "" before the first."""
        words = ("logs", one.id, "--mission", self.report.mission)
        return command_line(*words) if one.attempts else ""

    def ends(self, pause: Pause) -> str:
        """Return the command that ends a pause."""
        return command_line(*pause.ended_by.split(), "--mission", self.report.mission)

    @property
    def merge(self) -> str:
        """The command that merges and accepts the mission, as far as that is left to do."""
        return merge(self.report)

    def note(self, wp: WorkPackage) -> str:
        """Say what a work package waits for, or what became of it."""
        return (wp.turn.waits if self.report.active else "") or wp.note

    @property
    def line(self) -> str:
        """Say it all in one line."""
        report, start = self.report, self.start
        counts = {one: len(report.of(one)) for one in Status}
        told = f"{counts.pop(Status.DONE)} of {len(report.wps)} done"
        parts = [told, *(f"{number} {one}" for one, number in counts.items() if number)]
        used = spent(report.state.told)
        how = "runs" if report.active else start.outcome if start is not None else "was not run here"
        return f"{report.mission}: {how}, {', '.join(parts)}" + (f", {used}" if used else "")

    def document(self, missions: Sequence[str]) -> Mapping[str, object]:
        """Return it as a JSON object; `missions` were run here."""
        report, owner, start = self.report, self.owner, self.start
        state = report.state
        return {
            "mission": report.mission,
            "headline": report.headline,
            "run": {
                "active": owner is not None,
                "pid": owner.pid if owner else None,
                "host": owner.host if owner else None,
                "since": owner.started_at if owner else None,
                "last_exit_code": start.exit_code if start and owner is None else None,
                "aborted": bool(start and start.aborted),
                "took_s": round(report.took_s, 3),
                "slots": state.policy.max_concurrent if start else None,
                "free_slots": state.free_slots if start else None,
            },
            "exit_code": self.exit_code,
            "lanes_at": None if self.asked else state.now,
            "work_packages": [self._work_package(one) for one in report.wps],
            "agents_resting": {agent: one.until for agent, one in self.resting.items()},
            "agents_broken": {agent: one.broken for agent, one in self.resting.items() if one.broken},
            "paused": [asdict(one) for one in state.pauses],
            "conflicts": [asdict(one) for one in state.conflicts],
            "causes": self.causes,
            "used": asdict(state.told),
            "used_before": asdict(state.spent_before),
            "next": self.goes_on or None,
            "missions_run_here": missions,
        }

    def _work_package(self, one: WpReport) -> Mapping[str, object]:
        wp, situation = one.situation.wp, one.situation
        attempt: dict[str, object] | None = None
        if wp.open_attempt is not None:
            told = ("id", "number", "role", "agent", "directory")
            attempt = {name: getattr(wp.open_attempt, name) for name in told}
            attempt["since"] = one.attempts[-1].began_at if one.attempts else None
            attempt["usual_s"] = self.usual_s(wp.open_attempt)
            step = self.steps.get(one.id)
            attempt["last_step"] = asdict(step) if step is not None else None
        return {
            "id": one.id,
            "title": one.title,
            "status": situation.status,
            "why": situation.why,
            "held_by": situation.held_by,
            "holds_up": situation.holds_up,
            "lane": wp.lane,
            "dependencies": wp.dependencies,
            "phase": wp.phase,
            "attempts": len(wp.attempts),
            "rejections": len(wp.review.rejected),
            "note": self.note(wp),
            "waits_for": wp.turn.waits_for if situation.status is Status.WAITING and self.owner else None,
            "waits_until": wp.turn.until,
            "attempt": attempt,
            "gate_log": gate_log(wp) or None,
            "worked_s": round(one.worked_s, 3),
            "used": asdict(one.usage),
            "commands": self.commands(one),
        }


def gate_log(wp: WorkPackage) -> str:
    """Return the folder of the gate that runs, "" if none does."""
    runs = wp.phase is Phase.GATING and wp.work.gates_begun
    return wp.work.gates_begun[-1].log if runs else ""
