"""Journals of whole missions, made by events: as long, as troubled and as hostile as a test wants them.

`played` lets a mission run on a clock of its own, with what each attempt comes to in `scripts`, and returns
the lines as a run would have written them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from heapq import heappop, heappush

from spec_kitty_orchestrator.core import commands, events, run_events
from spec_kitty_orchestrator.core.lifecycle import pending
from spec_kitty_orchestrator.core.limits import admission, announcements
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    GateResult,
    Lane,
    MissionState,
    Outcome,
    Role,
    Usage,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.run import RunState, happened, replayed
from spec_kitty_orchestrator.core.scheduler import Idle, Start, plan
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SLUG = "big-mission-01ABCDEF"
ROOT = "/repo"
GATES = (Gate("lint", ("ruff", "check")), Gate("tests", ("/bin/sh", "-c", "pytest -q")))
POLICY = Policy(
    ("claude-code", "opencode"),
    ("codex",),
    max_concurrent=4,
    gates=GATES,
    max_review_cycles=9,
    max_attempts=9,
)
USAGE = Usage(22_000, 1_900, 0.08)

OK = Outcome.OK


@dataclass(frozen=True)
class Comes:
    """What one attempt comes to; a review with findings rejects unless it `approves`; `red` is a red gate."""

    outcome: Outcome = OK
    findings: tuple[Finding, ...] = ()
    summary: str = ""
    detail: str = ""
    red: str = ""
    tail: str = ""
    seconds: float = 60.0
    usage: Usage = USAGE
    approves: bool = False


Scripts = Mapping[str, Sequence[Comes]]
"""By work package, what its attempts come to."""


def sha(text: str) -> str:
    """Return what looks like the name of a commit."""
    return sha1(text.encode()).hexdigest()


@dataclass
class Player:
    """Plays a mission's run; `lines` are its journal so far."""

    dependencies: Mapping[str, tuple[str, ...]]
    scripts: Scripts = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = POLICY
    now: datetime = NOON
    slug: str = SLUG
    settings: Mapping[str, object] = field(default_factory=dict)
    lines: list[run_events.Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = RunState(self.policy)
        self._coming: list[tuple[datetime, int, str, events.Event, float]] = []
        self._count, self._starts, self._freed = 0, 0, True
        self._made: dict[str, int] = defaultdict(int)

    def begin(self) -> None:
        """Begin a start."""
        known = {one: wp.lane for one, wp in self.state.wps.items()}
        lanes = {one: known.get(one, Lane.PLANNED) for one in self.dependencies}
        mission = MissionState(self.slug, lanes, self.dependencies, self.titles)
        self._starts += 1
        line = run_events.RunStarted(
            self.now, mission, "me", self.policy, "0.2.0", self.settings, number=self._starts
        )
        self._append(line)
        self.state = replayed(self.state, line)
        self._freed = True
        self._coming.clear()
        for wp in self.state.wps.values():
            if wp.turn.grant is not None:
                self._perform(wp.id, pending(wp, self.policy))

    def play(self, most: int = 1_000_000) -> bool:
        """Go on until nothing is left to do, which is True, or for so many lines."""
        most += len(self.lines)
        while len(self.lines) < most:
            # Only who gives something back lets others begin.
            if self._coming and not self._freed:
                self._next()
                continue
            decision = plan(self.state, self.now)
            self._tell(decision)
            match decision:
                case Start(wp_id=wp_id, grant=grant):
                    self._grant(self.state.wps[wp_id], grant)
                case run_events.Ending():
                    self.happen("", decision)
                case Idle(until=until):
                    if not self._coming:
                        assert until is not None
                        self.now = until
                        continue
                    self._freed = False
                    self._next()
                case _:
                    return True
        return False

    def _next(self) -> None:
        self.now, _, wp_id, event, took_s = heappop(self._coming)
        self.happen(wp_id, event, took_s)

    def end(self, exit_code: int | None = None) -> None:
        """End the start in order."""
        done = all(one.lane.complete for one in self.state.wps.values())
        code = exit_code if exit_code is not None else 0 if done else 1
        self._append(run_events.RunEnded(self.now, code, f"ended with exit code {code}"))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def happen(self, wp_id: str, event: run_events.AnyEvent, took_s: float = 0.0) -> None:
        """Let an event happen, and those that follow from it at once."""
        follows: run_events.AnyEvent | None = event
        while follows is not None:
            before = self.state
            self.state, command = happened(before, self.now, wp_id, follows)
            self._append(run_events.Entry(self.now, wp_id, follows, took_s))
            for told in announcements(before, self.state):
                self._append(run_events.Entry(self.now, "", told))
            took_s = 0.0
            follows = admission(self.state, wp_id, command, follows, self.now)
        waits = isinstance(command, commands.Wait | commands.Finish)
        self._freed = self._freed or waits
        if wp_id and not waits:
            self._perform(wp_id, command)

    def _append(self, line: run_events.Line) -> None:
        self.lines.append(replace(line, seq=len(self.lines) + 1))

    def _tell(self, decision: object) -> None:
        """Journal why work packages wait where that has changed, as the engine does."""
        if not isinstance(decision, Idle):
            return
        told = {one.id: decision.reasons.get(one.id, "") for one in self.state.left}
        news = {one: why for one, why in told.items() if self.state.wps[one].turn.waits != why}
        if news:
            kinds = {one: decision.waits_for[one] for one, why in news.items() if why}
            self.happen("", run_events.Waiting(news, waits_for=kinds))

    def _grant(self, wp: WorkPackage, grant: Grant) -> None:
        if grant is Grant.RESOLVE or wp.workspace is None:
            self.happen(wp.id, events.Resolving())
        else:
            self.happen(wp.id, events.Scheduled(wp.lane, wp.workspace, ahead=grant is Grant.CLAIM_AHEAD))

    def _perform(self, wp_id: str, command: commands.Command) -> None:
        wp = self.state.wps[wp_id]
        self._count += 1
        if isinstance(command, commands.RunGates):
            for gate in self.policy.gates[:1]:
                self._append(run_events.Entry(self.now, wp_id, events.GateBegun(gate.name, command.head)))
                self.state, _ = happened(
                    self.state, self.now, wp_id, events.GateBegun(gate.name, command.head)
                )
        event, seconds = self._event(wp, command)
        at = self.now + timedelta(seconds=seconds)
        heappush(self._coming, (at, self._count, wp_id, event, seconds))

    def _comes(self, wp: WorkPackage) -> Comes:
        script = self.scripts.get(wp.id, ())
        place = len(wp.attempts) - 1
        return script[place] if 0 <= place < len(script) else Comes()

    def _event(self, wp: WorkPackage, command: commands.Command) -> tuple[events.Event, float]:
        head = sha(f"{wp.id} {len(wp.attempts)}")
        match command:
            case commands.Resolve():
                lane = f"lane-{wp.id.lower()}"
                place = f"{ROOT}/.worktrees/{self.slug}-{lane}"
                task = f"{ROOT}/kitty-specs/{self.slug}/tasks/{wp.id}.md"
                space = Workspace(place, task, lane, f"kitty/mission-{self.slug}-{lane}", "main")
                return events.WorkspaceResolved(space), 0.2
            case commands.Claim():
                assert wp.workspace is not None
                return events.Claimed(wp.workspace, wp.work.head or sha(f"{wp.id} base")), 1.1
            case commands.OpenAttempt(role=role, agent=agent, number=number):
                folder = f"{ROOT}/.kittify/logs/{self.slug}/{wp.id}/{number:02}-{role}-{agent}"
                under = wp.work.head if role is Role.REVIEW else ""
                made = Attempt(sha(f"{wp.id} {number}")[:16], number, role, agent, folder, under, "tree")
                return events.AttemptOpened(made), 0.3
            case commands.RunAgent(attempt=attempt):
                return self._exited(attempt, self._comes(wp)), self._comes(wp).seconds
            case commands.Commit():
                stat = f" src/{wp.id.lower()}.py | 12 +++\n 1 file changed, 12 insertions(+)"
                return events.Committed(Evidence(wp.work.base, head, stat, tree=head)), 0.5
            case commands.PrepareWorkspace():
                return events.SetUp("mark"), 0.0
            case commands.RunGates(head=commit):
                return self._gates(wp, commit), 8.0
            case commands.Submit():
                return events.Submitted(), 0.9
            case commands.TickSubtasks(ids=ids):
                return events.SubtasksTicked(ids), 0.4
            case commands.ClaimReview():
                return events.ReviewClaimed(wp.work.base, wp.work.head), 0.8
            case commands.Record(to=to):
                return events.Recorded(to), 0.7
            case commands.Park(block=block):
                return events.Parked(Lane.BLOCKED if block else wp.lane), 0.6
            case commands.Unblock(to=to):
                return events.Unblocked(to[-1]), 0.8
        raise AssertionError(f"nothing is performed for {command}")

    def _gates(self, wp: WorkPackage, head: str) -> events.Event:
        red = self._comes(wp).red
        log = f"{ROOT}/.kittify/logs/{self.slug}/{wp.id}/{len(wp.attempts):02}-gate-"
        found = [
            GateResult(one.name, one.command, head, one.name != red, 4.0, log + one.name)
            for one in self.policy.gates
        ]
        failed = next((one for one in found if not one.ok), None)
        return events.GateFailed(failed, self._comes(wp).tail) if failed else events.GatesPassed(tuple(found))

    @staticmethod
    def _exited(attempt: Attempt, comes: Comes) -> events.AgentExited:
        report = AgentReport(comes.outcome, "", comes.detail, usage=comes.usage, exit_code=0)
        verdict = None
        if attempt.role is Role.REVIEW and comes.outcome is OK:
            rejects = comes.findings and not comes.approves
            ruling = Ruling.CHANGES_REQUESTED if rejects else Ruling.APPROVED
            verdict = Verdict(ruling, attempt.head, attempt.id, attempt.agent, comes.summary, comes.findings)
        return events.AgentExited(attempt.id, report, verdict=verdict)


def names(number: int) -> list[str]:
    """Return so many ids."""
    return [f"WP{one:02}" for one in range(1, number + 1)]


def played(
    dependencies: Mapping[str, tuple[str, ...]], scripts: Scripts | None = None, **parts: object
) -> list[run_events.Line]:
    """Return the journal of a run from its beginning to its end."""
    player = Player(dependencies, scripts or {}, **parts)  # type: ignore[arg-type]
    player.begin()
    player.play()
    player.end()
    return player.lines


def rejected(number: int, message: str = "") -> Comes:
    """Return a review that asks for something else than any other one."""
    words = (
        "index",
        "lock",
        "timeout",
        "schema",
        "encoding",
        "locale",
        "cache",
        "queue",
        "pointer",
        "stream",
    )
    about = f"{words[number % 10]} of the {words[number // 10 % 10]}"
    told = (
        message
        or f"The {about} is not checked before it is used, so a second call loses what the first wrote."
    )
    finding = Finding("major", told, "src/module/file.py", 10 + number)
    minor = Finding("minor", f"Say in the docstring what the {about} is in.")
    return Comes(findings=(finding, minor), summary=f"The {about} is wrong", usage=Usage(18_000, 700))


def large(wps: int = 99) -> list[run_events.Line]:
    """Return the journal of a mission whose work packages take six attempts each, in layers of nine."""
    ids = names(wps)
    needs = {one: tuple(ids[max(0, place - 9) : max(0, place - 6)]) for place, one in enumerate(ids)}
    reviewed = Comes(usage=Usage(18_000, 700))
    scripts: dict[str, Sequence[Comes]] = {}
    for place, one in enumerate(ids):
        first, second = rejected(place), rejected(place + 37)
        if place % 7 == 3:
            crash = Comes(Outcome.CRASHED, detail=f"Error: write EPIPE at line {place}")
            scripts[one] = (Comes(), first, crash, Comes(), second, Comes(), reviewed)
        else:
            scripts[one] = (Comes(), first, Comes(), second, Comes(), reviewed)
    titles = {
        one: f"Part {place} of the import, with its checks and its documents" for place, one in enumerate(ids)
    }
    return played(needs, scripts, titles=titles, policy=replace(POLICY, max_concurrent=8))
