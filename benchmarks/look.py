"""What looking into a run costs: `status` and `watch` beside one with 8 agents at work, and a report.

The run is a journal of the tests in a repository of its own, whose lock is held; its agents are files
that grow. So only what looks is measured, and nothing of the run itself.
"""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import anyio
from lab import Setup
from rows import Bound, Row

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.report import Format, read_report, write_as
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.lock import MissionLock

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import journals

AGENTS = 8
WPS = 99
LOG_BYTES = 100 * 1024 * 1024
GROWS_S = 2.0
ROUNDS = 20
WINDOW_S = 60.0
SETTLE_S = 12.0
LINES, COLUMNS = 40, 120
ANSWER_LIMIT_S = 3.0
KEYS: Mapping[str, str] = {
    "down": "j",
    "up": "k",
    "events": "e",
    "verdict": "v",
    "log": "l",
    "timeline": "t",
    "Esc": "\x1b",
    "graph": "g",
    "Esc of the graph": "\x1b",
    "Enter": "\r",
    "Esc of the log": "\x1b",
    "help": "?",
    "Esc of the help": "\x1b",
    "filter": "/",
    "Esc of the filter": "\x1b",
}
"""In this order each changes what is shown."""


def measure(setup: Setup) -> list[Row]:
    """Measure each beside a run, and the report of a large mission by itself."""
    with tempfile.TemporaryDirectory(prefix="look-") as folder:
        with _run(Path(folder) / "few", 12) as root:
            rows = _status(setup, root)
        with _run(Path(folder) / "many", WPS) as root:
            rows += _watch(setup, root)
        return rows + _report(setup, Path(folder) / "report")


@contextmanager
def _run(root: Path, wps: int) -> Iterator[Path]:
    """Yield a repository in which a run seems to go on: 8 agents print, one of them a lot before."""
    ids = journals.names(wps)
    titles = {one: f"Part {place} of the import" for place, one in enumerate(ids)}
    policy = replace(journals.POLICY, max_concurrent=AGENTS)
    player = journals.Player(dict.fromkeys(ids, ()), {}, titles=titles, policy=policy)
    player.begin()
    while len(opened := [wp.open_attempt for wp in player.state.wps.values() if wp.open_attempt]) < AGENTS:
        player.play(1)
    directory = _repository(root, player.slug, player.lines)
    outputs = [Path(one.directory.replace("/repo", str(root))) / "stdout.log" for one in opened]
    line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "word " * 40}]}})
    for place, output in enumerate(outputs):
        output.parent.mkdir(parents=True)
        with output.open("w") as stream:
            for _ in range(LOG_BYTES // len(line) // (1 if place == 0 else 1000)):
                stream.write(f"{line}\n")
    over = threading.Event()

    def grow() -> None:
        while not over.wait(GROWS_S):
            for output in outputs:
                with output.open("a") as stream:
                    stream.write(f"{line}\n")

    grows = threading.Thread(target=grow)
    with MissionLock(directory, player.slug):
        grows.start()
        try:
            yield root
        finally:
            over.set()
            grows.join()


def _repository(root: Path, slug: str, lines: list[Line]) -> Path:
    """Make a repository with a journal; return the folder of that."""
    subprocess.run(["git", "init", "--quiet", root], check=True)
    directory = root / ".kittify" / "orchestrator" / slug
    directory.mkdir(parents=True)

    async def write() -> None:
        journal = JsonlJournal(directory, root)
        for one in lines:
            await journal.append(one)

    anyio.run(write)
    file = directory / "journal.jsonl"
    file.write_text(file.read_text().replace('"/repo/', f'"{root}/'))
    return directory


def _spent(command: list[str], root: Path) -> tuple[float, float]:
    """Run a command; return its seconds of wall and of CPU."""
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as child:
        _, _, used = os.wait4(child.pid, 0)
        taken = time.perf_counter() - begun
        child.returncode = 0
    return taken, used.ru_utime + used.ru_stime


def _status(setup: Setup, root: Path) -> list[Row]:
    pairs = [
        (_spent([setup.ours, "--version"], root), _spent([setup.ours, "status"], root))
        for _ in range(3 if setup.quick else ROUNDS)
    ]
    rows = []
    for place, what in enumerate(("wall", "CPU")):
        least, ours = (median(pair[which][place] for pair in pairs) for which in (0, 1))
        measured = f"the middle of {len(pairs)}: {ours * 1e3:.0f} ms / {least * 1e3:.0f} ms"
        row = f"status beside {AGENTS} agents / --version, {what}"
        rows.append(Row(row, measured, ours / least, Bound(1.5, "x")))
    return rows


def _watch(setup: Setup, root: Path) -> list[Row]:
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(root)
        os.environ["TERM"] = "xterm-256color"
        os.execv(setup.ours, [setup.ours, "watch"])
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    try:
        _paint(screen, SETTLE_S)
        before, begun = _cpu(pid), time.monotonic()
        _paint(screen, 5.0 if setup.quick else WINDOW_S)
        percent = 100 * (_cpu(pid) - before) / (time.monotonic() - begun)
        rounds = [{name: _answer(screen, key) for name, key in KEYS.items()} for _ in range(3)]
        answers = {name: median(one[name] for one in rounds) for name in KEYS}
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(screen)
    slowest = max(answers, key=lambda one: answers[one])
    listed = ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in answers.items())
    where = f"{WPS} WPs, {AGENTS} agents"
    return [
        Row(f"watch idle, {where}", f"{WINDOW_S:.0f} s at {COLUMNS}x{LINES}", percent, Bound(0.5, "%")),
        Row(
            f"watch answers {slowest}, {where}, a log of {LOG_BYTES >> 20} MB",
            f"ms, the middle of 3: {listed}",
            answers[slowest] * 1e3,
            Bound(100, "ms"),
        ),
    ]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _paint(screen: int, seconds: float) -> None:
    """Take what is painted, for a terminal that nobody reads stops its writer."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([screen], [], [], left)[0]:
            os.read(screen, 1 << 16)


def _answer(screen: int, key: str) -> float:
    """Press a key at a calm moment; return the seconds until something is painted."""
    while select.select([screen], [], [], 0.4)[0]:
        os.read(screen, 1 << 16)
    begun = time.perf_counter()
    os.write(screen, key.encode())
    select.select([screen], [], [], ANSWER_LIMIT_S)
    taken = time.perf_counter() - begun
    _paint(screen, 0.3)
    return taken


def _report(setup: Setup, root: Path) -> list[Row]:
    lines = journals.large(WPS)
    directory = _repository(root, journals.SLUG, lines)
    attempts = sum(getattr(getattr(one, "event", None), "kind", "") == "attempt_opened" for one in lines)
    page = directory / "page.html"
    command = [setup.ours, "report", "--mission", directory.name, "--output", str(page)]
    whole = [_spent(command, root)[0] for _ in range(1 if setup.quick else 3)]
    project, taken = open_project(root, {**os.environ, "SKO_TRUST_SETTINGS": "1"}, {}), []
    for _ in whole:
        begun = time.perf_counter()
        found = anyio.run(partial(read_report, project, directory.name, active=False))
        write_as(found, project, Format.HTML, directory)
        taken.append(time.perf_counter() - begun)
    size = page.stat().st_size
    what = f"report of {WPS} WPs and {attempts} attempts"
    shutil.rmtree(root)
    return [
        Row(
            what,
            f"the middle of {len(taken)}; the command with its start {median(whole):.2f} s",
            median(taken),
            Bound(2, "s"),
        ),
        Row(what, "the page", size / 1000, Bound(400, "kB")),
    ]
