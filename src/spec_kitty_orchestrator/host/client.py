"""The host's commands as methods: one call each, bounded in time, number and size.

Reads are repeated when the host gives no answer; a mutation is made once, and the caller re-reads the state.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Self

import anyio
from anyio import to_thread
from anyio.lowlevel import current_token
from packaging.version import InvalidVersion, Version

from spec_kitty_orchestrator.core.model import Lane, MissionState, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import (
    HostCrash,
    HostIncompatible,
    HostMissing,
    HostNoReply,
    HostRefusal,
    HostTimeout,
)
from spec_kitty_orchestrator.host import outgoing, wire
from spec_kitty_orchestrator.host.locate import call_env, cores, find_host
from spec_kitty_orchestrator.host.transport import SpawnTransport, Transport
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import planning
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.ports import ReviewResult

__all__ = ["HostClient"]

OLDEST_CONTRACT = Version("1.3.0")
"""The first contract with `--review-result-json`, which carries our verdicts."""
CONTRACT_MAJOR = 1
CALL_LIMIT_S = 120.0
"""Longer than the 30 s for which the host itself waits for its status lock."""
MERGE_LIMIT_S = 600.0
MERGE_LIMIT_OF_EACH_S = 300.0
"""For each branch: in a tree of many files the host takes a minute for one, and half a merge is none."""
READ_TRIES = 3
READ_BACKOFF_S = 0.5
"""Seconds before a read is repeated; they double."""
MAX_STARTS = 2
"""start-implementation fails now and then when more than two of them create worktrees at once."""
MAX_OTHERS = 4

_MARK_STATUS = "mark-status"
_FINALIZE = "finalize-tasks"
_SUBTASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class _Limits:
    """How many calls may run at once; limiters belong to one event loop."""

    token: object
    starts: anyio.CapacityLimiter
    others: anyio.CapacityLimiter
    total: anyio.CapacityLimiter


class HostClient:
    """Implements the port `Host` with the real program. A canceled call stops the host's process.

    Close it, or use it as an asynchronous context, where its transport keeps a process.

    Attributes:
        executable: absolute path of the host.
        repo_root: the folder that every call runs in.
    """

    def __init__(
        self,
        repo_root: Path,
        *,
        executable: str | None = None,
        transport: Transport | None = None,
        env: Mapping[str, str] | None = None,
        call_limit_s: float = CALL_LIMIT_S,
        max_calls: int | None = None,
        on_call: Callable[[str], None] | None = None,
        clean: Callable[[str], str] = str,
    ) -> None:
        """Find the host; nothing is started.

        Args:
            repo_root: the project's root, where `kitty-specs/` is.
            executable: a name to find on PATH or a path; None for `spec-kitty`.
            transport: how calls are made; None for one process per call.
            env: the whole environment of calls; None for this process's own.
            call_limit_s: seconds after which a call is stopped; a merge has more.
            max_calls: most calls at once, of all kinds; None for the number of cores, but two at least.
            on_call: is told the name of every call that is made, repetitions included.
            clean: takes out of a text what the host must not keep.

        Raises:
            HostMissing: no such executable.
        """
        environment = dict(os.environ if env is None else env)
        self.repo_root = repo_root
        self.executable: str = find_host(executable, environment)
        self._env = call_env(environment, self.executable)
        self._transport = transport or SpawnTransport()
        self._call_limit_s = call_limit_s
        self._max_calls = max_calls or max(2, cores())
        self._on_call = on_call
        self._clean = clean
        self._limits: _Limits | None = None

    async def close(self) -> None:
        """Let go of what the transport keeps between calls; a later call takes it up again."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """Do nothing: the first call takes up what is needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close; see `close`."""
        await self.close()

    async def check_contract(self) -> str:
        """Return the contract's version if we speak it.

        Raises:
            HostIncompatible: names both versions and the side to upgrade.
        """
        data = wire.read_data("contract-version", await self._read("contract-version"), wire.ContractVersion)
        ours = installed_version("spec-kitty-orchestrator")
        pair = f"the host at {self.executable} speaks contract {data.api_version[:40]}"
        spoken = f"spec-kitty-orchestrator {ours} speaks {OLDEST_CONTRACT} to before {CONTRACT_MAJOR + 1}"
        try:
            theirs = Version(data.api_version)
            needed = Version(data.min_supported_provider_version or "0")
        except InvalidVersion as error:
            raise HostIncompatible(f"{pair}; {spoken}: {error}; upgrade spec-kitty") from None
        if theirs < OLDEST_CONTRACT:
            raise HostIncompatible(f"{pair}; {spoken}: upgrade the host: pipx upgrade spec-kitty-cli")
        if theirs.major > CONTRACT_MAJOR or Version(ours) < needed:
            wanted = f" and wants an orchestrator of at least {needed}" if Version(ours) < needed else ""
            raise HostIncompatible(
                f"{pair}{wanted}; {spoken}: upgrade this side: install it from a newer checkout"
            )
        return data.api_version

    async def check_project(self) -> None:
        """Ask whether the host makes any change in this project; none is made.

        Raises:
            ProjectIncompatible: it makes none, and says why.
        """
        # All that such a call needs is missing, so it is refused; but the host looks at the project before.
        with suppress(HostRefusal, HostNoReply):
            await self._mutate("append-history")

    async def version(self) -> str:
        """Return what the host says of its own version, in one line; "" if nothing."""
        reply = await self._call("version", ["--version"], self._call_limit_s)
        lines = reply.stdout.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if reply.rc == 0 and lines else ""

    async def mission_state(self, mission: str) -> MissionState:
        """Read lanes and dependencies, and whether a canceled dependency keeps anybody where it can.

        Raises:
            HostRefusal: also with the code `TASKS_NOT_FINALIZED`, which this client makes.
        """
        state = wire.read_mission_state(await self._read("mission-state", *_mission(mission)))
        if not state.held_by_canceled:
            return state
        try:
            data = await self._read("list-ready", *_mission(mission))
            ready = wire.read_data("list-ready", data, wire.ReadyData).ready_work_packages
        except (HostRefusal, HostNoReply) as error:
            # Lanes are of use without it: who may be kept then waits.
            get_logger().info("host_does_not_say_who_is_ready", reason=error.message[:200])
            return state
        named = {one.wp_id for one in ready}
        return replace(state, ready=tuple(one for one in state.held_by_canceled if one in named))

    async def resolve_workspace(self, mission: str, wp: str) -> Workspace:
        """Read where a work package is worked on; nothing is created."""
        data = await self._read("resolve-workspace", *_wp(mission, wp))
        found = wire.read_data("resolve-workspace", data, wire.WorkspaceData)
        return await to_thread.run_sync(planning.place, found.workspace())

    async def start_implementation(
        self, mission: str, wp: str, actor: str, policy: PolicyMetadata
    ) -> Workspace:
        """Move planned → in_progress and allocate the worktree."""
        call = "start-implementation"
        args = [*_wp(mission, wp), "--actor", outgoing.name(actor), "--policy", outgoing.policy(policy)]
        return wire.read_data(call, await self._mutate(call, *args), wire.WorkspaceData).workspace()

    async def start_review(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> None:
        """Move for_review → in_review; repeating it is harmless."""
        args = [*_wp(mission, wp), "--actor", outgoing.name(actor), "--policy", outgoing.policy(policy)]
        await self._mutate("start-review", *args)

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
        """Move a work package along one edge of the host's state machine, or by `force` along any other."""
        args = [*_wp(mission, wp), "--to", to.value, "--actor", outgoing.name(actor)]
        if policy is not None:
            args += ["--policy", outgoing.policy(policy)]
        if note:
            args += ["--note", outgoing.note(self._clean(note))]
        if force:
            args.append("--force")
        if review is not None:
            args += ["--review-result-json", outgoing.review(review, self._clean)]
        await self._mutate("transition", *args)

    async def accept_mission(self, mission: str, actor: str) -> None:
        """Record the mission's acceptance."""
        await self._mutate("accept-mission", *_mission(mission), "--actor", outgoing.name(actor))

    async def merge_mission(self, mission: str, branches: int = 1) -> None:
        """Merge the lanes into the target branch; lanes are not checked, neither here nor by the host."""
        limit_s = max(MERGE_LIMIT_S + MERGE_LIMIT_OF_EACH_S * branches, self._call_limit_s)
        await self._mutate("merge-mission", *_mission(mission), limit_s=limit_s)

    async def tick_subtasks(self, mission: str, wp: str, ids: Sequence[str]) -> None:
        """Mark subtasks as done, all in one call.

        Raises:
            HostRefusal: with the code `SUBTASKS_NOT_FOUND` if tasks.md lacks one of them.
        """
        strange = [item for item in ids if not _SUBTASK_ID.fullmatch(item)]
        if strange:
            words = f"{wp}: not ids of subtasks: {', '.join(repr(item[:80]) for item in strange)}"
            raise HostRefusal(_MARK_STATUS, wire.SUBTASKS_NOT_FOUND, words, {"not_found": strange})
        if ids:
            args = ["agent", "tasks", _MARK_STATUS, *ids, "--status", "done", *_mission(mission), "--json"]
            wire.read_ticks(_MARK_STATUS, await self._call(_MARK_STATUS, args, self._call_limit_s))

    async def check_tasks(self, mission: str) -> None:
        """Check whether the host would finalize the tasks of a mission; nothing is changed.

        Raises:
            HostRefusal: it would not; the message lists what it objects to, and the data is its whole answer.
        """
        args = ["agent", "mission", _FINALIZE, *_mission(mission), "--validate-only", "--json"]
        wire.read_validation(_FINALIZE, await self._call(_FINALIZE, args, self._call_limit_s))

    async def _read(self, call: str, *args: str) -> Mapping[str, object]:
        """Make a call that changes nothing, again if there was no answer; a second equal crash is final."""
        backoff_s, crashed = READ_BACKOFF_S, ""
        for _ in range(READ_TRIES - 1):
            try:
                return await self._mutate(call, *args)
            except HostNoReply as error:
                if isinstance(error, HostCrash) and error.exception:
                    if error.exception == crashed:
                        raise
                    crashed = error.exception
                get_logger().info("host_read_repeated", call=call, reason=error.message[:200])
                await anyio.sleep(backoff_s)
                backoff_s *= 2
        return await self._mutate(call, *args)

    async def _mutate(self, call: str, *args: str, limit_s: float | None = None) -> Mapping[str, object]:
        reply = await self._call(call, ["orchestrator-api", call, *args], limit_s or self._call_limit_s)
        data, before = wire.read_envelope(call, reply)
        if before:
            get_logger().info("host_said", call=call, lines=before)
        return data

    async def _call(self, call: str, args: Sequence[str], limit_s: float) -> Reply:
        limits = self._limits_here()
        async with AsyncExitStack() as slots:
            await slots.enter_async_context(
                limits.starts if call == "start-implementation" else limits.others
            )
            await slots.enter_async_context(limits.total)
            if self._on_call is not None:
                self._on_call(call)
            try:
                return await self._transport.call(
                    [self.executable, *outgoing.arguments(args)],
                    cwd=self.repo_root,
                    env=self._env,
                    limit_s=limit_s,
                )
            except TimeoutError:
                raise HostTimeout(call, f"no answer within {limit_s:g} s; the call was stopped") from None
            except OSError as error:
                raise HostMissing(f"the host {self.executable} cannot be started: {error}") from error

    def _limits_here(self) -> _Limits:
        token = current_token()
        if self._limits is None or self._limits.token != token:
            self._limits = _Limits(
                token,
                starts=anyio.CapacityLimiter(MAX_STARTS),
                others=anyio.CapacityLimiter(MAX_OTHERS),
                total=anyio.CapacityLimiter(self._max_calls),
            )
        return self._limits


def _mission(mission: str) -> list[str]:
    # The host crashes on a path where a slug is expected.
    if not mission or mission.startswith((".", "-")) or "/" in mission or "\0" in mission:
        raise HostRefusal("mission", "MISSION_NOT_FOUND", f"{mission[:80]!r} is not the name of a mission")
    return ["--mission", mission]


def _wp(mission: str, wp: str) -> list[str]:
    return [*_mission(mission), "--wp", wp]
