"""What other programs write, for type checkers alone: nothing of it is ever run.

mypy checks it as part of this repository, and mypy and pyright in an environment that has nothing but the
built wheel, as the programs of others have it. It may name public things only.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

from spec_kitty_orchestrator import (
    AgentReport,
    Attempt,
    Blocker,
    Budget,
    Decision,
    Done,
    Entry,
    EventObserver,
    Finding,
    Finished,
    Function,
    FunctionAgent,
    Gate,
    Grant,
    HostError,
    HostRefusal,
    Idle,
    InvalidTransition,
    Lane,
    Ledger,
    Line,
    MissionState,
    Observer,
    OnRateLimit,
    Orchestrator,
    OrchestratorError,
    Order,
    Outcome,
    Parts,
    Patience,
    Performer,
    Phase,
    Policy,
    PolicyMetadata,
    Prompts,
    Result,
    Review,
    Role,
    Ruling,
    Run,
    RunAborted,
    RunEnded,
    RunResult,
    RunStarted,
    RunState,
    Stalled,
    Start,
    Usage,
    Verdict,
    WorkPackage,
    Workspace,
    begin,
    blockers,
    build,
    build_agents,
    build_parts,
    build_workspaces,
    connect,
    describe,
    fold,
    happened,
    open_parts,
    open_project,
    open_run,
    pending,
    plan,
    ports,
    read_verdict,
    replayed,
    resume,
    step,
    to_document,
)
from spec_kitty_orchestrator.agents.spec import (
    Agent,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.core import commands, events, operator_events, orders, run_events
from spec_kitty_orchestrator.ports.gates import Gates
from spec_kitty_orchestrator.ports.orders import Orders
from spec_kitty_orchestrator.testing import (
    FakeHost,
    FakeWorkspaces,
    LoopClock,
    MemoryJournal,
    MemoryLock,
    MemoryOrders,
    Play,
    ScriptedAgents,
    ScriptedGates,
    Watcher,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(
    ("mine", "codex"),
    ("codex",),
    max_concurrent=2,
    max_per_agent={"codex": 1},
    finish_lane=Lane.APPROVED,
    gates=(Gate("tests", ("pytest", "-q"), timeout_s=60),),
    patience=Patience(OnRateLimit.WAIT, max_wait_s=600),
    budget=Budget(max_cost_usd=5.0, hard=True),
)


def react(line: Line) -> str:
    """React to what happens: every kind of line, and the events that matter."""
    match line:
        case RunStarted():
            assert_type(line.mission, MissionState)
            assert_type(line.policy, Policy)
            return line.actor
        case RunEnded():
            return f"{assert_type(line.exit_code, int)}: {line.summary}"
        case RunAborted():
            return line.at.isoformat()
        case Entry():
            assert_type(line.at, datetime)
            assert_type(line.seq, int)
    match line.event:
        case events.AgentExited(report=report, verdict=verdict):
            assert_type(report, AgentReport)
            assert_type(verdict, Verdict | None)
            assert_type(report.usage, Usage)
            return f"{report.usage.cost_usd or 0.0:.2f}"
        case events.GateFailed() | events.Parked():
            return line.wp_id
        case operator_events.TakenOver(by=by):
            return by
        case run_events.Waiting(reasons=reasons):
            assert_type(reasons, Mapping[str, str])
    assert_type(to_document(line, "mission", "/repository"), dict[str, object])
    return assert_type(describe(line.event), str)


class Printer:
    """An observer of a run."""

    last = ""

    def saw(self, state: RunState, line: Line) -> None:
        """See a line."""
        assert_type(state.wps, Mapping[str, WorkPackage])
        self.last = react(line)

    def said(self, message: str) -> None:
        """Hear something for people."""
        self.last = message


class Collector:
    """An observer as a plug-in."""

    def saw(self, event: dict[str, Any]) -> None:
        """See an event."""

    def close(self) -> None:
        """End."""


LOCK: ports.Lock = MemoryLock()
OBSERVER: Observer = Printer()
PLUGIN: EventObserver = Collector()


async def mine(prompt: str, workspace: Path, role: Role) -> Done | Review:
    """Work as an agent."""
    if role is Role.REVIEW:
        return Review("changes_requested", findings=[Finding("major", "wrong", "a.py", 3)])
    workspace.joinpath("a.py").write_text(prompt)
    return Done("wrote it", subtasks_done=["T001"], usage=Usage(10, 20, 0.5))


FUNCTION: Function = mine
AGENT: Agent = FunctionAgent(mine, family="me", roles={Role.IMPLEMENT}, timeout_s=60.0)


class EchoBot:
    """An agent as a plug-in."""

    name = "echo"
    family = "echo"
    executable = "cat"
    environment: tuple[str, ...] = ()
    roles = frozenset({Role.IMPLEMENT})
    versions: tuple[str, ...] = ()
    install = ""
    login = Login()
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    resumes = False
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build an argv."""
        assert_type(task.workspace, Path)
        return AgentCommand((settings.executable or self.executable, *settings.extra_args))

    def permissions(self, role: Role) -> Permissions:
        """Tell what it may do."""
        return Permissions("never_ask", "none", "full")

    def report(self, stdout: Sequence[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read what it said."""
        outcome = Outcome.OK if exit_code == 0 else Outcome.FAILED
        return AgentReport(outcome, text="".join(stdout), detail=stderr_tail, exit_code=exit_code)


def cheapest_first(wp: WorkPackage, state: RunState) -> tuple[bool, float]:
    """Order work packages."""
    assert_type(state.now, datetime | None)
    return wp.untried, wp.cost_usd


ORDER: Order = cheapest_first


def decide(lines: Sequence[Line]) -> RunState:
    """Decide without any driver."""
    state = assert_type(fold(lines, POLICY), RunState)
    for line in lines:
        state = assert_type(replayed(state, line), RunState)
    state = begin(state, RunStarted(NOW, MissionState("m", {"WP01": Lane.PLANNED}, {}), "me", POLICY, "1"))
    decision: Decision = plan(state, NOW, ORDER)
    match decision:
        case Start():
            assert_type(decision.grant, Grant)
            wp = state.wps[decision.wp_id]
            state, command = happened(state, NOW, wp.id, decision.event(wp))
            assert_type(command, commands.Command)
        case Idle():
            assert_type(decision.until, datetime | None)
        case Finished() | Stalled():
            assert_type(decision.reasons, Mapping[str, str])
        case run_events.Ending():
            state, _ = happened(state, NOW, "", decision)
    assert_type(blockers(state, NOW), dict[str, Blocker | None])
    return state


def one_work_package(wp: WorkPackage) -> commands.Command:
    """Decide for one work package."""
    wp, command = step(wp, events.LaneSeen(Lane.DONE, ()), POLICY)
    assert_type(wp.phase, Phase)
    assert_type(wp.result, Result | None)
    assert_type(wp.workspace, Workspace | None)
    assert_type(wp.attempts, tuple[Attempt, ...])
    match command:
        case commands.OpenAttempt(role=role, agent=agent):
            assert_type(role, Role)
            assert_type(agent, str)
        case commands.RunAgent(attempt=attempt):
            assert_type(attempt, Attempt)
        case commands.Wait(seconds=seconds):
            assert_type(seconds, float | None)
    verdict = read_verdict("{}", attempt_id="a1", head="0" * 40, reviewer="codex")
    assert_type(verdict.ruling, Ruling)
    return resume(wp, POLICY) if wp.begun else pending(wp, POLICY)


async def drive(parts: Parts, start: Start) -> None:
    """Drive one work package with parts as they are made."""
    ledger = assert_type(parts.ledger, Ledger)
    performer = assert_type(parts.performer, Performer)
    command = await ledger.happened(start.wp_id, start.event(ledger.state.wps[start.wp_id]))
    while not isinstance(command, commands.Wait | commands.Finish):
        event = await performer.perform(ledger.state.wps[start.wp_id], command)
        assert_type(event, events.Event)
        command = assert_type(await ledger.happened(start.wp_id, event, took_s=1.0), commands.Command)


async def follow(mission: str) -> RunResult:
    """Run a mission, react to its events, and give it orders."""
    async with open_run(mission, settings={"max_cost": 5}, order=ORDER, observer=OBSERVER) as run:
        assert_type(run, Run)
        async for line in run.events(since=run.earlier):
            if react(line) == "enough":
                assert_type(await run.pause(wp="WP01"), str)
        return assert_type(await run.result(), RunResult)


async def with_a_driver_of_ones_own(mission: str) -> None:
    """Drive a mission by a loop of one's own."""
    async with open_parts(mission, "/repository", resume=True) as parts:
        decision = plan(parts.ledger.state, parts.clock.now())
        if isinstance(decision, Start):
            await drive(parts, decision)
        await parts.look()
        assert_type(await parts.conclude(decision.reasons if isinstance(decision, Idle) else {}), RunResult)


async def with_stand_ins() -> RunResult:
    """Run a mission between stand-ins; each is a port."""
    host = FakeHost({"WP01": (), "WP02": ("WP01",)}, latency_s=1.0)
    workspaces = FakeWorkspaces()
    agents = ScriptedAgents(workspaces, lambda request: Play(seconds=5, outcome=Outcome.OK))
    journal, clock, watcher = MemoryJournal(), LoopClock(), Watcher()
    parts = Parts(
        host.mission,
        "me",
        POLICY,
        lock=LOCK,
        host=checked(host),
        agents=agents,
        workspaces=workspaces,
        journal=journal,
        clock=clock,
        observer=watcher,
        prompts=Prompts("${task}", "${task}", "${task}"),
        version="1",
        gates=gates(workspaces),
    )
    result = await Orchestrator(parts, orders=given(), order=ORDER).run()
    assert_type(result, RunResult)
    assert_type(result.work_packages, tuple[WorkPackage, ...])
    return result


def checked(host: ports.Host) -> ports.Host:
    """Take any host."""
    return host


def gates(workspaces: FakeWorkspaces) -> Gates:
    """Make stand-ins of gates."""
    return ScriptedGates(workspaces, POLICY.gates)


def given() -> Orders:
    """Make stand-ins of people."""
    people = MemoryOrders()
    people.put(orders.Pause(agent="codex"))
    return people


async def as_the_command_does(root: Path, environ: Mapping[str, str]) -> int:
    """Run a mission of a repository with the ready-made parts."""
    project = open_project(root, environ, {"max_concurrent": 2}, agents={"mine": AGENT})
    agents = build_agents(project, print)
    try:
        host = await connect(project)
        assert_type(await host.mission_state("m"), MissionState)
        assert_type(agents.policy("mine", Role.IMPLEMENT), PolicyMetadata)
        workspaces = build_workspaces(project, "m", print)
        parts = build_parts(project, "m", host=host, agents=agents, workspaces=workspaces, observer=OBSERVER)
        result = await build(project, "m", parts).run()
    except HostRefusal as refusal:
        return len(assert_type(refusal.code, str))
    except HostError as error:
        return assert_type(error.exit_code, int)
    except InvalidTransition as bug:
        return len(assert_type(bug.story, tuple[str, ...]))
    except OrchestratorError:
        return 1
    return assert_type(result.exit_code, int)
