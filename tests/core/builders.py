"""Work packages, events and texts for the tests of core; every default is the ordinary case."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from spec_kitty_orchestrator.core.commands import Command
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    Claimed,
    Committed,
    Event,
    GatesPassed,
    HostRefused,
    ReviewClaimed,
    Scheduled,
    Submitted,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    GateResult,
    Lane,
    MissionState,
    Outcome,
    Role,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunStarted
from spec_kitty_orchestrator.core.verdict import read_verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage

BASE = "b" * 40
HEAD = "a" * 40
OTHER = "c" * 40
SPACE = Workspace("/repo/.worktrees/lane-a", "/repo/tasks/WP01.md", "lane-a", "mission-lane-a", "main")
POLICY = Policy(impl_agents=("alice", "ann"), review_agents=("bob", "ben"))
GATES = (Gate("lint", ("ruff", "check")), Gate("tests", ("/bin/sh", "-c", "pytest -q")))
GATED = replace(POLICY, gates=GATES)
REFUSAL = "TRANSITION_REJECTED"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def report_text(attempt_id: str, **parts: object) -> str:
    return "All done.\n" + json.dumps({"attempt": attempt_id, "summary": "did it", **parts})


def verdict_text(attempt_id: str, head: str = HEAD, verdict: str = "approved", **parts: object) -> str:
    return "I looked.\n" + json.dumps({"attempt": attempt_id, "head": head, "verdict": verdict, **parts})


def attempt(attempt_id: str, role: Role = Role.IMPLEMENT, agent: str = "", head: str = HEAD) -> Attempt:
    name = agent or ("alice" if role is Role.IMPLEMENT else "bob")
    if role is Role.IMPLEMENT:
        return Attempt(attempt_id, 1, role, name, f"/logs/{attempt_id}")
    return Attempt(attempt_id, 1, role, name, f"/logs/{attempt_id}", head, "tree")


def exited(
    ended: str | Attempt, outcome: Outcome = Outcome.OK, text: str = "", tampered: tuple[str, ...] = ()
) -> AgentExited:
    """Return the end of an attempt as the driver reads it; an id that begins with `r` is a review's."""
    if isinstance(ended, str):
        ended = attempt(ended, Role.REVIEW if ended.startswith("r") else Role.IMPLEMENT)
    verdict = None
    if ended.role is Role.REVIEW and outcome is Outcome.OK:
        verdict = read_verdict(text, attempt_id=ended.id, head=ended.head, reviewer=ended.agent)
    return AgentExited(ended.id, AgentReport(outcome, text), tampered, verdict=verdict)


def made(one: Attempt, outcome: Outcome = Outcome.OK, text: str | None = None) -> tuple[Event, Event]:
    """Return an attempt from its opening to its end, by default with a report or with an approval."""
    if text is None:
        text = report_text(one.id) if one.role is Role.IMPLEMENT else verdict_text(one.id, one.head)
    return AttemptOpened(one), exited(one, outcome, text)


def refused(lane: Lane, code: str = REFUSAL, message: str = "no", call: str = "transition") -> HostRefused:
    return HostRefused(call, code, message, lane)


def results(head: str = HEAD, ok: bool = True) -> tuple[GateResult, ...]:
    return tuple(GateResult(one.name, one.command, head, ok, 12.0, f"/logs/{one.name}") for one in GATES)


def drive(
    events: Iterable[Event], policy: Policy = POLICY, wp: WorkPackage | None = None
) -> tuple[WorkPackage, Command]:
    """Step through events, as the driver would, and return where they lead."""
    wp = wp or WorkPackage("WP01")
    command: Command | None = None
    for event in events:
        wp, command = step(wp, event, policy)
    assert command is not None
    return wp, command


CLAIMING: tuple[Event, ...] = (Scheduled(Lane.PLANNED, SPACE),)
IMPLEMENTING: tuple[Event, ...] = (*CLAIMING, Claimed(SPACE, BASE))
RUNNING: tuple[Event, ...] = (*IMPLEMENTING, AttemptOpened(attempt("i1")))
COMMITTING: tuple[Event, ...] = (*RUNNING, exited("i1", text=report_text("i1")))
SUBMITTING: tuple[Event, ...] = (*COMMITTING, Committed(Evidence(BASE, HEAD)))
PASSED = GatesPassed(results())
SUBMITTED: tuple[Event, ...] = (*SUBMITTING, Submitted())
CLAIMING_REVIEW: tuple[Event, ...] = (*SUBMITTING, refused(Lane.FOR_REVIEW))
REVIEWING: tuple[Event, ...] = (*CLAIMING_REVIEW, ReviewClaimed(BASE, HEAD))
REVIEW_RUNNING: tuple[Event, ...] = (*REVIEWING, AttemptOpened(attempt("r1", Role.REVIEW)))
APPROVING: tuple[Event, ...] = (*REVIEW_RUNNING, exited("r1", text=verdict_text("r1")))
REJECTING: tuple[Event, ...] = (
    *REVIEW_RUNNING,
    exited("r1", text=verdict_text("r1", verdict="changes_requested", findings=["rename it"])),
)


def one_agent(policy: Policy = POLICY, **parts: object) -> Policy:
    """Return a policy without fallbacks."""
    return replace(policy, impl_agents=("alice",), review_agents=("bob",), **parts)  # type: ignore[arg-type]


def again(wp: WorkPackage, policy: Policy = POLICY) -> tuple[WorkPackage, Command]:
    """Take a work package up again that waited, as its next turn does."""
    return step(wp, Scheduled(wp.lane, wp.workspace or SPACE), policy)


def begun(lane: Lane, *events: Event, policy: Policy = POLICY) -> WorkPackage:
    """Begin a start that finds WP01 in a lane, after one in which these events happened to it."""
    return fold([*journal(*events, policy=policy), started(lane, policy)], policy).wps["WP01"]


def start_at(mission: MissionState, at: datetime = NOON, **parts: Any) -> RunStarted:
    return RunStarted(at, mission, "me", POLICY, "1", **parts)


def journal(*events: Event, policy: Policy = POLICY) -> list[Line]:
    return [started(Lane.PLANNED, policy), *(Entry(NOON, "WP01", one) for one in events)]


def started(lane: Lane, policy: Policy = POLICY, at: datetime = NOON) -> RunStarted:
    return RunStarted(at, MissionState("m", {"WP01": lane}, {"WP01": ("WP00",)}), "me", policy, "1")
