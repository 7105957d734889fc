"""A mission of one work package whose host keeps lanes, and a run whose agent waits for the test's word."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SLUG = "demo-01ABC"
LIMIT_S = 30
MAIN = [sys.executable, "-m", "spec_kitty_orchestrator"]
Project = Any  # the class lives in conftest, which tests cannot import

HOST = """#!{python}
import json, os, pathlib, sys
call, args = sys.argv[2], dict(zip(sys.argv[3::2], sys.argv[4::2]))
here = pathlib.Path(__file__ + ".d")
lanes = json.loads((here / "lanes").read_text())
wp = args.get("--wp", "")
root = os.getcwd()
data = dict(workspace_path=f"{{root}}/w/{{wp}}", prompt_path=f"{{root}}/p", lane_id=f"lane-{{wp}}")
data.update(lane_branch=f"b-{{wp}}", lane_base_ref="feature/demo")
code = None
{before}
if call == "contract-version":
    data = dict(api_version="1.5.0", min_supported_provider_version="0.1.0")
elif call == "mission-state":
    wps = [dict(wp_id=one, lane=lane, dependencies=[]) for one, lane in lanes.items()]
    data = dict(mission_slug="{slug}", work_packages=wps)
elif call in ("start-implementation", "start-review", "transition"):
    lanes[wp] = dict([("start-implementation", "in_progress"), ("start-review", "in_review")]).get(
        call, args.get("--to", ""))
    (here / "lanes").write_text(json.dumps(lanes))
{after}
print(json.dumps(dict(success=code is None, error_code=code, data=data)))
"""
"""A host that keeps lanes in a file; a test adds lines that run before or after its answer is made."""

AGENT = """\
import json, re, socket, sys
role, port, text = sys.argv[1], int(sys.argv[2]), sys.stdin.read()
attempt = re.search(r"^Attempt: (\\S+)", text, re.M).group(1)
head = re.search(r"^Head: (\\S+)", text, re.M)
if role == "implement":
    with socket.create_connection(("127.0.0.1", port)) as call:
        call.sendall(b"!")
        call.recv(1)
    open("a.py", "w").write("A = 1\\n")
    print(json.dumps({"attempt": attempt, "summary": "written"}))
else:
    found = {"attempt": attempt, "head": head.group(1), "verdict": "approved", "summary": "looked at it"}
    print(json.dumps({**found, "findings": []}))
"""
"""It implements once the test answers its call, and approves."""


@dataclass(frozen=True)
class AtWork:
    """A run whose implementer has called us and waits for an answer."""

    run: "subprocess.Popen[bytes]"
    agent: socket.socket
    output: Path

    def let_the_agent_end(self) -> None:
        """Answer its call."""
        self.agent.sendall(b".")

    def agent_is_gone(self) -> bool:
        """Wait until the agent's process ends, or the test's patience."""
        return self.agent.recv(1) == b""

    def ended(self) -> tuple[int, str]:
        """Wait for the run's end; return its exit code and what it told."""
        code = self.run.wait(LIMIT_S)
        return code, self.output.read_text()


def host_of_one(project: Project, *, before: str = "", after: str = "", lane: str = "planned") -> None:
    """Give the project a host that keeps the lane of one work package, and that one's worktree."""
    host = project.bin / "spec-kitty"
    host.write_text(HOST.format(python=sys.executable, slug=SLUG, before=before, after=after))
    (project.bin / "spec-kitty.d" / "lanes").write_text(json.dumps({"WP01": lane}))
    place = project.root / "w" / "WP01"
    if not place.exists():
        project.git("worktree", "add", "-q", "-b", "b-WP01", str(place))
    (project.root / "p").write_text("# WP01\n")


def lane_of(project: Project) -> str:
    """Return the lane of the one work package."""
    lanes = json.loads((project.bin / "spec-kitty.d" / "lanes").read_text())
    return str(lanes["WP01"])


def configure(project: Project, port: int, run: str = "") -> None:
    """Configure the agents `one`, `two` and `three`, all of whom call this port before they implement."""
    program = project.root.parent / "agent.py"
    program.write_text(AGENT)
    sections = [
        f'[agents.{name}]\ncommand = ["{sys.executable}", "{program}"]\n'
        f'implement_args = ["implement", "{port}"]\nreview_args = ["review", "{port}"]\n'
        for name in ("one", "two", "three")
    ]
    project.configure(f"[run]\nmin_free_memory = 0\nmin_free_disk = 0\n{run}\n" + "\n".join(sections))


def default_signals() -> None:
    """Undo what whoever runs the tests ignores, as under `nohup`."""
    for signum in (signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)


@contextmanager
def at_work(
    project: Project,
    *args: str,
    run: str = "",
    stdout: IO[bytes] | int | None = None,
    prepare: Callable[[], None] = default_signals,
) -> Iterator[AtWork]:
    """Run the mission until its implementer is at work; whatever a test leaves is ended.

    Args:
        project: of the fixture; its host must keep lanes.
        args: of `orchestrate`.
        run: lines for the table `[run]` of the settings.
        stdout: where the run's output goes, None for a file.
        prepare: is called in the run's process before it starts.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        address = listening.getsockname()
        configure(project, address[1], run)
        output = project.root.parent / "output"
        with (
            output.open("wb") as file,
            subprocess.Popen(
                [*MAIN, "orchestrate", "--mission", SLUG, *args],
                cwd=project.root,
                env=environment(project),
                stdin=subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,
            ) as started,
        ):
            threading.Thread(target=hang_up_after, args=(started, address), daemon=True).start()
            try:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(LIMIT_S)
                    assert connection.recv(1) == b"!", output.read_text()
                    yield AtWork(started, connection, output)
            finally:
                started.kill()


def hang_up_after(run: "subprocess.Popen[bytes]", address: tuple[str, int]) -> None:
    """Call in the agent's place, and say nothing, once a run has ended: nobody waits for its agent then."""
    run.wait()
    with suppress(OSError), socket.create_connection(address):
        pass


def environment(project: Project) -> Mapping[str, str]:
    """Return the environment of the command, as the fixture gives it."""
    return {**project.env, "PATH": f"{project.bin}:/usr/bin:/bin", "COLUMNS": "200"}


def attempts(project: Project) -> list[str]:
    """Return the names of the folders of attempts, oldest first: `01-implement-one`."""
    folder = project.root / ".kittify" / "logs" / SLUG / "WP01"
    return sorted(one.name for one in folder.iterdir()) if folder.exists() else []


ONE = ("--impl-agent", "one", "--review-agent", "one")
