"""Work packages, events and texts for the tests of core; every default is the ordinary case."""

import json
from collections.abc import Iterable
from dataclasses import replace

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
from spec_kitty_orchestrator.core.gates import Gate, GateResult
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    Lane,
    Outcome,
    Policy,
    Role,
    WorkPackage,
    Workspace,
)

BASE = "b" * 40
HEAD = "a" * 40
OTHER = "c" * 40
SPACE = Workspace("/repo/.worktrees/lane-a", "/repo/tasks/WP01.md", "lane-a", "mission-lane-a", "main")
POLICY = Policy(
    impl_agents=("alice", "ann"), review_agents=("bob", "ben"), stop_repeats=True, quota_breaker=True
)
GATES = (Gate("lint", ("ruff", "check")), Gate("tests", ("/bin/sh", "-c", "pytest -q")))
GATED = replace(POLICY, gates=GATES)
REFUSAL = "TRANSITION_REJECTED"


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
    attempt_id: str, outcome: Outcome = Outcome.OK, text: str = "", tampered: tuple[str, ...] = ()
) -> AgentExited:
    return AgentExited(attempt_id, AgentReport(outcome, text), tampered)


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
