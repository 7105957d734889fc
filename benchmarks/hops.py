"""Counts what a reader of the program has to open: files before the engine, hops between modules, lines.

    python benchmarks/hops.py              # one table; some seconds
    python benchmarks/hops.py --names      # and the modules by name

Nothing is timed, so a busy machine changes nothing. Two runs are followed with `sys.setprofile`:

- One WP without a rejection, driven by `Orchestrator` between the shipped stand-ins: in which modules of
  `core` and `driver` functions are called, and how often the next call is in another module than the last.
  A *heartbeat* is what lies between two calls of `step`. What follows an approval is what `step` calls when
  a reviewer has approved.
- `orchestrate`, on a repository of its own with a host that is a few lines of shell, until `Orchestrator.run`
  begins. The files on the way are those on the stack at that moment, then those that they call.

Lines are counted as they stand in the files, comments and blank lines too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import chdir, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import anyio
from rows import Bound, Row, layout

import spec_kitty_orchestrator
from spec_kitty_orchestrator import Orchestrator, Parts, Policy, Prompts
from spec_kitty_orchestrator.cli import main as command
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
from spec_kitty_orchestrator.testing.memory_journal import MemoryJournal, MemoryLock, StoppedClock, Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, ScriptedAgents

PACKAGE = Path(spec_kitty_orchestrator.__file__).parent
FUNCTION = 2  # CO_NEWLOCALS: the body of a class has none
COUNTED = ("core", "driver", "app", "cli", "views", "ports.py")
HOST = """#!/bin/sh
case "$2" in
contract-version) data='{"api_version": "1.5.0", "min_supported_provider_version": "0.1.0"}' ;;
mission-state) data='{"mission_slug": "demo", "work_packages": [{"wp_id": "WP01", "lane": "planned"}]}' ;;
esac
printf '{"success": true, "data": %s}\\n' "$data"
"""


class Begun(BaseException):
    """The engine begins; nobody on the way catches this."""


class Beat:
    """One call of `step`: the event, the modules that `step` itself calls, and all up to the next event."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.inside: list[str] = []
        self.trail: list[str] = []


def module_of(frame: FrameType | None) -> str:
    """Return the file of a function of ours below the package, or "" if it is none of ours."""
    if frame is None or not frame.f_code.co_flags & FUNCTION or frame.f_code.co_name.startswith("<"):
        return ""
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else ""


def distinct(modules: list[str]) -> list[str]:
    return list(dict.fromkeys(modules))


def follow_one_wp() -> tuple[list[str], list[Beat]]:
    """Drive one WP from planned to done; return the module of each call, and the heartbeats."""
    trail: list[str] = []
    beats: list[Beat] = []
    deciding: list[FrameType] = []

    def called(frame: FrameType, moment: str, _: Any) -> None:
        if moment == "return" and deciding and frame is deciding[-1]:
            deciding.clear()
        module = module_of(frame) if moment == "call" and frame.f_code.co_name != "__init__" else ""
        if not module.startswith(("core/", "driver/")):
            return
        if module.startswith("core/") and frame.f_code.co_qualname == "step":
            event = frame.f_locals[frame.f_code.co_varnames[1]]
            beats.append(Beat(type(event).__name__))
            deciding.append(frame)
        trail.append(module)
        for beat in beats[-1:]:
            beat.trail.append(module)
            beat.inside += [module] if deciding else []

    workspaces = FakeWorkspaces()
    parts = Parts(
        "demo",
        "benchmark",
        Policy(("ada",), ("rob",)),
        lock=MemoryLock(),
        host=FakeHost({"WP01": ()}),
        agents=ScriptedAgents(workspaces, lambda _: Play(seconds=0.0)),
        workspaces=workspaces,
        journal=MemoryJournal(),
        clock=StoppedClock(),
        observer=Watcher(),
        prompts=Prompts("${task}${report}", "${task}${feedback}${report}", "${task}${verdict}"),
        version="1.0.0",
    )
    engine = Orchestrator(parts)

    async def run() -> int:
        sys.setprofile(called)
        try:
            return (await engine.run()).exit_code
        finally:
            sys.setprofile(None)

    if anyio.run(run):
        raise SystemExit("the mission did not end well")
    return trail, beats


