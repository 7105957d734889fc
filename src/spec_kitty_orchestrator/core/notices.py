"""What people are told of a run that nobody watches: one message for each cause, whatever it stopped.

A fold of a journal's lines besides its report, which tells what is so now. What a message is about is named
with the time since when it is so: a work package that needs a person again is another cause than before.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import median
from typing import Literal

from spec_kitty_orchestrator.core import run_events
from spec_kitty_orchestrator.core.advice import Need, go_on, needs, next_commands, why_ended
from spec_kitty_orchestrator.core.describe import LONGEST_REASON, clean, command_line, count, duration, note
from spec_kitty_orchestrator.core.limits import EXIT_BUDGET, EXIT_QUOTA
from spec_kitty_orchestrator.core.model import Phase
from spec_kitty_orchestrator.core.recorder import Recorder
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Occasion
from spec_kitty_orchestrator.core.samples import Samples
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = ["Notice", "Notices", "noticed", "trial"]

SHORTEST_REST_S = 300.0
"""A rest for a quota that is shorter is nothing to be told of."""

SLOW_FROM_S = 300.0
SLOW = 3.0
"""How much longer than usual, and than the longest known, an attempt takes that is slow."""
ENOUGH = 3
"""Attempts of which the usual time is taken."""

MOST_NEEDS = 3
"""Causes of which the end of a run tells the reasons."""
MOST_NAMED = 3
LONGEST_TITLE = 60


@dataclass(frozen=True)
class Notice:
    """One message, the same for each place.

    Attributes:
        title: what happened, in a few words.
        about: what it tells of; where one of them was told, it is not told again. The first is its name.
        at: since when it is so.
        text: more of it, in sentences.
        wps: work packages that it concerns.
        steps: what to do, each with the command for it.
        covers: what is told by it, too.
    """

    on: Occasion | Literal["test"]
    title: str
    about: tuple[str, ...]
    at: datetime
    text: str = ""
    wps: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    covers: tuple[str, ...] = ()


class Notices:
    """Takes the lines of one journal, oldest first, and says at any moment what is to be told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._recorder = Recorder()
        self._since: dict[str, datetime] = {}
        self._nearing: dict[str, tuple[str, datetime, run_events.BudgetNearing]] = {}
        self._told: dict[str, set[str]] = {}
        self._starts: list[datetime] = []
        self._finalized: tuple[str, ...] = ()
        self._again = ""

    def take(self, line: run_events.Line, after: RunState | None = None) -> bool:
        """Take one more line, with the state after it if that is known; tell whether that may be news.

        Raises:
            InvalidTransition: the journal was written by a version with other edges.
        """
        self._recorder.take(line, after)
        state, known = self._recorder.state, len(self._since) + len(self._nearing)
        if isinstance(line, run_events.RunStarted):
            self._starts.append(line.at)
            self._nearing.clear()
            self._since.pop("ending", None)
            for wp in state.wps.values():
                self._follow(wp, line.at)
            return True
        if not isinstance(line, run_events.Entry):
            return True
        match line.event:
            case run_events.Notified(about=about, target=target, problem=""):
                self._told.setdefault(target, set()).update(about)
            case run_events.AgentSuspended(agent=agent):
                self._since.setdefault(f"agent {agent}", line.at)
                # It may rest for longer than before.
                return True
            case run_events.AgentBack(agent=agent):
                self._since.pop(f"agent {agent}", None)
            case run_events.ConflictForecast(wp=one, other=other, files=files):
                self._set(f"{one}+{other}", line.at, bool(files))
            case run_events.Ending():
                self._since.setdefault("ending", line.at)
            case run_events.BudgetNearing(name=name):
                self._nearing[name] = (self._limit(name), line.at, line.event)
            case one if not isinstance(one, run_events.RunEvent) and line.wp_id in state.wps:
                self._follow(state.wps[line.wp_id], line.at)
        return len(self._since) + len(self._nearing) > known

    def finalized(self, lines: Sequence[str], again: str) -> None:
        """Take what became of a merge or an acceptance, and the option that asks for it again, "" if none."""
        self._finalized, self._again = tuple(lines), again

    def told(self, target: str) -> frozenset[str]:
        """Return what was told at a place."""
        return frozenset(self._told.get(target, ()))

    def due(self, now: datetime, samples: Samples, *, active: bool) -> list[Notice]:
        """Return what people are to know now, told or not, the most important first.

        Args:
            now: the time.
            samples: what is known of attempts like those that run.
            active: whether the run goes on.
        """
        report = self._recorder.report(now, active=active)
        return [
            *([] if active or not report.starts else [self._ended(report)]),
            # Who took a work package over knows that it waits for them.
            *(
                self._need(one, report)
                for one in needs(report)
                if len(one.wps) > 1 or one.wps[0].situation.wp.taken is None
            ),
            *self._agents(report),
            *self._budget(report),
            *(self._slow(report, samples) if active else ()),
        ]

    def _follow(self, wp: WorkPackage, at: datetime) -> None:
        self._set(wp.id, at, wp.phase in (Phase.PARKING, Phase.FINISHED))

    def _set(self, name: str, at: datetime, holds: bool) -> None:
        if holds:
            self._since.setdefault(name, at)
        else:
            self._since.pop(name, None)

    def _limit(self, name: str) -> str:
        budget = self._recorder.state.policy.budget
        limits = {"cost": budget.max_cost_usd, "tokens": budget.max_tokens}
        # Time is counted anew by each start.
        since = self._starts[0] if name in limits else self._starts[-1]
        return f"budget {name} {limits.get(name, '')}@{since.isoformat()}"

    def _named(self, name: str) -> str:
        since = self._since.get(name)
        return f"{name}@{since.isoformat()}" if since is not None else name

    def _about(self, need: Need) -> tuple[str, ...]:
        ids = [one.id for one in need.wps]
        if _is_conflict(need):
            return (self._named("+".join(ids)),)
        oldest = sorted(ids, key=lambda one: (one in self._since, self._since.get(one), one))
        return tuple(map(self._named, oldest))

    def _at(self, name: str, otherwise: datetime) -> datetime:
        return self._since.get(name.partition("@")[0], otherwise)

    def _need(self, need: Need, report: Report) -> Notice:
        ids, about = tuple(one.id for one in need.wps), self._about(need)
        held = sorted({one for wp in need.wps for one in wp.situation.holds_up} - set(ids))
        title = f"{_listed(ids)} {'needs' if len(ids) == 1 else 'need'} you"
        if len(ids) == 1 and need.wps[0].title:
            title += f": {clean(need.wps[0].title, LONGEST_TITLE)}"
        if _is_conflict(need):
            title = f"{_listed(ids)} cannot be merged with each other"
        text = _sentences(_reason(need), f"{_listed(held)} cannot begin before that" if held else "")
        return Notice("needs_person", title, about, self._at(about[0], report.now), text, ids, need.steps)

    def _agents(self, report: Report) -> Iterator[Notice]:
        for agent, one in report.state.suspended.items():
            name = f"agent {agent}"
            since = self._at(name, report.now)
            if one.broken:
                check = ("Once it is mended, try it", command_line("agents", "check", "--run", agent))
                title, text = f"{agent} is paused as broken", _sentences(one.told)
                yield Notice("needs_person", title, (self._named(name),), since, text, (), (check,))
            elif one.rest_s >= SHORTEST_REST_S and one.until > report.now:
                waits = report.state.waits_for_quotas_since is not None
                all_wait = "The whole run waits for it" if waits else ""
                look = ("See who waits", command_line("status", "--mission", report.mission))
                title, about = f"{agent} is paused: {one.why}", (f"quota of {self._named(name)}",)
                yield Notice("quota", title, about, since, _sentences(all_wait), (), (look,))
        ending = report.state.ending
        if ending is not None and ending.exit_code in (EXIT_BUDGET, EXIT_QUOTA):
            on: Occasion = "budget" if ending.exit_code == EXIT_BUDGET else "quota"
            steps = tuple(self._raised(report)) if on == "budget" else go_on(report)
            at = self._at("ending", report.now)
            yield Notice(
                on, "the run ends", (self._named("ending"),), at, _sentences(ending.reason), (), steps
            )

    def _budget(self, report: Report) -> Iterator[Notice]:
        mission = ("--mission", report.mission)
        for name, at, event in self._nearing.values():
            limit = self._higher(report).get(event.name)
            more = command_line("set", f"max_{event.name}={limit}", *mission)
            steps = (("Raise the limit while it runs", more),) if limit else ()
            title, text = "the budget is nearly used up", _sentences(event.text)
            yield Notice("budget", title, (name,), at, text, (), steps)

    @staticmethod
    def _higher(report: Report) -> dict[str, str]:
        """Return for each limit half as much again, as it is written."""
        budget = report.state.policy.budget
        limits = {"cost": budget.max_cost_usd, "tokens": budget.max_tokens}
        found = {name: str(math.ceil(limit * 1.5)) for name, limit in limits.items() if limit}
        if budget.max_duration_s:
            found["duration"] = f"{math.ceil(budget.max_duration_s * 1.5 / 60)}m"
        return found

    def _raised(self, report: Report) -> Iterator[tuple[str, str]]:
        """Yield how to go on with a higher limit, once the run has ended at that of now."""
        for name, limit in self._higher(report).items():
            words = ("resume", "--mission", report.mission, f"--max-{name}", limit)
            yield "Once it has ended, go on with a higher limit", command_line(*words)

    def _slow(self, report: Report, samples: Samples) -> Iterator[Notice]:
        for wp in report.wps:
            attempt, span = wp.situation.wp.open_attempt, wp.spans[-1] if wp.spans else None
            if attempt is None or span is None or span.attempt != attempt.number or span.ended_at is not None:
                continue
            times = [one.seconds for one in samples.attempts.get((attempt.role, attempt.agent), ())]
            passed_s = span.seconds(report.now)
            if len(times) >= ENOUGH and passed_s > max(SLOW_FROM_S, SLOW * median(times), *times):
                mission = ("--mission", report.mission)
                title = f"{attempt.agent} takes long to {attempt.role} {wp.id}"
                text = f"{duration(passed_s)} until now; usual are {duration(median(times))}"
                steps = (
                    ("See what it does", command_line("logs", wp.id, "-f", *mission)),
                    ("Or stop it; its work is kept", command_line("stop", wp.id, *mission)),
                )
                about = (f"slow {attempt.id}",)
                yield Notice("slow", title, about, report.now, _sentences(text), (wp.id,), steps)

    def _ended(self, report: Report) -> Notice:
        start, found = report.starts[-1], needs(report)
        ended = start.told_end if start.ended_at is not None else f"ended: {why_ended(report) or 'cut off'}"
        listed = [(_listed([wp.id for wp in one.wps]), one) for one in found[:MOST_NEEDS]]
        more = f"And {count(len(found) - MOST_NEEDS, 'more cause')}" if found[MOST_NEEDS:] else ""
        told = (f"{ids}: {_reason(one)}" for ids, one in listed)
        answers = next_commands(report)
        # One answer to each; all that can be done if there is but one.
        steps = [
            (f"{ids}: {what}", command)
            for ids, one in listed
            for what, command in one.steps
            if not listed[1:] or command == answers.get(one.wps[0].id, one.steps[0][1])
        ]
        after = go_on(report)
        if self._finalized:
            words = ("orchestrate", "--mission", report.mission, self._again)
            after = (("Once that is settled, ask for it again", command_line(*words)),) if self._again else ()
        return Notice(
            "ended",
            clean("; ".join((report.headline, *self._finalized[:1]))),
            (f"ended@{start.at.isoformat()}",),
            start.ended_at or report.now,
            _sentences(f"The run {ended}", *told, more, *self._finalized),
            tuple(wp.id for _, one in listed for wp in one.wps),
            (*steps, *after),
            (self._named("ending"), *(name for _, one in listed for name in self._about(one))),
        )


