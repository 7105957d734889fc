"""A mission told by hand, event after event, and what `watch` is given of it: no clock, no files."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from spec_kitty_orchestrator.agents.steps import Step, StepKind
from spec_kitty_orchestrator.core import events
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
    WaitsFor,
    Workspace,
)
from spec_kitty_orchestrator.core.orders import Order
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.recorder import Recorder
from spec_kitty_orchestrator.core.run_events import AnyEvent, Entry, Line, RunEnded, RunStarted, Waiting
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SLUG = "csv-import-01M8FXBP"
POLICY = Policy(("claude-code",), ("codex",), max_concurrent=4, gates=(Gate("tests", ("true",)),))
BASE = "a" * 40


def at(seconds: float) -> datetime:
    """Return the time so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def step(kind: str, text: str, **more: object) -> Step:
    """Return one step of an agent's."""
    return Step(StepKind(kind), text, **more)  # type: ignore[arg-type]


IMPLEMENTS = (
    step("says", "Reading the task and the modules it touches."),
    step("runs", "rg -n 'def status' src"),
    step("edits", "src/importer/rules.py"),
    step("runs", "pytest -q tests/test_import.py"),
)
REVIEWS = (step("runs", "git diff --stat HEAD~1"), step("thinks", "Comparing the change with the scenarios."))


class Mission:
    """Tells what happens to work packages; `titles` and `needs` are by id. Each step says when it ended."""

    def __init__(
        self,
        titles: Mapping[str, str],
        needs: Mapping[str, tuple[str, ...]],
        policy: Policy = POLICY,
        logs: str = "/logs",
    ) -> None:
        self._logs = logs
        self.lines: list[Line] = []
        self.steps: dict[str, tuple[Step, ...]] = {}
        self._heads: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        lanes = dict.fromkeys(titles, Lane.PLANNED)
        state = MissionState(SLUG, lanes, {wp: needs.get(wp, ()) for wp in titles}, titles=titles)
        self.lines.append(RunStarted(NOON, state, "me", policy, "0.2.0", number=1))

    def happens(self, seconds: float, wp: str, *what: AnyEvent, took_s: float = 0.0) -> None:
        """Add events at one time."""
        self.lines += [Entry(at(seconds), wp, one, took_s, seq=len(self.lines)) for one in what]

    def waits(self, seconds: float, **reasons: str) -> None:
        """Say why work packages wait."""
        kinds = dict.fromkeys(reasons, WaitsFor.DEPENDENCY)
        self.happens(seconds, "", Waiting(reasons, waits_for=kinds))

    def claims(self, seconds: float, wp: str) -> None:
        """Let a work package start."""
        place = Workspace(f"/w/{wp}", f"/w/{wp}.md", wp, wp)
        self.happens(seconds, wp, events.Resolving(), events.WorkspaceResolved(place))
        self.happens(seconds, wp, events.Scheduled(Lane.PLANNED, place))
        self.happens(seconds + 1, wp, events.Claimed(place, BASE), took_s=1)

    def opens(self, seconds: float, wp: str, role: Role, agent: str, *steps: Step) -> Attempt:
        """Begin an attempt."""
        number = self._numbers[wp] = self._numbers.get(wp, 0) + 1
        head = self._heads.get(wp, BASE)
        attempt = Attempt(f"{wp}-{number}", number, role, agent, f"{self._logs}/{wp}/{number:02}", head)
        self.happens(seconds, wp, events.Assigned(role, agent), events.AttemptOpened(attempt))
        self.steps[attempt.id] = steps
        return attempt

    def implements(
        self, begin: float, end: float, wp: str, agent: str = "claude-code", ok: bool = True
    ) -> None:
        """Let an agent implement, and commit what it made."""
        attempt = self.opens(begin, wp, Role.IMPLEMENT, agent, *IMPLEMENTS)
        outcome, detail = (Outcome.OK, "") if ok else (Outcome.CRASHED, "Segmentation fault")
        report = AgentReport(outcome, detail=detail, usage=Usage(30_000, 2_000, 0.11), exit_code=0)
        self.happens(end, wp, events.AgentExited(attempt.id, report), took_s=end - begin)
        if ok:
            head = self._heads[wp] = f"{attempt.number:x}" + wp.lower().encode().hex().ljust(39, "0")[:39]
            stat = " 1 file changed, 82 insertions(+)"
            self.happens(end + 1, wp, events.Committed(Evidence(BASE, head, stat, tree=head)), took_s=1)

    def gates(self, begin: float, end: float, wp: str, tail: str = "") -> None:
        """Let the gate run, and fail with this as the end of its output."""
        head = self._heads[wp]
        self.happens(begin, wp, events.GateBegun("tests", head, turn=1, tree=f"{head}:"))
        result = GateResult("tests", ("true",), head, not tail, end - begin)
        self.happens(end, wp, events.GateFailed(result, tail) if tail else events.GatesPassed((result,)))
        if not tail:
            self.happens(end, wp, events.Submitted())

    def reviews(
        self,
        begin: float,
        end: float,
        wp: str,
        *findings: Finding,
        summary: str = "",
        lane: Lane | None = None,
    ) -> None:
        """Let it be reviewed; with findings it is sent back."""
        attempt = self.opens(begin, wp, Role.REVIEW, "codex", *REVIEWS)
        ruling = Ruling.CHANGES_REQUESTED if findings else Ruling.APPROVED
        verdict = Verdict(ruling, attempt.head, attempt.id, "codex", summary, findings)
        report = AgentReport(Outcome.OK, usage=Usage(18_000, 1_000), exit_code=0)
        self.happens(end, wp, events.AgentExited(attempt.id, report, verdict=verdict), took_s=end - begin)
        lane = lane or (Lane.IN_PROGRESS if findings else Lane.DONE)
        self.happens(end + 1, wp, events.Recorded(lane), took_s=1)

    def done(self, begin: float, wp: str) -> None:
        """Take it from planned to done within 30 seconds."""
        self.claims(begin, wp)
        self.implements(begin + 2, begin + 14, wp)
        self.gates(begin + 15, begin + 17, wp)
        self.reviews(begin + 18, begin + 28, wp)

    def ends(self, seconds: float, code: int) -> None:
        """End the run."""
        self.lines.append(RunEnded(at(seconds), code, "it is over"))