def follow_the_command() -> tuple[list[str], list[str], list[str]]:
    """Run `orchestrate` until the engine begins; return what is on the stack, what that called, and all."""
    trail: list[str] = []
    pairs: set[tuple[str, str]] = set()
    stack: list[str] = []

    def called(frame: FrameType, moment: str, _: Any) -> None:
        module = module_of(frame) if moment == "call" else ""
        if not module:
            return
        trail.append(module)
        pairs.add((module_of(frame.f_back), module))
        if frame.f_code.co_qualname == "Orchestrator.run":
            above: FrameType | None = frame
            while above is not None:
                stack.insert(0, module_of(above))
                above = above.f_back
            raise Begun

    words = "orchestrate --mission demo --impl-agent scripted --review-agent scripted"
    with tempfile.TemporaryDirectory() as made:
        root = prepare(Path(made))
        path = os.pathsep.join([str(root.parent / "bin"), os.environ.get("PATH", os.defpath)])
        changed = {"PATH": path, "SKO_HOST_TRANSPORT": "spawn"}
        with (
            chdir(root),
            redirect_stdout(sys.stderr),
            patch.object(sys, "argv", ["", *words.split()]),
            patch.dict(os.environ, changed),
        ):
            threading.setprofile(called)
            sys.setprofile(called)
            try:
                command()
            except BaseException:
                if not stack:
                    raise
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    on_path = distinct([module for module in stack if module])
    near = {module for caller, module in pairs if caller in on_path} - set(on_path)
    return on_path, [module for module in distinct(trail) if module in near], distinct(trail)


def prepare(folder: Path) -> Path:
    """Make a repository with a mission and, in `bin` beside it, a host that can say what is asked so far."""
    tasks = folder / "project" / "kitty-specs" / "demo" / "tasks"
    tasks.mkdir(parents=True)
    meta = {"mission_slug": "demo", "target_branch": "feature/demo", "topology": "lanes"}
    (tasks.parent / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (tasks.parent / "lanes.json").write_text("{}", encoding="utf-8")
    (tasks / "WP01.md").write_text("# WP01\n", encoding="utf-8")
    host = folder / "bin" / "spec-kitty"
    host.parent.mkdir()
    host.write_text(HOST, encoding="utf-8")
    host.chmod(0o755)
    for words in ("init -q -b feature/demo", "add -A", "commit -qm plan"):
        who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.test"]
        subprocess.run(["git", *who, *words.split()], cwd=folder / "project", check=True)
    return folder / "project"


def count_lines() -> dict[str, int]:
    """Return the lines of each room that is counted."""
    lines = dict.fromkeys(COUNTED, 0)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        if room in lines:
            lines[room] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def measure(names: bool = False) -> list[Row]:
    """Follow both runs and count; with `names` also print the modules."""
    trail, beats = follow_one_wp()
    modules, changes = distinct(trail), sum(one != other for one, other in pairwise(trail))
    sizes = [len(set(beat.trail)) for beat in beats]
    approval = [distinct(beat.inside) for beat in beats if beat.event == "AgentExited"][-1]
    path, near, every = follow_the_command()
    if names:
        groups = {"on the way": path, "that they call": near, "one WP": modules, "an approval": approval}
        print(*(f"{what}: {' '.join(found)}\n" for what, found in groups.items()), sep="\n")
    lines = count_lines()
    opened = f"{len(path)} on the way, {len(near)} that they call; {len(every)} in all"
    rooms = ", ".join(f"{room} {n}" for room, n in lines.items())
    return [
        Row("command to engine: files", opened, len(path) + len(near), Bound(12, "files")),
        Row("one WP: modules of core and driver", "", len(modules), Bound(19, "modules")),
        Row("one WP: changes of module", f"in {len(trail)} calls", changes, Bound(373, "changes")),
        Row("one heartbeat: modules", f"{min(sizes)} to {max(sizes)} in {len(beats)} events"),
        Row("what follows an approval: files", "", len(approval), Bound(3, "files")),
        Row("lines", rooms, sum(lines.values()), Bound(9000, "lines")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", action="store_true", help="also print the modules")
    print(layout(measure(parser.parse_args().names)))


if __name__ == "__main__":
    main()
