"""Copilot's argv, and what its module makes of transcripts of the real CLI."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents.copilot import Copilot
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "copilot"
SPENT = json.dumps(
    {
        "totalPremiumRequestCost": 2,
        "modelMetrics": {
            "m-1": {"usage": {"inputTokens": 3600, "outputTokens": 102, "cacheReadTokens": 150}},
            "m-2": {"usage": {"inputTokens": 400, "outputTokens": 8}},
        },
    }
)
"""What it writes into the file of its usage, on one line."""


def lines_of(case: str) -> list[str]:
    stdout = DATA / f"{case}.stdout"
    return stdout.read_text().splitlines(keepends=True) if stdout.exists() else []


def report(case: str, exit_code: int | None = 0) -> AgentReport:
    stderr = DATA / f"{case}.stderr"
    return Copilot().report(lines_of(case), stderr.read_text() if stderr.exists() else "", exit_code)


def argv(role: Role, session: str = "", settings: AgentSettings | None = None) -> tuple[str, ...]:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return Copilot().command(task, settings or AgentSettings()).argv


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role.IMPLEMENT, "--allow-tool=write --allow-tool=shell"),
        (Role.REVIEW, "--available-tools=view,grep,glob --deny-tool=write --deny-tool=shell"),
    ],
)
def test_a_role_gets_the_tools_that_it_needs_and_tells_its_usage_in_the_attempts_folder(
    role: Role, words: str
) -> None:
    expected = (
        f"copilot {words} --no-ask-user --no-auto-update --output-format=json"
        " --usage-output-file=/attempt/usage.json"
    )
    assert " ".join(argv(role)) == expected


def test_a_variable_that_would_allow_every_tool_is_turned_off() -> None:
    for role in Role:
        task = Assignment(role, Path("/wt"), "a1", Path("/attempt"))
        assert Copilot().command(task, AgentSettings()).env == {"COPILOT_ALLOW_ALL": "false"}


def test_a_session_and_a_model_are_one_word_each_so_that_nothing_swallows_them() -> None:
    found = argv(Role.IMPLEMENT, "s-1", AgentSettings(model="m-1", extra_args=("--add-dir=/x",)))
    assert found[-3:] == ("--resume=s-1", "--model=m-1", "--add-dir=/x")


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 1, Outcome.AUTH, "Authentication failed with provider"),
        ("404_model", 1, Outcome.INVALID_REQUEST, "Model 'mock-model' not found"),
        ("400ctx", 1, Outcome.INVALID_REQUEST, "too long"),
        ("429", 1, Outcome.RATE_LIMITED, "Last error: 429 Rate limit reached"),
        ("quota", 1, Outcome.BUDGET, "exceeded your current quota"),
        ("503", 1, Outcome.OVERLOADED, "503"),
        ("drop", 1, Outcome.OVERLOADED, "missing finish_reason"),
        ("reset", 1, Outcome.OVERLOADED, "Connection reset by peer"),
        ("hang", -9, Outcome.CRASHED, "exit code -9"),
        ("sigterm", -15, Outcome.CRASHED, "exit code -15"),
        ("sigterm_group", -15, Outcome.CRASHED, "it was interrupted"),
        ("noauth", 1, Outcome.AUTH, "No authentication information found"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "unexpected argument"),
        ("resume_unknown", 1, Outcome.FAILED, "No session, task, or name matched"),
        ("empty_stdin", 1, Outcome.CRASHED, "No prompt provided"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert found.text == ""
    assert found.retry_after_s is None


@pytest.mark.parametrize("exit_code", [0, 1, -15, None])
def test_a_success_carries_text_and_session_whatever_the_exit_code(exit_code: int | None) -> None:
    found = report("success", exit_code)
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    assert found.text.startswith("DONE: completed 2 step(s).")
    assert found.session == "8c31dc1f-2720-40ac-8b36-32671e926cb4"


@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_the_text_of_a_review_ends_with_its_verdict(case: str, verdict: str) -> None:
    found = report(case)
    assert found.outcome is Outcome.OK
    assert f'{{"verdict": "{verdict}"' in found.text
    assert found.text.endswith("```")


def test_what_it_used_is_read_from_the_line_that_follows_its_output() -> None:
    found = Copilot().report([*lines_of("success"), SPENT], "", 0)
    assert found.outcome is Outcome.OK
    assert (found.usage.input_tokens, found.usage.output_tokens) == (4000, 110)
    assert found.usage.cost_usd is None
    assert found.usage_is_cumulative


def test_the_line_of_its_usage_alone_is_no_success() -> None:
    assert Copilot().report([SPENT], "", 0).outcome is Outcome.CRASHED


def test_a_resumed_session_keeps_its_id() -> None:
    assert report("resumed").session == report("first").session == "d49e6203-43ea-4beb-b850-d02f7382954e"


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 1).session is None


def cut_after(case: str, words: str) -> AgentReport:
    """Read a transcript as it was when the first line with these words had just been written."""
    lines = lines_of(case)
    last = next(number for number, line in enumerate(lines) if words in line)
    return Copilot().report(lines[: last + 1], "", -15)


@pytest.mark.parametrize(
    ("case", "words", "outcome"),
    [
        ("429", '"retryAttempt":1', Outcome.RATE_LIMITED),
        ("quota", '"retryAttempt":0', Outcome.BUDGET),
        ("503", '"retryAttempt":2', Outcome.OVERLOADED),
        ("reset", '"retryAttempt":0', Outcome.OVERLOADED),
        ("drop", '"type":"tool.execution_start"', Outcome.CRASHED),
        ("429", '"session.error"', Outcome.RATE_LIMITED),
    ],
)
def test_a_cli_that_is_ended_while_it_tries_again_is_named_by_what_it_tries_again(
    case: str, words: str, outcome: Outcome
) -> None:
    assert cut_after(case, words).outcome is outcome


def events(*told: dict[str, object]) -> list[str]:
    return [json.dumps(one) for one in told]


RESULT: dict[str, object] = {"type": "result", "sessionId": "s-1", "exitCode": 0}


@pytest.mark.parametrize(
    "last",
    [
        {"type": "result", "sessionId": "s-1", "exitCode": 1},
        {"type": "result", "sessionId": "s-1"},
        {"type": "result", "sessionId": "s-1", "exitCode": False},
        {"type": "result", "sessionId": "s-1", "exitCode": "0"},
    ],
)
def test_only_a_result_that_tells_zero_is_a_success(last: dict[str, object]) -> None:
    assert Copilot().report(events(RESULT), "", 0).outcome is Outcome.OK
    assert Copilot().report(events(last), "", 0).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "later",
    [
        {"type": "assistant.turn_start", "data": {}},
        {"type": "assistant.message", "data": {"content": "wait"}},
        {"type": "session.error", "data": {"errorType": "query"}},
        {"type": "assistant.idle", "data": {"aborted": True}},
        {"type": "abort", "data": {}},
    ],
)
def test_a_result_is_none_if_the_turn_went_on_or_was_interrupted(later: dict[str, object]) -> None:
    assert Copilot().report(events(RESULT, later), "", 0).outcome is not Outcome.OK


@pytest.mark.parametrize("mark", [{"agentId": "sub"}, {"data": {"parentToolCallId": "c", "content": "sub"}}])
def test_what_an_agent_of_its_own_says_is_not_its_answer(mark: dict[str, object]) -> None:
    told = {"type": "assistant.message", "data": {"content": "sub"}} | mark
    answer: dict[str, object] = {"type": "assistant.message", "data": {"content": "mine"}}
    assert Copilot().report(events(answer, told, RESULT), "", 0).text == "mine"


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("authorization", Outcome.AUTH),
        ("quota", Outcome.BUDGET),
        ("rate_limit", Outcome.RATE_LIMITED),
        ("context_limit", Outcome.INVALID_REQUEST),
        ("policy", Outcome.FAILED),
    ],
)
def test_an_error_without_a_status_is_named_by_its_kind(kind: str, outcome: Outcome) -> None:
    error: dict[str, object] = {"type": "session.error", "data": {"errorType": kind, "message": "no"}}
    assert Copilot().report(events(error, RESULT), "", 1).outcome is outcome


def test_an_error_that_an_answer_followed_was_recovered_from() -> None:
    error: dict[str, object] = {"type": "session.error", "data": {"errorType": "query", "message": "no"}}
    said: dict[str, object] = {"type": "assistant.message", "data": {"content": "fin"}}
    found = Copilot().report(events(error, said, RESULT), "", 0)
    assert (found.outcome, found.text, found.detail) == (Outcome.OK, "fin", "")
    assert Copilot().report(events(said, error, RESULT), "", 0).outcome is Outcome.FAILED
