"""The lines of a journal -> a report, taken one by one, so that a live view need not begin again."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from spec_kitty_orchestrator.core import events, operator_events, run_events
from spec_kitty_orchestrator.core.model import Evidence, Outcome, Role, WaitsFor
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.report import (
    AttemptRecord,
    GateRecord,
    Report,
    RestRecord,
    Span,
    SpanKind,
    StartRecord,
    Told,
    WpReport,
    longest_chain,
)
from spec_kitty_orchestrator.core.run import RunState, replayed
from spec_kitty_orchestrator.core.samples import STEPS
from spec_kitty_orchestrator.core.situation import situations
from spec_kitty_orchestrator.core.work_package import Grant

__all__ = ["WAITS_FOR_WORKER", "Recorder", "record"]

WAITS_FOR_WORKER = "waits for a free slot of a worker"
LEAST_WAIT_S = 1.0
"""A shorter wait for a worker is in the attempt's own time."""


class _Track:
    """What is recorded of one work package while its lines come."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.open: Span | None = None
        self.attempts: list[AttemptRecord] = []
        self.gates: list[GateRecord] = []
        self.committed: Evidence | None = None
        self.why = ""

    @property
    def last_at(self) -> datetime | None:
        """When the last span ended: no other one begins before, whatever became of the clock."""
        return self.spans[-1].ended_at if self.spans else None

    def close(self, at: datetime, bad: str = "") -> None:
        """End the open span; a wait that took no time was none."""
        span, self.open = self.open, None
        if span is not None and (span.kind is not SpanKind.WAIT or at > span.began_at):
            self.spans.append(replace(span, ended_at=max(at, span.began_at), bad=bad))

    def begin(self, span: Span) -> None:
        """Begin a span where the open one ends; a wait for the same thing goes on."""
        if self.open is not None and self.open.same(span):
            return
        self.close(span.began_at)
        last = self.spans[-1] if self.spans else None
        if last is not None and last.same(span) and last.ended_at == span.began_at:
            self.open = self.spans.pop()
            self.open = replace(self.open, ended_at=None)
        else:
            self.open = replace(span, began_at=max(filter(None, (self.last_at, span.began_at))))

    def waited(self, at: datetime, seconds: float) -> None:
        """Take the first seconds of the attempt that is open for a wait for a worker."""
        if self.open is not None and seconds >= LEAST_WAIT_S:
            attempt, began = self.open, min(self.open.began_at + timedelta(seconds=seconds), at)
            self.open = Span(SpanKind.WAIT, attempt.began_at, None, WAITS_FOR_WORKER, WaitsFor.SLOT)
            self.close(began)
            self.open = replace(attempt, began_at=began)

    def go_on(self, at: datetime) -> None:
        """Go on with the attempt that is open: it has a slot again."""
        if self.attempts and self.attempts[-1].outcome is None:
            self.begin(_span(self.attempts[-1], at))

    def give_up(self, at: datetime) -> None:
        """End attempts of which nobody waits for the end."""
        for place, one in enumerate(self.attempts):
            if one.outcome is None:
                if self.open is not None and self.open.attempt == one.attempt.number:
                    self.close(at)
                took_s = self.took_s(one)
                self.attempts[place] = replace(one, ended_at=at, took_s=took_s, outcome=Outcome.LOST)
                self.mark(one, Outcome.LOST)

    def took_s(self, record: AttemptRecord) -> float:
        """Add up the time in which an attempt was seen at work."""
        own = (one for one in self.spans if one.attempt == record.attempt.number)
        return sum(one.seconds(one.began_at) for one in own)

    def mark(self, record: AttemptRecord, bad: str) -> None:
        """Note on the last span of an attempt how badly it ended."""
        if self.spans and self.spans[-1].attempt == record.attempt.number:
            self.spans[-1] = replace(self.spans[-1], bad=bad)

    def step(self, at: datetime, took_s: float, name: str) -> None:
        """Record a step of the host or git that ended now; one beside an agent or a gate is in its time."""
        began = at - timedelta(seconds=took_s)
        if self.open is not None and self.open.kind is SpanKind.WAIT:
            self.close(max(began, self.open.began_at))
        if took_s and self.open is None:
            began = max(filter(None, (self.last_at, began)))
            self.spans.append(Span(SpanKind.HOST, began, max(at, began), name))


class Recorder:
    """Takes the lines of one journal, oldest first, and reports on them at any moment."""

    def __init__(self, policy: Policy | None = None) -> None:
        """Begin with nothing; `policy` is used until the first start, where there is one."""
        self.state: RunState = RunState(policy or Policy(("",), ("",)))
        self.mission: str = ""
        self._titles: dict[str, str] = {}
        self._tracks: dict[str, _Track] = {}
        self._starts: list[StartRecord] = []
        self._rests: list[RestRecord] = []
        self._slots: list[tuple[datetime, int]] = []
        self._in_slots: set[str] = set()
        self._lines: list[Told] = []
        self._between = False

    def take(self, line: run_events.Line, after: RunState | None = None) -> Told | None:
        """Take one more line, with the state after it if that is known; return how it is told.

        Raises:
            InvalidTransition: the journal was written by a version with other edges.
        """
        before, self.state = self.state, after if after is not None else replayed(self.state, line)
        match line:
            case run_events.RunStarted():
                self._started(line)
            case run_events.Entry(wp_id=wp_id, event=event):
                if _is_between_starts(event):
                    self._stopped(line.at)
                if isinstance(event, run_events.RunEvent):
                    self._of_run(line, event)
                else:
                    self._of_wp(line, wp_id, event, before)
                    has_slot = self.state.wps[wp_id].turn.grant is Grant.SLOT
                    (self._in_slots.add if has_slot else self._in_slots.discard)(wp_id)
                if not self._between:
                    self._went_on(line.at)
                told = Told(line.at, wp_id, event, self.state.wps.get(wp_id), line.took_s, line.seq)
                self._lines.append(told)
                return told
            case run_events.RunEnded() | run_events.RunAborted():
                self._ended(line)
        return None

    def _went_on(self, at: datetime) -> None:
        self._starts[-1:] = [replace(one, last_at=at) for one in self._starts[-1:]]
        taken = len(self._in_slots)
        if not self._slots or self._slots[-1][1] != taken:
            self._slots.append((at, taken))

    def _started(self, line: run_events.RunStarted) -> None:
        self._stopped(line.at)
        self._between = False
        self.mission = line.mission.slug
        self._titles.update(line.mission.titles)
        self._starts.append(StartRecord(line.number, line.at, line.version, line.settings, last_at=line.at))
        self._slots.append((line.at, 0))
        self._in_slots.clear()

    def _ended(self, line: run_events.RunEnded | run_events.RunAborted) -> None:
        if isinstance(line, run_events.RunEnded):
            self._end(ended_at=line.at, exit_code=line.exit_code, summary=line.summary)
            self._stopped(line.at)
            return
        # Whoever ends a run for good may do so long after it stopped.
        at = self._stopped(line.at)
        self._end(ended_at=at, exit_code=None, summary=line.summary, aborted=True)

    def _end(self, **end: Any) -> None:
        self._starts[-1:] = [replace(one, **end) for one in self._starts[-1:]]

    def _stopped(self, now: datetime) -> datetime:
        """End every span when the start ended, and return when: nobody knows what went on afterwards."""
        self._between = True
        ends = [end for one in self._starts[-1:] for end in (one.ended_at, one.last_at) if end is not None]
        at = ends[0] if ends else now
        for track in self._tracks.values():
            track.close(at)
        if self._slots and self._slots[-1][1]:
            self._slots.append((at, 0))
        return at

    def _of_run(self, line: run_events.Entry, event: run_events.RunEvent) -> None:
        match event:
            case run_events.Waiting(reasons=reasons, waits_for=kinds):
                for wp_id, reason in reasons.items():
                    track = self._tracks.setdefault(wp_id, _Track())
                    if reason:
                        kind = kinds.get(wp_id, WaitsFor.RUN)
                        track.begin(Span(SpanKind.WAIT, line.at, None, reason, kind))
                    elif track.open is not None and track.open.kind is SpanKind.WAIT:
                        track.close(line.at)
            case run_events.AgentSuspended(agent=agent, until=until, reason=reason):
                self._back(agent, line.at)
                self._rests.append(RestRecord(agent, line.at, max(until, line.at), reason))
            case run_events.AgentBack(agent=agent):
                self._back(agent, line.at)
            case _:
                pass

    def _back(self, agent: str, at: datetime) -> None:
        for place, one in enumerate(self._rests):
            if one.agent == agent and one.ended_at > at:
                self._rests[place] = replace(one, ended_at=at)

    def _of_wp(self, line: run_events.Entry, wp_id: str, event: events.Event, before: RunState) -> None:
        track, at = self._tracks.setdefault(wp_id, _Track()), line.at
        match event:
            case _ if isinstance(event, operator_events.OperatorEvent):
                pass
            case events.Scheduled() if self.state.wps[wp_id].open_attempt is not None:
                track.go_on(at)
            case events.Deferred(reason=reason, waits_for=kind):
                track.begin(Span(SpanKind.WAIT, at, None, reason, kind))
            case events.Assigned(why=why):
                track.why = why
            case events.AttemptOpened(attempt=attempt):
                self._step(track, line, event)
                again = before.wps[wp_id].work.feedback if wp_id in before.wps else ()
                rework = attempt.role is Role.IMPLEMENT and bool(again)
                record = AttemptRecord(wp_id, attempt, at, rework, track.why)
                track.attempts.append(record)
                track.begin(_span(record, at))
                track.why = ""
            case events.AgentExited():
                self._exited(track, line, event)
            case events.GateBegun(name=name, mark=mark):
                track.begin(Span(SpanKind.SETUP if mark else SpanKind.GATE, at, None, name))
            case events.GatesPassed(results=results):
                track.gates += [GateRecord(at, one) for one in results]
                track.close(at)
            case events.GateFailed(result=result, tail=tail):
                track.gates.append(GateRecord(at, result, tail))
                track.close(at, "red")
            case events.GateBroken():
                track.close(at, "broken")
            case events.GatesStopped() | events.SetUp():
                track.close(at, "failed" if isinstance(event, events.SetUp) and event.reason else "")
            case events.Committed(evidence=evidence):
                track.committed = evidence
                self._step(track, line, event)
            case _:
                self._step(track, line, event)
        if self.state.wps[wp_id].open_attempt is None:
            track.give_up(at)

    def _step(self, track: _Track, line: run_events.Entry, event: events.Event) -> None:
        track.step(line.at, line.took_s, STEPS.get(type(event), event.kind.replace("_", " ")))

    def _exited(self, track: _Track, line: run_events.Entry, event: events.AgentExited) -> None:
        wp = self.state.wps[line.wp_id]
        for place, one in enumerate(track.attempts):
            if one.attempt.id == event.attempt_id and one.outcome is None:
                track.waited(line.at, event.report.waited_s)
                track.close(line.at)
                ended = replace(
                    one,
                    ended_at=line.at,
                    took_s=track.took_s(one) or line.took_s,
                    outcome=event.report.outcome,
                    usage=wp.used[-1] if wp.used else event.report.usage,
                    detail=event.report.detail,
                    exit_code=event.report.exit_code,
                    machine=event.report.machine,
                    verdict=event.verdict,
                    tampered=event.tampered,
                )
                track.attempts[place] = ended
                track.mark(one, ended.bad)

    def report(self, now: datetime, *, active: bool, state: RunState | None = None) -> Report:
        """Report on the lines so far; `now` counts only while the run is active.

        `state` is the run's with lanes that are known from elsewhere.
        """
        state = state or self.state
        known = [one.ended_at or one.last_at for one in self._starts[-1:]]
        at = now if active else next(filter(None, known), now)
        status = situations(state, at, active=active)
        wps = []
        for wp_id, situation in status.items():
            track = self._tracks.get(wp_id, _Track())
            spans = (*track.spans, *([self._now(track.open, at, active)] if track.open else ()))
            worked = sum(one.seconds(at) for one in spans if one.kind is not SpanKind.WAIT)
            parts = (tuple(spans), tuple(track.attempts), tuple(track.gates), track.committed, worked)
            wps.append(WpReport(situation, self._titles.get(wp_id, ""), *parts))
        ends = [one.ended_at or one.last_at or one.at for one in self._starts]
        ends[-1:] = [at] if self._starts and active else ends[-1:]
        times = ((end - one.at).total_seconds() for one, end in zip(self._starts, ends, strict=True))
        took_s = sum(max(0.0, one) for one in times)
        return Report(
            self.mission,
            at,
            active,
            tuple(wps),
            tuple(self._starts),
            tuple(self._rests),
            tuple(self._slots),
            longest_chain(wps, at),
            tuple(self._lines),
            state,
            took_s,
        )

    @staticmethod
    def _now(span: Span, at: datetime, active: bool) -> Span:
        return span if active else replace(span, ended_at=max(at, span.began_at))


def _is_between_starts(event: run_events.AnyEvent) -> bool:
    """Tell whether a person did it while no run was active: that run takes up orders, which have ids."""
    people = operator_events.OperatorEvent | run_events.Paused | run_events.Continued
    return isinstance(event, people) and not event.order


def _span(record: AttemptRecord, at: datetime) -> Span:
    kind = SpanKind.REWORK if record.rework else SpanKind.IMPLEMENT
    if record.attempt.role is Role.REVIEW:
        kind = SpanKind.REVIEW
    return Span(kind, at, None, record.attempt.agent, attempt=record.attempt.number)


def record(lines: Iterable[run_events.Line], policy: Policy | None = None) -> Recorder:
    """Take all the lines of a journal. Raises `InvalidTransition`."""
    recorder = Recorder(policy)
    for line in lines:
        recorder.take(line)
    return recorder
