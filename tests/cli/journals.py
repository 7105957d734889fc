"""What an earlier start left: its journal, with lines as it would have written them, and its agents."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from spec_kitty_orchestrator.machine.process import MARKER

SLUG = "demo-01ABC"
AT = "2026-01-02T03:04:05+00:00"
POLICY = {"impl_agents": ["scripted"], "review_agents": ["scripted"]}
Line = Mapping[str, object]
Project = Any  # the class lives in conftest, which tests cannot import

AGENT = """
import signal, sys
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("working", flush=True)
sys.stdin.read()
"""


def start_line(slug: str = SLUG, /, **changes: object) -> dict[str, object]:
    """Return the line that opens a start, with changes of its fields."""
    mission = {"slug": slug, "lanes": {}, "dependencies": {}}
    line = {"line": "run", "schema": 2, "at": AT, "mission": mission, "actor": "me", "version": "0.2.0"}
    return {**line, "policy": POLICY, **changes}


def event(wp: str, kind: str, **parts: object) -> dict[str, object]:
    """Return the line of an event, "" for one of the run's."""
    return {"line": "event", "at": AT, "wp_id": wp, "event": {"kind": kind, **parts}}


def records(project: Project, slug: str = SLUG) -> Path:
    """Return the folder of our records of a mission."""
    found: Path = project.root / ".kittify" / "orchestrator" / slug
    found.mkdir(parents=True, exist_ok=True)
    return found


def write_journal(project: Project, *lines: Line, slug: str = SLUG) -> Path:
    """Write the journal of a mission, and return it."""
    file = records(project, slug) / "journal.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def read_journal(project: Project) -> list[dict[str, Any]]:
    """Return the lines of the journal as it is now."""
    return [json.loads(line) for line in (records(project) / "journal.jsonl").read_text().splitlines()]


def last_start(project: Project) -> dict[str, Any]:
    """Return the line of the last start in the journal."""
    return [line for line in read_journal(project) if line["line"] == "run"][-1]


@contextmanager
def process(
    program: str, *args: str, env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Keep a process that prints a line once it is at work."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


@contextmanager
def agent_at_work(project: Project, *args: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Keep a process with the marker of an attempt of the mission; a "deaf" one ignores SIGTERM."""
    directory = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-implement-scripted"
    directory.mkdir(parents=True)
    (directory.parents[2] / ".gitignore").write_text("*\n")
    # Tests run at the same time, and an abort stops whatever carries the id.
    attempt = uuid4().hex
    (directory / "command.json").write_text(json.dumps({"attempt": attempt}))
    with process(AGENT, *args, env={MARKER: attempt}) as started:
        yield started
