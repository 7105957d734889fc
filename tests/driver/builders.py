"""A mission on a stage: the engine between shipped stand-ins, and what must be true of every run."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count, pairwise
from signal import SIGINT
from typing import Any

import anyio
from tests.event_schema import assert_valid

from spec_kitty_orchestrator.core.documents import to_document
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import Lane, Outcome, PolicyMetadata, Role, Workspace, total
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report, SpanKind, WpReport
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry, RunStarted, SettingsChanged
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import APPROVED, BY_PERSON, Ruling, read_verdict
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.ports import AttemptRequest, OneLine, ReviewResult
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
from spec_kitty_orchestrator.testing.lane_rules import Transition
from spec_kitty_orchestrator.testing.memory_journal import LoopClock, MemoryJournal, MemoryLock, Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, Script, ScriptedAgents, always_succeed
from spec_kitty_orchestrator.testing.scripted_gates import Checks, ScriptedGates, always_pass

DIAMOND: Mapping[str, Sequence[str]] = {
    "WP01": (),
    "WP02": ("WP01",),
    "WP03": ("WP01",),
    "WP04": ("WP02", "WP03"),
}

POLICY = Policy(impl_agents=("ada",), review_agents=("rob",))

PROMPTS = Prompts("${task}${report}", "${task}${feedback}${report}", "${task}${verdict}")

LIMIT_S = 100_000.0
"""Bound of a run on virtual time: far above every bound of the engine's, so whoever meets it hangs."""

REAL_LIMIT_S = 60.0
"""The same on asyncio, where it passes."""


@dataclass(frozen=True)
class Seen:
    """A transition as the host recorded it, and HEAD of the work package's worktree at that moment."""

    transition: Transition
    head: str