def noticed(lines: Iterable[run_events.Line]) -> Notices:
    """Take all the lines of a journal. Raises `InvalidTransition`."""
    made = Notices()
    for line in lines:
        made.take(line)
    return made


def trial(mission: str, now: datetime) -> Notice:
    """Return a message that only shows whether it arrives; `mission` is "" for none."""
    look = command_line("status", *(("--mission", mission) if mission else ()))
    text = "If you read this, messages of runs reach you here."
    steps = (("Look where it stands", look),)
    return Notice("test", "this is a test", (f"test@{now.isoformat()}",), now, text, (), steps)


def _is_conflict(need: Need) -> bool:
    """Tell whether it is that of two branches."""
    return not need.name and len(need.wps) > 1


def _reason(need: Need) -> str:
    return note(need.reason, LONGEST_REASON)


def _sentences(*parts: str) -> str:
    told = (clean(one, LONGEST_REASON).rstrip(".") for one in parts if one)
    return " ".join(f"{one[:1].upper()}{one[1:]}." for one in told if one)


def _listed(ids: Sequence[str]) -> str:
    if len(ids) > MOST_NAMED:
        return f"{ids[0]} and {len(ids) - 1} others"
    return " and ".join(filter(None, (", ".join(ids[:-1]), ids[-1])))
