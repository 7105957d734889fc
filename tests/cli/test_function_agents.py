"""Functions of a program as agents, beside command lines: in one run, after a kill, and for our commands."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import read_journal
from tests.cli.working import LIMIT_S, SLUG, attempts, configure, environment, host_of_one, lane_of

from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.app.build import build_agents, build_workspaces
from spec_kitty_orchestrator.app.checks.agents import check_agents, find_installed
from spec_kitty_orchestrator.app.checks.machine import check_confinement
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError, UsageError

PROGRAM = Path(__file__).parents[1] / "function_program.py"
Project = Any  # the class lives in conftest, which tests cannot import


class Program:
    """The program at work, and the call of whoever implements."""

    def __init__(self, run: "subprocess.Popen[str]", listening: socket.socket) -> None:
        self.run = run
        self._listening = listening

    def answer(self) -> None:
        """Let whoever implements go on."""
        with self._listening.accept()[0] as call:
            call.settimeout(LIMIT_S)
            assert call.recv(1) == b"!"
            call.sendall(b".")

    def killed(self) -> None:
        """Kill it as soon as its implementer is at work."""
        with self._listening.accept()[0]:
            self.run.kill()
            self.run.wait(LIMIT_S)

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        assert self.run.wait(LIMIT_S) is not None
        return self.run.returncode


@contextmanager
def program(project: Project, implementer: str, reviewer: str) -> Iterator[Program]:
    """Start the program; whatever a test leaves is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        port = listening.getsockname()[1]
        configure(project, port)
        argv = [sys.executable, str(PROGRAM), SLUG, implementer, reviewer, "--port", str(port)]
        env = environment(project)
        with subprocess.Popen(argv, cwd=project.root, env=env, text=True) as run:
            try:
                yield Program(run, listening)
            finally:
                run.kill()


@pytest.fixture
def mission(project: Project) -> Project:
    """A project with a mission of one work package."""
    host_of_one(project)
    return project


@pytest.mark.parametrize(("implementer", "reviewer"), [("mine", "one"), ("one", "mine")])
def test_a_function_and_a_command_line_bring_a_work_package_to_done_together(
    mission: Project, implementer: str, reviewer: str
) -> None:
    with program(mission, implementer, reviewer) as running:
        running.answer()
        assert running.ended() == 0
    assert lane_of(mission) == "done"
    assert attempts(mission) == [f"01-implement-{implementer}", f"02-review-{reviewer}"]
    lines = read_journal(mission)
    assert lines[0]["settings"]["program_agents"] == {
        "mine": {"function": "function_program.py:mine", "family": "acme"}
    }
    assert lines[0]["policy"]["families"]["mine"] == "acme"
    exits = [one["event"] for one in lines if one.get("event", {}).get("kind") == "agent_exited"]
    costs = [one["report"]["usage"]["cost_usd"] for one in exits]
    assert costs == ([0.5, None] if implementer == "mine" else [None, 0.25])
    assert exits[1]["verdict"]["ruling"] == "approved"
    told = mission.run("logs", "WP01", "--attempt", "1" if implementer == "mine" else "2")
    assert ("I wrote it." if implementer == "mine" else "I looked at it.") in told.stdout
    assert mission.run("status", "WP01").returncode == 0


def test_a_function_that_a_kill_cut_off_is_lost_and_another_attempt_follows(
    mission: Project,
) -> None:
    with program(mission, "mine", "mine") as running:
        running.killed()
    with program(mission, "mine", "mine") as running:
        running.answer()
        assert running.ended() == 0
    assert lane_of(mission) == "done"
    assert attempts(mission) == ["01-implement-mine", "02-implement-mine", "03-review-mine"]
    lost = mission.root / ".kittify/logs" / SLUG / "WP01/01-implement-mine/result.json"
    assert json.loads(lost.read_text())["report"]["outcome"] == "lost"


def test_a_person_can_take_the_work_of_a_function_over_without_its_program(mission: Project) -> None:
    with program(mission, "mine", "mine") as running:
        running.killed()
    assert mission.run("takeover", "WP01").returncode == 0
    assert mission.run("handback", "WP01").returncode == 0


