"""The real host, asked by a process for each call and warm: over a whole mission both leave the same."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from spec_kitty_orchestrator.host import merge_driver
from spec_kitty_orchestrator.host.transport import SpawnTransport, Transport
from spec_kitty_orchestrator.host.warm import WarmTransport
from spec_kitty_orchestrator.testing.missions import TOPOLOGIES, MissionSpec, WorkPackageSpec

pytestmark = [pytest.mark.real_host, pytest.mark.anyio]

LIMIT_S = 300.0
CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"  # times
    r"|\b[0-9A-HJKMNP-TV-Z]{26}\b"  # ULIDs
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(corr-)?[0-9a-f]{32}\b|\b[0-9a-f]{64}\b"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{7,12}\b|\b[0-9a-f]{40}\b"  # commits
)
POLICY = json.dumps(
    {
        "orchestrator_id": "spec-kitty-orchestrator",
        "orchestrator_version": "0",
        "agent_family": "scripted",
        "approval_mode": "full_auto",
        "sandbox_mode": "workspace_write",
        "network_mode": "none",
        "dangerous_flags": [],
    }
)
EVIDENCE = json.dumps({"review": {"reviewer": "rev", "verdict": "approved", "reference": "ref-3"}})


def work_package(number: int, dependencies: tuple[str, ...] = ()) -> WorkPackageSpec:
    return WorkPackageSpec(
        id=f"WP{number:02d}",
        title=f"Part {number}",
        dependencies=dependencies,
        owned_files=f"src/part{number}/**",
        create_intent=f"src/part{number}/m.py",
        subtasks=(f"T{number:03d}",),
        text="Create it.\n",
    )


JOIN = (work_package(1), work_package(2), work_package(3, ("WP01", "WP02")))
"""The start of WP03 merges the lanes of the other two."""


@dataclass
class Cycle:
    """One way through a mission, and what every call answered."""

    root: Path
    slug: str
    host: str
    env: Mapping[str, str]
    transport: Transport
    calls: list[tuple[str, int, int, Any]] = field(default_factory=list)

    async def call(self, *args: str) -> Any:
        with anyio.fail_after(LIMIT_S):
            reply = await self.transport.call(
                [self.host, *args], cwd=self.root, env=self.env, limit_s=LIMIT_S
            )
        lines = reply.stdout.decode().splitlines()
        answer = json.loads(lines[-1]) if lines else None
        self.calls.append((" ".join(args)[:100], reply.rc, len(lines), plain(answer)))
        return answer

    async def api(self, call: str, *args: str) -> Any:
        return await self.call("orchestrator-api", call, "--mission", self.slug, *args)

    async def reads(self) -> None:
        """Four reads, two at a time; in the record they stand in one order."""
        start = len(self.calls)
        wanted = (("mission-state",), ("list-ready",), ("resolve-workspace", "--wp", "WP02"))
        async with anyio.create_task_group() as group:
            group.start_soon(self.call, "orchestrator-api", "contract-version")
            for args in wanted:
                group.start_soon(self.api, *args)
        self.calls[start:] = sorted(self.calls[start:], key=lambda call: call[0])

    async def move(self, wp: str, to: str, *args: str) -> Any:
        return await self.api(
            "transition", "--wp", wp, "--to", to, "--actor", "lab", "--policy", POLICY, *args
        )

    async def start(self, wp: str) -> Any:
        return await self.api("start-implementation", "--wp", wp, "--actor", "lab", "--policy", POLICY)

    async def review(self, wp: str, to: str, verdict: str, reference: str) -> Any:
        await self.api("start-review", "--wp", wp, "--actor", "rev", "--policy", POLICY)
        words = {"reviewer": "rev", "verdict": verdict, "reference": reference, "summary": "Seen: é ✓"}
        return await self.move(wp, to, "--review-result-json", json.dumps(words), "--note", "by\nrev")

    async def tick(self, number: int) -> None:
        args = ("agent", "tasks", "mark-status", f"T{number:03d}", "--status", "done", "--mission", self.slug)
        await self.call(*args, "--json")

    def work(self, number: int, text: str) -> None:
        """Do an agent's work: one commit in the worktree."""
        (tree,) = {
            entry["worktree"]
            for entry in self.worktrees()
            if entry.get("branch", "").endswith(f"lane-{'abc'[number - 1]}")
        }
        file = Path(tree) / f"src/part{number}/m.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.git("add", "-A", cwd=tree)
        self.git("commit", "-q", "-m", f"feat: part {number}: {text}", cwd=tree)

    async def first_half(self) -> None:
        """One work package: started twice, wrongly moved, sent back, approved."""
        await self.reads()
        await self.start("WP01")
        again = await self.start("WP01")
        assert again["data"]["no_op"] is True
        refused = await self.move("WP01", "done")
        assert refused["error_code"] == "TRANSITION_REJECTED"
        await self.call("orchestrator-api", "transition", "--mission", self.slug, "--no-such-option")
        assert self.calls[-1][1] == 2
        self.work(1, "one")
        await self.tick(1)
        await self.api("append-history", "--wp", "WP01", "--actor", "lab", "--note", "a note\n— with é ✓")
        await self.move("WP01", "for_review")

    async def second_half(self) -> None:
        """A rejection and rework; the others; everything is merged and accepted."""
        await self.review("WP01", "in_progress", "changes_requested", "ref-1")
        self.work(1, "one more")
        await self.move("WP01", "for_review")
        await self.review("WP01", "done", "approved", "ref-2")
        for number in (2, 3):
            wp = f"WP{number:02d}"
            started = await self.start(wp)
            assert started["success"], started
            self.work(number, "new")
            await self.move(wp, "approved", "--evidence-json", EVIDENCE)
        await self.api("merge-mission")
        accepted = await self.api("accept-mission", "--actor", "lab")
        assert accepted["success"], accepted

    def git(self, *args: str, cwd: str | Path | None = None, data: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=cwd or self.root,
            env=dict(self.env),
            input=data,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode("utf-8", "replace")

    def worktrees(self) -> list[dict[str, str]]:
        blocks = self.git("worktree", "list", "--porcelain").strip().split("\n\n")
        return [dict(line.partition(" ")[::2] for line in block.splitlines()) for block in blocks]

    def left(self) -> dict[str, Any]:
        """Return everything that git and the host's records hold, without what may differ."""
        branches = self.git("for-each-ref", "--format=%(refname)", "refs").split()
        trees = self.worktrees()
        logs = sorted(self.root.glob("**/status.events.jsonl"))
        return {
            "branches": branches,
            "commits": {one: self._commits(one) for one in branches},
            "contents": {one: self._contents(one) for one in branches},
            "worktrees": [(one["worktree"], one.get("branch")) for one in trees],
            "status": {
                one["worktree"]: self.git("status", "--porcelain", "-uall", cwd=one["worktree"])
                for one in trees
            },
            "events": {
                str(log): [plain(json.loads(line)) for line in log.read_text().splitlines()] for log in logs
            },
            "configuration": plain(self.git("config", "--local", "--list")),
        }

    def _commits(self, branch: str) -> list[str]:
        # Commits of one second stand in any order.
        records = self.git("log", "-z", "--format=%P%x01%an %B", branch).rstrip("\0").split("\0")
        parts = [record.partition("\x01") for record in records]
        return sorted(f"{len(parents.split())} parents: {plain(text)}" for parents, _, text in parts)

    def _contents(self, branch: str) -> dict[str, str]:
        listed = [line.partition("\t") for line in self.git("ls-tree", "-r", branch).splitlines()]
        blobs = {path: head.split()[2] for head, _, path in listed}
        data = "".join(f"{branch}:{path}\n" for path in blobs).encode()
        said = self.git("cat-file", "--batch=%(rest)\x01%(objectsize)", data=data)
        assert said.count("\x01") >= len(blobs)
        parts = re.split(r"^[^\n]*\x01\d+\n", said, flags=re.MULTILINE)[1:]
        return {path: plain(text) for path, text in zip(blobs, parts, strict=True)}


def plain(value: Any) -> Any:
    """Return a value without times, ids and commits."""
    if isinstance(value, str):
        return CHANGING.sub("*", value)
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items() if name != "lamport_clock"}
    return [plain(one) for one in value] if isinstance(value, list) else value


