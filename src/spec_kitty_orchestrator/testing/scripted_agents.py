"""Agents in memory that follow a script; their processes outlive a canceled `run`, as real ones do."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, PolicyMetadata, Role, Usage
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces

__all__ = ["Play", "Script", "ScriptedAgents", "always_succeed", "first_of", "report", "verdict"]


@dataclass(frozen=True)
class Play:
    """What one attempt does.

    Attributes:
        seconds: how long it runs, on the event loop's clock.
        until: ends it when it is set, in place of `seconds`.
        outcome: how it ends.
        text: its final message; None for a fitting report or an approval.
        edits: paths that it changes in its workspace; None for one of its own when it implements.
        retry_after_s: with `rate_limited`, what the CLI tells.
        usage: what it cost.
        then: called when it ends by itself, for what else an agent may do: commit, move a lane.
        detail: what its CLI says of a failure.
    """

    seconds: float = 1.0
    outcome: Outcome = Outcome.OK
    text: str | None = None
    edits: tuple[str, ...] | None = None
    retry_after_s: float | None = None
    usage: Usage = field(default_factory=Usage)
    then: Callable[[], None] | None = None
    detail: str = ""
    until: anyio.Event | None = None


def verdict(request: AttemptRequest, ruling: str, *findings: str, **changes: object) -> str:
    """Return a final message with a verdict object for this attempt; `changes` replace its members."""
    said: dict[str, object] = {
        "attempt": request.id,
        "head": request.head,
        "verdict": ruling,
        "summary": ruling,
        "findings": [{"severity": "major", "message": one} for one in findings],
    }
    return json.dumps(said | changes)


def report(request: AttemptRequest, **members: object) -> str:
    """Return a final message with an implementer's report object for this attempt."""
    return json.dumps({"attempt": request.id, "summary": "done"} | members)


Script = Callable[[AttemptRequest], Play]


def always_succeed(request: AttemptRequest) -> Play:
    """Implement in a second, approve in a second."""
    return Play()


