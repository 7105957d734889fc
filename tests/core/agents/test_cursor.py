"""Cursor: its argv for each role, and what is made of events as its vendor documents them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "cursor"
STAND_IN = Path(__file__).parent / "cursor_stand_in.py"
PLAIN = AgentSettings()
RUN_S = 60


def command(role: Role, settings: AgentSettings = PLAIN, session: str = "") -> AgentCommand:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return find("cursor").command(task, settings)


def report(case: str, exit_code: int | None) -> AgentReport:
    stdout, stderr = DATA / f"{case}.stdout", DATA / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find("cursor").report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


def run_stand_in(folder: Path, role: Role, prompt: str, session: str = "") -> AgentReport:
    argv = command(role, session=session).argv
    done = subprocess.run(
        [sys.executable, str(STAND_IN), *argv[1:]],
        cwd=folder,
        input=prompt,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    return find("cursor").report(done.stdout.splitlines(keepends=True), done.stderr, done.returncode)


@pytest.mark.parametrize(
    ("role", "argv"),
    [
        (Role.IMPLEMENT, "cursor-agent -p --output-format stream-json --trust --sandbox enabled"),
        (Role.REVIEW, "cursor-agent -p --output-format stream-json --trust --sandbox enabled --mode ask"),
    ],
)
def test_the_argv_is_the_documented_one_without_force(role: Role, argv: str) -> None:
    assert command(role).argv == tuple(argv.split())


@pytest.mark.parametrize("role", Role)
def test_model_and_arguments_of_the_settings_reach_the_cli(role: Role) -> None:
    settings = AgentSettings(executable="/bin/x", model="m", extra_args=("--sandbox", "disabled"))
    found = command(role, settings)
    assert found.argv[0] == "/bin/x"
    assert "--model m --sandbox disabled" in " ".join(found.argv)


def test_nothing_after_the_settings_but_a_reviewers_mode_so_that_none_can_undo_it() -> None:
    found = command(Role.REVIEW, AgentSettings(extra_args=("--mode", "agent")))
    assert found.argv[-4:] == ("--mode", "agent", "--mode", "ask")


@pytest.mark.parametrize("role", Role)
def test_a_session_is_resumed_with_the_permissions_of_a_new_one(role: Role) -> None:
    new, resumed = command(role).argv, command(role, session="s-1").argv
    assert "--resume s-1" in " ".join(resumed)
    assert [word for word in resumed if word in new] == list(new)


def test_the_stand_in_takes_our_arguments_and_a_long_prompt_on_standard_input(tmp_path: Path) -> None:
    found = run_stand_in(tmp_path, Role.IMPLEMENT, "x" * 200_000)
    assert (found.outcome, found.text) == (Outcome.OK, "DONE: read 200000 characters.")
    assert (tmp_path / "a.txt").exists()


def test_the_stand_in_keeps_a_reviewer_from_writing_and_a_session_its_name(tmp_path: Path) -> None:
    found = run_stand_in(tmp_path, Role.REVIEW, "x", session="s-1")
    assert (found.outcome, found.session) == (Outcome.OK, "s-1")
    assert not (tmp_path / "a.txt").exists()


def test_a_success_carries_the_last_text_the_session_and_its_tokens() -> None:
    found = report("success", 0)
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    assert found.text == "DONE: a.txt is written."
    assert found.session == "6a1f0c1e-5b2d-4f7a-9a53-0c8e6f0d7b11"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (13112 + 7808, 28)
    assert found.usage.cost_usd is None


def test_a_refused_tool_does_not_end_the_run() -> None:
    assert report("refused_tool", 0).text == "I could not run the command."


@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_a_verdict_is_read_from_the_last_text_and_not_from_what_was_said_before_a_tool(
    case: str, verdict: str
) -> None:
    found = report(case, 0)
    assert found.outcome is Outcome.OK
    assert found.text.startswith("Review finished.")
    assert found.text.count('"verdict"') == 1
    assert f'{{"verdict": "{verdict}"' in found.text


@pytest.mark.parametrize(
    ("case", "outcome", "detail"),
    [
        ("noauth", Outcome.AUTH, "Authentication required"),
        ("untrusted", Outcome.INVALID_REQUEST, "Workspace Trust Required"),
        ("named_model", Outcome.INVALID_REQUEST, "Named models unavailable"),
        ("usage", Outcome.BUDGET, "out of usage"),
        ("exhausted", Outcome.RATE_LIMITED, "resource_exhausted"),
        ("unavailable", Outcome.OVERLOADED, "ENOTFOUND"),
        ("wrong_usage", Outcome.INVALID_REQUEST, "unknown option"),
    ],
)
def test_a_failure_is_named_by_how_stderr_begins_and_told_in_its_words(
    case: str, outcome: Outcome, detail: str
) -> None:
    found = report(case, 1)
    assert found.outcome is outcome
    assert detail in found.detail
    assert (found.exit_code, found.text) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        "Error: ConnectError: [unauthenticated] Error",
        "ConnectError: [permission_denied] Error",
        "Error: Not authenticated",
    ],
)
def test_a_refused_login_is_told_in_several_ways(words: str) -> None:
    assert find("cursor").report([], words, 1).outcome is Outcome.AUTH


def test_a_run_without_a_result_has_crashed() -> None:
    lines = (DATA / "success.stdout").read_text().splitlines(keepends=True)[:-1]
    found = find("cursor").report(lines, "", -15)
    assert (found.outcome, found.detail) == (Outcome.CRASHED, "it ended with 'no result'; exit code -15")
    assert found.session


def test_an_event_after_the_result_takes_it_back() -> None:
    lines = (DATA / "success.stdout").read_text().splitlines(keepends=True)
    more = json.dumps({"type": "tool_call", "subtype": "started"})
    assert find("cursor").report([*lines, more], "", 0).outcome is Outcome.CRASHED


@pytest.mark.parametrize(
    "changes", [{"is_error": True}, {"is_error": None}, {"subtype": "error"}, {"result": "", "subtype": None}]
)
def test_only_a_result_that_says_success_is_ok(changes: dict[str, object]) -> None:
    good = {"type": "result", "subtype": "success", "is_error": False, "result": "x"}
    assert find("cursor").report([json.dumps(good)], "", 0).outcome is Outcome.OK
    assert find("cursor").report([json.dumps(good | changes)], "", 0).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "after",
    [
        [{"type": "tool_call", "subtype": "started"}],
        [{"type": "tool_call", "subtype": "completed"}, {"type": "assistant", "message": {"content": []}}],
        [{"type": "assistant", "message": {"content": [{"type": "text", "text": ""}]}}],
    ],
)
def test_a_result_does_not_bring_back_what_was_said_before_a_tool(after: list[object]) -> None:
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "VERDICT"}]}}
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "VERDICT"}
    found = find("cursor").report([json.dumps(one) for one in (said, *after, result)], "", 0)
    assert (found.outcome, found.text) == (Outcome.FAILED, "")


def test_a_result_stands_for_a_stream_in_which_nothing_was_said() -> None:
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "VERDICT"}
    called = {"type": "tool_call", "subtype": "completed"}
    found = find("cursor").report([json.dumps(one) for one in (called, result)], "", 0)
    assert (found.outcome, found.text) == (Outcome.OK, "VERDICT")


def test_what_a_model_says_on_stderr_is_no_failure_of_the_api() -> None:
    said = json.dumps({"type": "assistant", "text": "ConnectError: [resource_exhausted]"})
    assert find("cursor").report([], f"{said}\n  {said}\n", -9).outcome is Outcome.CRASHED