def assert_same(warm: dict[str, Any], by_processes: dict[str, Any]) -> None:
    """Compare what two ways left, and name what differs."""
    assert warm.keys() == by_processes.keys()
    for kind, found in warm.items():
        wanted = by_processes[kind]
        if isinstance(found, dict):
            assert found.keys() == wanted.keys(), kind
            for name in found:
                assert found[name] == wanted[name], f"{kind} of {name}"
        assert found == wanted, kind


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The calls for which a process was started."""
    seen: list[Sequence[str]] = []
    call = SpawnTransport.call

    async def watched(self: SpawnTransport, args: Sequence[str], **options: Any) -> Any:
        seen.append(args)
        return await call(self, args, **options)

    monkeypatch.setattr(SpawnTransport, "call", watched)
    return seen


@dataclass(frozen=True)
class ShimLog:
    """The file to which git's merge drivers write what the warm host answered."""

    path: Path

    def clear(self) -> None:
        self.path.write_text("")

    def statuses(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def shim_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShimLog:
    log, copy = tmp_path / "shim.log", tmp_path / "shim.py"
    source = Path(str(merge_driver.__file__)).read_text()
    marker = "    if status is None:\n"
    assert source.count(marker) == 1
    copy.write_text(source.replace(marker, f"    open({str(log)!r}, 'a').write(f'{{status}}\\n')\n{marker}"))
    monkeypatch.setattr(merge_driver, "__file__", str(copy))
    return ShimLog(log)


@pytest.mark.parametrize(
    "topology",
    # This one has everything that the others have, a worktree per lane and a branch for the status.
    [pytest.param(one, marks=() if one == "lanes_with_coord" else pytest.mark.long) for one in TOPOLOGIES],
)
async def test_a_mission_asked_warm_is_equal_to_one_asked_by_processes(
    topology: str,
    real_host: str,
    host_env: dict[str, str],
    real_mission: Callable[[MissionSpec], Any],
    spawned: list[Sequence[str]],
    shim_log: "ShimLog",
) -> None:
    spec = MissionSpec(JOIN, topology=topology)

    def restored(transport: Transport) -> Cycle:
        mission = real_mission(spec)
        return Cycle(mission.root, mission.slug, real_host, host_env, transport)

    by_processes = restored(SpawnTransport())
    await by_processes.first_half()
    half, calls = by_processes.left(), len(by_processes.calls)
    await by_processes.second_half()
    whole = by_processes.left()
    assert len(spawned) == len(by_processes.calls)
    assert [rc for _, rc, _, _ in by_processes.calls if rc] == [1, 2], "the refusal and the usage error alone"

    async def asked_warm(*, fast: bool) -> tuple[Cycle, dict[str, Any], dict[str, Any]]:
        spawned.clear()
        shim_log.clear()
        said: list[str] = []
        transport = WarmTransport(say=said.append, memoize=fast, merge_drivers=fast, required=True)
        try:
            cycle = restored(transport)
            await cycle.first_half()
            pid, middle = transport.pid, cycle.left()
            if fast:
                await cycle.second_half()
            assert said == []
            assert transport.pid == pid is not None
            assert psutil.Process(pid).is_running()
            # To find the program behind the executable; it is that program, so nothing is compared.
            assert len(spawned) == 1
        finally:
            await transport.close()
        return cycle, middle, cycle.left()

    warm, warm_half, warm_whole = await asked_warm(fast=True)
    assert warm.calls == by_processes.calls
    assert_same(warm_half, half)
    assert_same(warm_whole, whole)
    if "coord" in topology:
        assert set(shim_log.statuses()) == {"0"}
    if topology == "coord":
        slow, slow_half, _ = await asked_warm(fast=False)
        assert slow.calls == by_processes.calls[:calls]
        assert_same(slow_half, half)
        assert shim_log.statuses() == []