class ScriptedAgents:
    """Implements the port `AgentRunner`.

    Attributes:
        requests: every attempt that was opened, oldest first.
        runs: how often each attempt's process was started, by attempt id.
        running: ids of attempts whose process runs, in the order of their start.
        most_at_once: the largest number of processes that ran at one time.
        collisions: pairs of attempts that ran in one workspace at one time.
        stopped: ids of attempts that were stopped one by one, in this order.
        graces: the grace of each call of `stop_all`, oldest first, in seconds.
        stubborn_s: how long an agent that is told to stop goes on; the grace cuts it short.
    """

    def __init__(self, workspaces: FakeWorkspaces, script: Script = always_succeed) -> None:
        self.workspaces = workspaces
        self.script = script
        self.requests: list[AttemptRequest] = []
        self.runs: dict[str, int] = {}
        self.running: list[str] = []
        self.most_at_once: int = 0
        self.collisions: list[tuple[str, str]] = []
        self.stopped: list[str] = []
        self.graces: list[float] = []
        self.stubborn_s: float = 0.0
        self._asked: dict[str, AttemptRequest] = {}
        self._started: dict[str, tuple[AttemptRequest, Play, float]] = {}
        self._reports: dict[str, AgentReport] = {}
        self._kill_at = math.inf
        self._stop = anyio.Event()
        self._hurry = anyio.Event()
        self._stops: dict[str, anyio.Event] = {}

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        """Return an acceptable policy."""
        return PolicyMetadata("fake", "1.0.0", agent, "scripted", "none", "none")

    async def open(self, request: AttemptRequest) -> Attempt:
        """Keep the request."""
        await anyio.lowlevel.checkpoint()
        self.requests.append(request)
        self._asked[request.id] = request
        return Attempt(
            request.id,
            request.number,
            request.role,
            request.agent,
            f"/logs/{request.wp_id}/{request.number:02d}-{request.role}-{request.agent}",
            request.head,
            request.tree,
            request.session,
            request.max_cost_usd,
        )

    async def run(self, attempt: Attempt) -> AgentReport:
        """Start the attempt, or wait for it if it was started before, and return its report."""
        await anyio.lowlevel.checkpoint()
        if attempt.id in self._reports:
            return self._reports[attempt.id]
        stop = self._stops.setdefault(attempt.id, anyio.Event())
        if self._stop.is_set() or (stop.is_set() and attempt.id not in self._started):
            return AgentReport(Outcome.CANCELED)
        if attempt.id not in self._started:
            self._start(attempt)
        request, play, started = self._started[attempt.id]
        stopped = await self._is_stopped(play, started, stop)
        if attempt.id not in self._reports:
            self.running.remove(attempt.id)
            canceled = AgentReport(Outcome.CANCELED, session=request.session or request.id)
            self._reports[attempt.id] = canceled if stopped else self._end(request, play)
        return self._reports[attempt.id]

    async def _is_stopped(self, play: Play, started: float, stop: anyio.Event) -> bool:
        """Wait for the end of a process, and tell whether it was stopped."""
        ends = math.inf if play.until else started + play.seconds
        with anyio.move_on_after(max(0.0, ends - anyio.current_time())):
            await first_of(stop, self._stop, *((play.until,) if play.until else ()))
            if not (play.until and play.until.is_set()):
                await self._go_on_for_a_while()
                return True
        return False

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Stop one attempt, also one that is still to be run."""
        await anyio.lowlevel.checkpoint()
        self.stopped.append(attempt.id)
        self._stops.setdefault(attempt.id, anyio.Event()).set()

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running attempt."""
        await anyio.lowlevel.checkpoint()
        self.graces.append(grace_s)
        self._kill_at = min(self._kill_at, anyio.current_time() + grace_s)
        self._stop.set()
        self._hurry.set()
        self._hurry = anyio.Event()

    def restart(self) -> None:
        """Forget an earlier stop, as the next start of the command would."""
        self._kill_at = math.inf
        self._stop = anyio.Event()
        self._hurry = anyio.Event()

    async def _go_on_for_a_while(self) -> None:
        ends = anyio.current_time() + self.stubborn_s
        while anyio.current_time() < min(ends, self._kill_at):
            with anyio.move_on_after(min(ends, self._kill_at) - anyio.current_time()):
                await self._hurry.wait()

    def _start(self, attempt: Attempt) -> None:
        request = self._asked[attempt.id]
        key = request.workspace.key
        self.collisions += [
            (other, attempt.id) for other in self.running if self._started[other][0].workspace.key == key
        ]
        self.runs[attempt.id] = self.runs.get(attempt.id, 0) + 1
        self.running.append(attempt.id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self._started[attempt.id] = (request, self.script(request), anyio.current_time())

    def _end(self, request: AttemptRequest, play: Play) -> AgentReport:
        implements = request.role is Role.IMPLEMENT
        edits = play.edits
        if edits is None:
            edits = (
                (f"{request.wp_id}-{request.number}",) if implements and play.outcome is Outcome.OK else ()
            )
        for path in edits:
            self.workspaces.edit(request.workspace, path)
        if play.then is not None:
            play.then()
        text = play.text
        if text is None:
            text = report(request) if implements else verdict(request, "approved")
        if play.outcome is not Outcome.OK:
            text = ""
        return AgentReport(
            play.outcome,
            text,
            play.detail,
            retry_after_s=play.retry_after_s,
            session=request.session or request.id,
            usage=play.usage,
        )


def by_wp(plays: Mapping[tuple[str, Role], list[Play]]) -> Script:
    """Return a script that plays a list per work package and role; the last entry repeats."""
    counts: dict[tuple[str, Role], int] = {}

    def script(request: AttemptRequest) -> Play:
        key = (request.wp_id, request.role)
        entries = plays.get(key, [Play()])
        counts[key] = counts.get(key, -1) + 1
        return entries[min(counts[key], len(entries) - 1)]

    return script


async def first_of(*events: anyio.Event) -> None:
    """Wait until one of these is set."""
    async with anyio.create_task_group() as tasks:

        async def one(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(one, event)