class ToldLog:
    """The steps of one attempt, of which the last ones are known at first."""

    def __init__(self, steps: Sequence[Step], known: int = 100) -> None:
        self.all = list(steps)
        self._known = known
        self._given = 0
        self.steps: list[Step] = []

    @property
    def whole(self) -> bool:
        return bool(self._given) and len(self.steps) == len(self.all)

    def more(self) -> bool:
        new = self.all[self._given :] if self._given else self.all[-self._known :]
        grown = len(self.all) > self._given
        self.steps += new
        self._given = len(self.all)
        return grown

    def earlier(self) -> bool:
        before = len(self.all) - len(self.steps)
        self.steps = self.all[max(0, before - self._known) :]
        return before > 0


class Told:
    """What `watch` asks for, of a mission that was told up to some second."""

    def __init__(self, mission: Mission, seconds: float, *, active: bool = True) -> None:
        self.mission, self.seconds, self.active = mission, seconds, active
        self.trouble = ""
        self.logs: dict[str, ToldLog] = {}
        self._taken = 0
        self._recorder = Recorder(POLICY)
        self.changes = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+new\n"
        self.given: list[Order] = []
        self.answers: Callable[[Order], Awaitable[str]] = self._taken_up
        self._active: bool | None = None
        self.look()

    def now(self) -> datetime:
        return at(self.seconds)

    def look(self) -> bool:
        # Told one after the other, they happened beside each other.
        new = sorted(self.mission.lines[self._taken :], key=lambda line: line.at)
        for line in new:
            self._recorder.take(line)
        self._taken += len(new)
        if new or self._active is not self.active:
            self._active = self.active
            self.report = self._recorder.report(self.now(), active=self.active)
            return True
        return False

    def log(self, attempt: Attempt) -> ToldLog:
        if attempt.id not in self.logs:
            self.logs[attempt.id] = ToldLog(self.mission.steps.get(attempt.id, ()))
        return self.logs[attempt.id]

    async def diff(self, evidence: Evidence) -> str:
        return self.changes

    async def give(self, order: Order) -> str:
        self.given.append(order)
        return await self.answers(order)

    async def _taken_up(self, order: Order) -> str:
        return f"{order.kind} is taken up"


TITLES = {
    "WP01": "Domain model and error types",
    "WP02": "CSV reader with dialect detection",
    "WP03": "Column mapping and schema",
    "WP04": "Type conversion (dates, decimals, booleans)",
    "WP05": "Row validation with rules",
    "WP06": "Streaming writer to the database",
    "WP07": "Command line: import, check, explain",
    "WP08": "Resume an interrupted import",
    "WP09": "Error report as HTML [red]<script>alert(1)</script>",
    "WP10": "HTTP endpoint for uploads",
}
NEEDS = {
    "WP03": ("WP01",),
    "WP04": ("WP01",),
    "WP05": ("WP03", "WP04"),
    "WP06": ("WP02",),
    "WP07": ("WP05", "WP06"),
    "WP08": ("WP06",),
    "WP09": ("WP05",),
    "WP10": ("WP07",),
}
TOO_LARGE = Finding(
    "critical", "The body is read at once, so an upload of 3 GB takes the server down.", "src/http.py", 41
)
REPEATS = Finding("major", "A resumed import repeats the last batch.", "src/resume.py", 7)


def csv_import() -> Mission:
    """Tell a mission of which one work package needs a person, two run and others wait."""
    told = Mission(TITLES, NEEDS)
    told.waits(0, **{wp: "waits for " + ", ".join(needed) for wp, needed in NEEDS.items()})
    told.done(0, "WP01")
    told.done(0, "WP02")
    told.waits(29, WP03="", WP04="", WP06="")
    told.done(30, "WP03")
    told.claims(30, "WP04")
    told.implements(32, 40, "WP04", "opencode", ok=False)
    told.implements(41, 52, "WP04")
    told.gates(53, 55, "WP04")
    told.reviews(56, 64, "WP04")
    told.claims(30, "WP06")
    told.implements(32, 44, "WP06")
    told.gates(45, 47, "WP06")
    for begin in (48, 70):
        lane = Lane.BLOCKED if begin == 70 else None
        told.reviews(begin, begin + 9, "WP06", TOO_LARGE, summary="Uploads of more than 2 GB fail", lane=lane)
        if begin == 48:
            told.implements(59, 66, "WP06")
            told.gates(67, 69, "WP06")
    told.waits(66, WP05="")
    told.claims(66, "WP05")
    told.opens(68, "WP05", Role.IMPLEMENT, "claude-code", *IMPLEMENTS)
    return told