class WitnessedHost(FakeHost):
    """A host that looks at the worktree whenever it records a transition."""

    workspaces: FakeWorkspaces

    def __init__(self, dependencies: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(dependencies, **settings)
        self.witnessed: list[Seen] = []

    async def transition(
        self,
        mission: str,
        wp: str,
        to: Lane,
        actor: str,
        *,
        policy: PolicyMetadata | None = None,
        note: str = "",
        review: ReviewResult | None = None,
        force: bool = False,
    ) -> None:
        before = len(self.events)
        try:
            await super().transition(
                mission,
                wp,
                to,
                actor,
                policy=policy,
                note=note,
                review=review,
                force=force,
            )
        finally:
            head = self.workspaces.tree(await self.where(wp)).commits[-1]
            self.witnessed += [Seen(one, head) for one in self.events[before:] if one.wp == wp]

    async def where(self, wp: str) -> Workspace:
        """Return a work package's workspace without a call being counted."""
        return self._workspace("resolve-workspace", self.mission, wp)


class Power(Exception):
    """The power fails."""


MOST_LINES = 5_000
"""Lines of one start: far more than any mission of the tests needs."""


class FragileJournal(MemoryJournal):
    """A journal whose machine dies at the `dies_at`-th append of this start, before the line is written.

    Each line that it keeps must be a valid document for other programs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dies_at: int | None = None
        self.appended = 0

    async def append(self, line: OneLine) -> OneLine:
        self.appended += 1
        assert self.appended < MOST_LINES, "the run goes round in a loop"
        if self.dies_at is not None and self.appended >= self.dies_at:
            raise Power
        numbered = await super().append(line)
        assert_valid(to_document(numbered, "034-x", "/"))
        return numbered


class Stage:
    """One mission with its stand-ins; every start shares them, as starts of the command share a machine."""

    def __init__(
        self,
        dependencies: Mapping[str, Sequence[str]] = DIAMOND,
        script: Script = always_succeed,
        *,
        policy: Policy = POLICY,
        max_concurrent: int = 4,
        host: WitnessedHost | None = None,
        limit_s: float = LIMIT_S,
        checks: Checks = always_pass,
        setups: Checks = always_pass,
        **host_settings: Any,
    ) -> None:
        self.host = host or WitnessedHost(dependencies, **host_settings)
        self.workspaces = FakeWorkspaces()
        self.host.workspaces = self.workspaces
        self.agents = ScriptedAgents(self.workspaces, script)
        self.gates = ScriptedGates(self.workspaces, policy.gates, checks)
        self.setup = ScriptedGates(self.workspaces, policy.setup, setups)
        self.journal = FragileJournal()
        self.watcher = Watcher()
        self.policy = policy
        self.max_concurrent = max_concurrent
        self.limit_s = limit_s
        self._ids = count(1)

    def orchestrator(self, **changes: Any) -> Orchestrator:
        """Build the engine for one start."""
        self.agents.restart()
        self.gates.restart()
        self.gates.gates = self.policy.gates
        self.setup.restart()
        self.setup.gates = self.policy.setup
        self.journal.appended = 0
        parts: dict[str, Any] = {
            "lock": MemoryLock(),
            "host": self.host,
            "agents": self.agents,
            "workspaces": self.workspaces,
            "journal": self.journal,
            "clock": LoopClock(),
            "observer": self.watcher,
            "prompts": PROMPTS,
            "version": "1.0.0",
            "new_id": self._new_id,
            "gates": self.gates,
            "setup": self.setup,
        }
        named = {one.name for one in fields(Policy)} & (set(changes) - set(parts))
        policy = replace(
            self.policy,
            max_concurrent=self.max_concurrent,
            **{name: changes.pop(name) for name in named},
        )
        own = {
            one: changes.pop(one)
            for one in ("poll_interval_s", "headroom", "orders", "order")
            if one in changes
        }
        return Orchestrator(Parts(self.host.mission, "driver", policy, **parts | changes), **own)

    async def run(self, **changes: Any) -> RunResult:
        """Drive the mission from one start to its end, within a bound."""
        with anyio.fail_after(self.limit_s):
            result = await self.orchestrator(**changes).run()
        assert_replays(self, result)
        assert_reported(self, result)
        return result

    def _new_id(self) -> str:
        return f"attempt{next(self._ids):06d}"

    def lanes_of(self, wp: str) -> list[Lane]:
        """Return where the host's record put a work package, oldest first."""
        return [one.to_lane for one in self.host.events if one.wp == wp]

    def prompts_of(self, wp: str, role: Role) -> list[str]:
        """Return the prompts of a work package's attempts in one role."""
        return [one.prompt for one in self.agents.requests if (one.wp_id, one.role) == (wp, role)]

    def calls(self) -> Counter[str]:
        """Count the host calls by name."""
        return Counter(self.host.calls)

    def assert_sound(self) -> None:
        """Check what no run may ever break: one run per attempt, one agent per worktree, true approvals."""
        assert self.agents.collisions == []
        assert set(self.agents.runs.values()) <= {1}
        assert self.agents.most_at_once <= self.max_concurrent
        assert set(self.gates.runs.values()) <= {1}
        asked = {one.id: one for one in self.agents.requests}
        ended: dict[str, list[AgentExited]] = {}
        for exit_ in self._exits():
            ended.setdefault(exit_.attempt_id, []).append(exit_)
        for one in self.host.witnessed:
            if one.transition.to_lane.complete:
                review = one.transition.review
                assert review is not None
                attempt_id, _, head = review.reference.partition("@")
                assert (review.verdict, head) == (APPROVED, one.head)
                for gate in self.policy.gates:
                    assert (one.transition.wp, one.head, gate.name) in self.gates.green
                if attempt_id == BY_PERSON:
                    assert one.transition.actor == review.reviewer
                    continue
                request = asked[attempt_id]
                named = (request.role, request.wp_id, request.head)
                assert named == (Role.REVIEW, one.transition.wp, one.head)
                ends = [(exit_.report.outcome, exit_.tampered) for exit_ in ended.get(attempt_id, ())]
                assert ends == [(Outcome.OK, ())]
                approving = {
                    other.agent
                    for other in self.agents.requests
                    if (other.role, other.wp_id, other.head) == named
                    and any(self._approves(other, end) for end in ended.get(other.id, ()))
                }
                assert len(approving) >= self.policy.review_quorum

    def _approves(self, request: AttemptRequest, end: AgentExited) -> bool:
        if end.report.outcome is not Outcome.OK or end.tampered:
            return False
        read = read_verdict(end.report.text, attempt_id=request.id, head=request.head, reviewer=request.agent)
        return read.ruling is Ruling.APPROVED

    def _exits(self) -> Iterable[AgentExited]:
        return (
            one.event
            for one in self.journal.lines
            if isinstance(one, Entry) and isinstance(one.event, AgentExited)
        )


def assert_replays(stage: Stage, result: RunResult) -> None:
    """Check that the journal alone gives the work packages as the run left them."""
    assert fold(stage.journal.lines, stage.policy).wps == {one.id: one for one in result.work_packages}


def assert_reported(stage: Stage, result: RunResult) -> None:
    """Check that the report of the journal agrees with the run, and with itself."""
    lines = stage.journal.lines
    found = record(lines, stage.policy).report(lines[-1].at, active=False)
    opened = [one for one in lines if isinstance(one, Entry) and isinstance(one.event, AttemptOpened)]
    assert len({one.attempt.id for one in found.attempts}) == len(found.attempts) == len(opened)
    assert total([one.usage for one in found.attempts]).input_tokens <= found.state.told.input_tokens
    assert {one.id for one in found.wps} == {one.id for one in result.work_packages}
    for wp in found.wps:
        assert_spans(wp, found)
    if result.exit_code == 0:
        assert {one.situation.status for one in found.wps} == {Status.DONE}
    for place, one in enumerate(found.chain[1:]):
        assert found.chain[place] in found.state.wps[one].dependencies
    told = [one.event if isinstance(one, Entry) else one for one in lines]
    most = max(one.policy.max_concurrent for one in told if isinstance(one, RunStarted | SettingsChanged))
    assert all(0 <= taken <= most for _, taken in found.slots)


def assert_spans(wp: WpReport, found: Report) -> None:
    """Check that the time of a work package is told once, and in its order."""
    for earlier, later in pairwise(sorted(wp.spans, key=lambda one: one.began_at)):
        assert earlier.ended_at is not None, (wp.id, earlier, later)
        assert earlier.began_at <= earlier.ended_at <= later.began_at, (wp.id, earlier, later)
        again = (later.kind, later.what, later.began_at) == (earlier.kind, earlier.what, earlier.ended_at)
        assert later.kind is not SpanKind.WAIT or not again, (wp.id, earlier, later)
    for span in wp.spans:
        assert span.ended_at is not None
        assert any(one.at <= span.began_at <= span.ended_at <= found.now for one in found.starts), span


async def closed(engine: Orchestrator, after_s: float, call: Callable[[int], None]) -> RunResult:
    """Run, and call `interrupt` or `drain` after so many seconds."""
    results: list[RunResult] = []

    async def run() -> None:
        results.append(await engine.run())

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(run)
            await anyio.sleep(after_s)
            call(SIGINT)
    return results[0]


def scripted(**roles: Callable[[AttemptRequest], Play] | Play) -> Script:
    """Return a script from plays or functions named like `WP01_review`; everything else succeeds."""

    def script(request: AttemptRequest) -> Play:
        found = roles.get(f"{request.wp_id}_{request.role}") or roles.get(request.role.value) or Play()
        return found if isinstance(found, Play) else found(request)

    return script


def longer(policy: Policy = POLICY, **changes: Any) -> Policy:
    """Return the policy with changes."""
    return replace(policy, **changes)
