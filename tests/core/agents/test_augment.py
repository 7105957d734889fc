"""Augment: its argv for each role, and what is made of transcripts of the real CLI."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "augment"
PLAIN = AgentSettings()
GOOD = {"type": "result", "result": "x", "is_error": False, "subtype": "success", "session_id": "s-1"}


def command(role: Role, settings: AgentSettings = PLAIN, session: str = "") -> AgentCommand:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return find("augment").command(task, settings)


def report(case: str, exit_code: int | None) -> AgentReport:
    stdout, stderr = DATA / f"{case}.stdout", DATA / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find("augment").report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


def told(stderr: str, exit_code: int = 1) -> AgentReport:
    return find("augment").report([], stderr, exit_code)


def ended(**changes: object) -> AgentReport:
    return find("augment").report([json.dumps(GOOD | changes)], "", 0)


def test_the_argv_of_an_implementer_is_the_one_that_works_on_the_real_cli() -> None:
    expected = "auggie --print --output-format json --show-cost --retry-timeout 30"
    assert command(Role.IMPLEMENT).argv == tuple(expected.split())


def test_a_reviewer_is_denied_each_tool_that_writes_or_runs_something() -> None:
    argv = command(Role.REVIEW).argv
    new = command(Role.IMPLEMENT).argv
    rules = argv[len(new) + 2 :]
    assert argv[: len(new)] == new
    assert argv[len(new) : -len(rules)] == ("--mcp-config", '{"mcpServers":{}}')
    assert rules[::2] == ("--permission",) * 8
    assert set(rules[1::2]) == {
        "save-file:deny",
        "str-replace-editor:deny",
        "apply_patch:deny",
        "remove-files:deny",
        "launch-process:deny",
        "write-process:deny",
        "kill-process:deny",
        "web-fetch:deny",
    }


@pytest.mark.parametrize("role", Role)
def test_model_and_arguments_of_the_settings_reach_the_cli(role: Role) -> None:
    settings = AgentSettings(executable="/bin/x", model="m", extra_args=("--retry-timeout", "90"))
    found = command(role, settings)
    assert found.argv[0] == "/bin/x"
    assert "--model m --retry-timeout 90" in " ".join(found.argv)
    assert found.argv.index("30") < found.argv.index("90")


@pytest.mark.parametrize("role", Role)
def test_a_session_is_resumed_with_the_permissions_of_a_new_one(role: Role) -> None:
    new, resumed = command(role).argv, command(role, session="s-1").argv
    assert "--resume s-1" in " ".join(resumed)
    assert [word for word in resumed if word in new] == list(new)


@pytest.mark.parametrize("case", ["success", "resumed", "404_model"])
def test_a_success_carries_text_and_session_after_whatever_notices(case: str) -> None:
    found = report(case, 0)
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    assert found.text.startswith("DONE: completed")
    assert len(found.session or "") == 36
    assert found.usage.cost_usd is None


def test_a_resumed_session_keeps_its_name() -> None:
    assert report("resumed", 0).session == report("success", 0).session


@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_the_text_of_a_review_ends_with_its_verdict(case: str, verdict: str) -> None:
    found = report(case, 0)
    assert found.outcome is Outcome.OK
    assert f'{{"verdict": "{verdict}"' in found.text
    assert found.text.endswith("```")


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 1, Outcome.AUTH, "HTTP error: 401 Unauthorized"),
        ("noauth", 1, Outcome.AUTH, "No auth provided"),
        ("404", 1, Outcome.INVALID_REQUEST, "404 Not Found"),
        ("429", 1, Outcome.RATE_LIMITED, "exceeding retry timeout of 10s: Rate limited"),
        ("503", 1, Outcome.OVERLOADED, "503"),
        ("resume_unknown", 1, Outcome.FAILED, "No session found"),
        ("empty_stdin", 1, Outcome.FAILED, "No instruction provided"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "unknown option"),
        ("maxturns", 0, Outcome.CRASHED, "no result"),
        ("sigterm", -15, Outcome.CRASHED, "exit code -15"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert "\x1b" not in found.detail
    assert (found.exit_code, found.text) == (exit_code, "")


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 1).session is None


@pytest.mark.parametrize(
    "changes",
    [
        {"is_error": True},
        {"is_error": None},
        {"is_error": 0},
        {"subtype": "error_max_turns"},
        {"subtype": "empty_completion"},
        {"result": " \n"},
        {"result": None},
    ],
)
def test_only_a_result_that_says_success_and_has_a_text_is_ok(changes: dict[str, object]) -> None:
    assert ended().outcome is Outcome.OK
    assert ended(**changes).outcome is Outcome.FAILED
    assert ended(**changes).text == ""


def test_a_failed_result_is_named_by_what_stderr_says_of_it() -> None:
    result = json.dumps(GOOD | {"is_error": True, "subtype": "error_during_execution"})
    found = find("augment").report([result], "\u274c API Error: HTTP error: 429 Too Many Requests", 1)
    assert (found.outcome, found.session) == (Outcome.RATE_LIMITED, "s-1")


def test_a_json_line_after_the_result_takes_it_back() -> None:
    found = find("augment").report([json.dumps(GOOD), '{"type": "started"}'], "", 0)
    assert found.outcome is Outcome.CRASHED


@pytest.mark.parametrize(
    ("billing", "cost_usd"),
    [
        ({"usage_unit": "usd", "total_cost": 0.25}, 0.25),
        ({"usage_unit": "credits", "total_cost": 40}, None),
        ({"usage_unit": "usd", "total_cost": -1}, None),
        ("usd", None),
    ],
)
def test_what_it_cost_is_told_where_the_account_is_billed_in_dollars(
    billing: object, cost_usd: float | None
) -> None:
    assert ended(billing=billing).usage.cost_usd == cost_usd


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        (
            "Agent execution failed: Request failed after exceeding retry timeout of 30s: Rate limited",
            "rate_limited",
        ),
        (
            "Agent execution failed: Request failed after exceeding retry timeout of 30s: unavailable: x",
            "overloaded",
        ),
        (
            "Agent execution failed: Request failed after exceeding retry timeout of 30s: unknown: y",
            "overloaded",
        ),
        ("Authentication failed: HTTP error: 503 Service Unavailable", "overloaded"),
        ("API Error: HTTP error: 413 Payload Too Large", "invalid_request"),
        ("API Error: HTTP error: 402 Payment Required", "budget"),
        ("Agent execution failed: something new", "failed"),
    ],
)
def test_a_failure_is_named_by_how_its_line_begins_or_by_its_status(words: str, outcome: str) -> None:
    assert told(f"\n\u274c {words}\n   \u23bf Request ID: 1\n").outcome.value == outcome


def test_a_warning_that_names_a_status_is_no_failure() -> None:
    warning = "Warning: Could not fetch tenant MCP server configurations: HTTP error: 404 Not Found"
    assert told(warning).outcome is Outcome.CRASHED
    assert find("augment").report([json.dumps(GOOD)], warning, 0).outcome is Outcome.OK