def test_the_command_goes_on_with_a_run_of_functions_if_it_names_other_agents(mission: Project) -> None:
    with program(mission, "mine", "mine") as running:
        running.killed()
    for command in (("status", "WP01"), ("logs", "WP01"), ("pause", "WP01"), ("continue", "WP01")):
        assert mission.run(*command).returncode == 0

    done = mission.run("resume")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (
        "agent mine is the function function_program.py:mine of the program that began this run: let that "
        "program go on with it, or name other agents with --impl-agent and --review-agent" in done.stderr
    )
    assert mission.run("resume", "--impl-agent", "one").returncode == 2

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        configure(mission, listening.getsockname()[1])
        argv = [sys.executable, "-m", "spec_kitty_orchestrator", "resume", "--impl-agent", "one"]
        env = environment(mission)
        with subprocess.Popen([*argv, "--review-agent", "one"], cwd=mission.root, env=env) as run:
            Program(run, listening).answer()  # type: ignore[arg-type]
            assert run.wait(LIMIT_S) == 0
    assert attempts(mission) == ["01-implement-mine", "02-implement-one", "03-review-one"]
    starts = [one for one in read_journal(mission) if one["line"] == "run"]
    assert [one["policy"]["families"]["mine"] for one in starts] == ["acme", "acme"]


async def fine(prompt: str, workspace: Path, role: Role) -> str:
    return "fine"


BOTH = {"impl_agents": "mine", "review_agents": "mine"}


@pytest.mark.parametrize(
    ("agents", "kind", "says"),
    [
        ({"codex": FunctionAgent(fine)}, UsageError, "codex is known already; give yours another name"),
        ({"m e": FunctionAgent(fine)}, UsageError, "'m e' must be a short name"),
        ({"mine": fine}, PreflightError, "mine is no agent of this version: it has no name"),
    ],
)
def test_what_can_be_no_agent_of_a_program_is_refused_in_a_line(
    project: Project, agents: dict[str, Any], kind: type[OrchestratorError], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        open_project(project.root, {}, {}, agents=agents)
    assert "\n" not in str(raised.value)


def test_a_program_can_give_the_module_of_a_command_line_under_a_name_of_its_own(project: Project) -> None:
    opened = open_project(project.root, {}, {**BOTH, "max_per_agent": "mine=1"}, agents={"mine": Scripted()})
    agents = build_agents(opened)
    assert (opened.policy.families["mine"], opened.policy.resuming) == ("scripted", ("mine",))
    assert agents.executable("mine") == sys.executable
    assert opened.changed(opened.recorded, {"max_per_agent": "mine=2"}).policy.max_per_agent == {"mine": 2}


def test_a_function_may_do_what_it_was_given_for_and_its_own_limit_of_time_holds(project: Project) -> None:
    agent = FunctionAgent(fine, roles={Role.IMPLEMENT}, timeout_s=5, family="gpt-yolo")
    opened = open_project(project.root, {}, {**BOTH, "max_cost": 3}, agents={"mine": agent})
    agents = build_agents(opened)
    told = [one.text for one in check_agents(opened, agents)]
    assert "agent mine is selected to review, but it can only implement; select another one for that" in told
    assert any("does not report its cost" in one for one in told)
    assert agents.agent("mine")[1].timeout_s == 5
    assert opened.policy.without_shell == ("mine",)


@pytest.mark.anyio
async def test_a_function_needs_no_program_on_this_machine(project: Project) -> None:
    opened = open_project(project.root, {}, BOTH, agents={"mine": FunctionAgent(fine)})
    found = (await find_installed(build_agents(opened), opened.agents))["mine"]
    assert [one.text for one in found.findings] == [
        f"agent mine: the function {__name__}:fine of this program"
    ]


def test_a_run_that_must_be_confined_takes_no_function(project: Project) -> None:
    settings = {**BOTH, "confine": "require"}
    found = check_confinement(open_project(project.root, {}, settings, agents={"mine": FunctionAgent(fine)}))
    assert found.text == "functions of a program cannot be confined (mine), and confine is require"


@pytest.mark.parametrize(("reviewer", "held"), [("codex", True), ("mine", False)])
def test_a_review_is_compared_as_one_that_nothing_confines_where_a_function_may_review(
    project: Project, reviewer: str, held: bool
) -> None:
    settings = {"impl_agents": "codex", "review_agents": reviewer}
    opened = open_project(project.root, {}, settings, agents={"mine": FunctionAgent(fine)})
    opened.__dict__["unconfined"] = ""
    assert build_workspaces(opened, SLUG, print)._confined is held
    kernel = "agents, gates and commit hooks are confined by the kernel"
    assert check_confinement(opened).text == (kernel if held else f"{kernel}, but not the functions mine")


def test_a_record_of_agents_that_nobody_wrote_so_is_passed_over(project: Project) -> None:
    told = {"program_agents": {"mine": 3, "codex": {"function": "x"}, "own": {"object": "a\x1b[2Jb"}}}
    opened = open_project(project.root, {}, {"impl_agents": "codex"}, told)
    assert [(name, one.address) for name, one in opened.away.items()] == [("own", "ab")]
    with pytest.raises(PreflightError, match="own is an object of ab of the program that began this run"):
        build_agents(opened).policy("own", Role.REVIEW)
    assert open_project(project.root, os.environ, {}, {"program_agents": 3}).away == {}
