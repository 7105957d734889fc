"""What a stand-in for `cursor-agent`, made from what its vendor documents, does with our arguments."""

import subprocess
import sys
from pathlib import Path

from tests.core.agents.records import command

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

STAND_IN = Path(__file__).parent / "cursor_stand_in.py"
RUN_S = 60


def run_stand_in(folder: Path, role: Role, prompt: str, session: str = "") -> AgentReport:
    done = subprocess.run(
        [sys.executable, str(STAND_IN), *command("cursor", role, session=session).argv[1:]],
        cwd=folder,
        input=prompt,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    return find("cursor").report(done.stdout.splitlines(keepends=True), done.stderr, done.returncode)


def test_the_stand_in_takes_our_arguments_and_a_long_prompt_on_standard_input(tmp_path: Path) -> None:
    found = run_stand_in(tmp_path, Role.IMPLEMENT, "x" * 200_000)
    assert (found.outcome, found.text) == (Outcome.OK, "DONE: read 200000 characters.")
    assert (tmp_path / "a.txt").exists()


def test_the_stand_in_keeps_a_reviewer_from_writing_and_a_session_its_name(tmp_path: Path) -> None:
    found = run_stand_in(tmp_path, Role.REVIEW, "x", session="s-1")
    assert (found.outcome, found.session) == (Outcome.OK, "s-1")
    assert not (tmp_path / "a.txt").exists()
