"""How failures that no stored transcript shows are named, and when a limit ends."""

import json
from datetime import datetime

import pytest
from tests.core.agents.records import told

from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.codex import Codex
from spec_kitty_orchestrator.core.model import AgentReport, Outcome

Event = dict[str, object]

DAY_S = 86_400.0
NOW_S = 1_000_000.0

INIT: dict[str, Event] = {
    "gemini": {"type": "init", "session_id": "s"},
    "qwen": {"type": "system", "subtype": "init", "session_id": "s"},
}
WORKS: Event = {"type": "assistant", "parent_tool_use_id": None, "message": {}}
RETRY_OF_QWEN: Event = {"type": "system", "subtype": "retry", "data": {"attempt": 1, "delayMs": 60_000}}
RETRY_OF_CLAUDE: Event = {
    "type": "system",
    "subtype": "api_retry",
    "error_status": 429,
    "error": "rate_limit",
}
SAID_BY_GEMINI: Event = {"type": "message", "role": "assistant", "content": "all is well", "delta": True}
TOOL_OF_GEMINI: Event = {"type": "tool_use", "tool_name": "run_shell_command"}
TOOL_DONE: Event = {"type": "tool_result", "status": "success"}
ASKED: Event = {"type": "message", "role": "user", "content": "do it"}
AGAIN = {
    "gemini": "Attempt 2 failed with status 429. Retrying with backoff... _ApiError: {}\n",
    "qwen": "Retrying in 60s (attempt 1/10): [API Error: 429 Slow down. Please try again in 1.5s.]\n",
}
GIVEN_UP = "Agent execution failed: Request failed after exceeding retry timeout of 30s"


def failed(agent: str, words: str, kind: str = "unknown") -> AgentReport:
    """Return what is made of an error that the CLI tells at its end."""
    events: dict[str, Event] = {
        "codex": {"type": "turn.failed", "error": {"message": words}},
        "copilot": {"type": "session.error", "data": {"errorType": kind, "message": words}},
        "gemini": {"type": "result", "status": "error", "error": {"type": kind, "message": words}},
        "qwen": {"type": "result", "is_error": True, "error": {"message": words}},
    }
    if agent in ("augment", "cursor"):
        return told(agent, stderr=words, exit_code=1)
    return told(agent, events[agent], exit_code=1)


@pytest.mark.parametrize(
    ("agent", "words", "outcome"),
    [
        ("augment", f"{GIVEN_UP}: Rate limited", "rate_limited"),
        ("augment", f"{GIVEN_UP}: unavailable: x", "overloaded"),
        ("augment", f"{GIVEN_UP}: unknown: y", "overloaded"),
        ("augment", "Authentication failed: HTTP error: 503 Service Unavailable", "overloaded"),
        ("augment", "API Error: HTTP error: 413 Payload Too Large", "invalid_request"),
        ("augment", "API Error: HTTP error: 402 Payment Required", "budget"),
        ("augment", "Agent execution failed: something new", "failed"),
        ("codex", "command printed: Quota exceeded", "failed"),
        ("cursor", "Error: ConnectError: [unauthenticated] Error", "auth"),
        ("cursor", "ConnectError: [permission_denied] Error", "auth"),
        ("cursor", "Error: Not authenticated", "auth"),
        ("qwen", "the tests say [API Error: 401 no]", "failed"),
        ("qwen", "[API Error: 4290 no]", "failed"),
        ("qwen", "[API Error: 529 no]", "overloaded"),
        ("qwen", "[API Error: Request timed out.]", "overloaded"),
        ("qwen", "Missing API key for OpenAI-compatible auth.", "auth"),
        ("qwen", "Loop detected.", "failed"),
    ],
)
def test_an_error_is_known_by_how_its_message_begins(agent: str, words: str, outcome: str) -> None:
    shown = f"\n\u274c {words}\n   \u23bf Request ID: 1\n" if agent == "augment" else words
    assert failed(agent, shown).outcome.value == outcome


@pytest.mark.parametrize(
    ("agent", "kind", "outcome"),
    [
        ("copilot", "authorization", Outcome.AUTH),
        ("copilot", "quota", Outcome.BUDGET),
        ("copilot", "rate_limit", Outcome.RATE_LIMITED),
        ("copilot", "context_limit", Outcome.INVALID_REQUEST),
        ("copilot", "policy", Outcome.FAILED),
        ("gemini", "FatalAuthenticationError", Outcome.AUTH),
        ("gemini", "FatalTurnLimitedError", Outcome.FAILED),
        ("gemini", "FatalConfigError", Outcome.INVALID_REQUEST),
        ("gemini", "RetryableQuotaError", Outcome.RATE_LIMITED),
    ],
)
def test_an_error_with_a_name_is_known_by_it(agent: str, kind: str, outcome: Outcome) -> None:
    assert failed(agent, "because", kind).outcome is outcome


@pytest.mark.parametrize(
    ("agent", "words", "seconds"),
    [
        ("codex", "You've hit your usage limit. Try again in 4 hours 5 minutes.", 4 * 3600 + 5 * 60.0),
        ("codex", "You\u2019ve hit your usage limit. Upgrade, or try again in 2 days 1 hour.", 49 * 3600.0),
        ("codex", "Rate limit reached for gpt-5. Please try again in 1.5s.", 1.5),
        ("codex", "Rate limit reached for gpt-5. Please try again in 250ms.", 0.25),
        ("codex", "You've hit your usage limit. Try again later.", None),
        ("codex", "You've hit your usage limit. Try again at 13:75 PM.", None),
        ("codex", "You've hit your usage limit. Try again at Foo 1st, 2030 3:15 PM.", None),
        ("codex", f"You've hit your usage limit. Try again in {'9' * 400} days.", 8 * DAY_S),
        ("qwen", "[API Error: 429 Slow down. Please try again in 20s.]", 20.0),
        ("qwen", "[API Error: 429 Slow down. Please try again in 250ms.]", 0.25),
        ("qwen", "[API Error: 429 Slow down. Please try again in 1.2.3s.]", None),
        ("qwen", "[API Error: 429 Slow down. Please try again in 999999999999s.]", 8 * DAY_S),
        ("qwen", "[API Error: Quota exhausted: it will reset at noon.]", None),
    ],
)
def test_the_end_of_a_limit_is_read_from_the_error_and_stays_sensible(
    agent: str, words: str, seconds: float | None
) -> None:
    found = failed(agent, words)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, seconds)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Slow down.\nSuggested retry after 90s.", 90.0),
        ("Slow down. Please retry in 1500ms.", 1.5),
        ("Slow down. Please retry in 1.2.3s.", None),
        ("Please retry in 999999999999s.", 8 * DAY_S),
    ],
)
def test_the_end_of_geminis_limit_is_read_beside_the_status_in_its_exit_code(
    words: str, seconds: float | None
) -> None:
    error = {"type": "unknown", "message": f"[API Error: {words}]"}
    found = told("gemini", {"type": "result", "status": "error", "error": error}, exit_code=429 % 256)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, seconds)


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        ("3:15 PM", 15),
        ("12:10 AM", None),
        ("Mar 5th, 2030 3:05 PM", 5),
        ("Mar 6th, 2030 12:00 AM", 9 * 60),
        ("Apr 1st, 2030 3:00 PM", 8 * 24 * 60),
    ],
)
def test_codex_tells_the_end_of_a_limit_by_the_clock_here(words: str, minutes: int | None) -> None:
    here = datetime(2030, 3, 5, 15, 0).timestamp()  # noqa: DTZ001 - the time of day here is meant
    message = f"You've hit your usage limit. Upgrade to Pro or try again at {words}."
    line = json.dumps({"type": "turn.failed", "error": {"message": message}})
    found = Codex(now=lambda: here).report([line], "", 1).retry_after_s
    # The CLI leaves the seconds out, so a minute is added; a limit that is over has ended now.
    assert found == (0.0 if minutes is None else min(minutes * 60.0 + 60.0, 8 * DAY_S))


REJECTED: Event = {"status": "rejected", "resetsAt": NOW_S + 90}


@pytest.mark.parametrize(
    ("infos", "expected_s"),
    [
        ([REJECTED], 90.0),
        ([REJECTED | {"resetsAt": NOW_S - 5}], 0.0),
        ([REJECTED | {"resetsAt": 1e30}], 8 * DAY_S),
        *(([REJECTED | {"resetsAt": unclear}], None) for unclear in ("soon", None, True)),
        # An allowance takes the rejection back.
        ([REJECTED, {"status": "allowed"}], None),
    ],
)
def test_the_limit_of_a_claude_plan_ends_when_the_cli_says(
    infos: list[Event], expected_s: float | None
) -> None:
    events: list[Event] = [{"type": "rate_limit_event", "rate_limit_info": info} for info in infos]
    events += [
        {"type": "assistant", "error": "rate_limit", "parent_tool_use_id": None},
        {
            "type": "result",
            "subtype": "success",
            "is_error": True,
            "api_error_status": 429,
            "result": "limit",
        },
    ]
    found = ClaudeCode(now=lambda: NOW_S).report([json.dumps(one) for one in events], "", 1)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, expected_s)


LOGGED_BY_OPENCODE = (
    'timestamp=2026-11-22T21:15:14.198Z level=ERROR message="stream error" error="AI_APICallError: x"'
)


@pytest.mark.parametrize(
    ("agent", "events", "later", "stderr", "while_retrying"),
    [
        ("claude-code", [RETRY_OF_CLAUDE], [WORKS], "", Outcome.RATE_LIMITED),
        (
            "codex",
            [
                {"type": "turn.started"},
                {
                    "type": "error",
                    "message": "Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many)",
                },
            ],
            [{"type": "item.started", "item": {"type": "command_execution"}}],
            "",
            Outcome.RATE_LIMITED,
        ),
        (
            "opencode",
            [],
            [{"type": "tool_use", "timestamp": 1795382144198, "sessionID": "s"}],
            LOGGED_BY_OPENCODE,
            Outcome.OVERLOADED,
        ),
        ("gemini", [INIT["gemini"]], [TOOL_OF_GEMINI], AGAIN["gemini"], Outcome.RATE_LIMITED),
        ("gemini", [INIT["gemini"], ASKED], [SAID_BY_GEMINI], AGAIN["gemini"], Outcome.RATE_LIMITED),
        (
            "gemini",
            [INIT["gemini"], ASKED],
            [TOOL_OF_GEMINI, TOOL_DONE],
            AGAIN["gemini"],
            Outcome.RATE_LIMITED,
        ),
        (
            "gemini",
            [INIT["gemini"], ASKED],
            [SAID_BY_GEMINI, TOOL_OF_GEMINI, TOOL_DONE],
            AGAIN["gemini"],
            Outcome.RATE_LIMITED,
        ),
        ("qwen", [INIT["qwen"], RETRY_OF_QWEN], [WORKS], AGAIN["qwen"], Outcome.RATE_LIMITED),
        ("qwen", [INIT["qwen"], RETRY_OF_QWEN], [WORKS], "", Outcome.OVERLOADED),
    ],
)
@pytest.mark.parametrize("exit_code", [0, -9])
def test_a_retry_that_worked_says_nothing_of_a_later_death(
    agent: str,
    events: list[Event],
    later: list[Event],
    stderr: str,
    while_retrying: Outcome,
    exit_code: int,
) -> None:
    assert told(agent, *events, stderr=stderr, exit_code=exit_code).outcome is while_retrying
    found = told(agent, *events, *later, stderr=stderr, exit_code=exit_code)
    assert (found.outcome, found.retry_after_s) == (Outcome.CRASHED, None)


def test_what_was_tried_again_when_it_was_ended_is_told_as_such() -> None:
    found = told("qwen", INIT["qwen"], RETRY_OF_QWEN, stderr=AGAIN["qwen"], exit_code=-9)
    assert found.retry_after_s == 1.5
    lost = "Attempt 1 failed. Retrying with backoff... Error: fetch failed\n"
    found = told("gemini", INIT["gemini"], stderr=lost, exit_code=1)
    assert found.outcome is Outcome.OVERLOADED
    assert found.detail == "it was trying again after a request that ended without an answer"


@pytest.mark.parametrize(
    ("agent", "exit_code", "outcome"),
    [
        ("gemini", 41, Outcome.CRASHED),  # A refused login is known by its words.
        *(("gemini", code, Outcome.INVALID_REQUEST) for code in (42, 52, 55)),
        *(("qwen", code, Outcome.INVALID_REQUEST) for code in (42, 52)),
    ],
)
def test_a_code_of_a_refusal_means_nothing_once_it_has_begun(
    agent: str, exit_code: int, outcome: Outcome
) -> None:
    assert told(agent, stderr="no\n", exit_code=exit_code).outcome is outcome
    assert told(agent, INIT[agent], stderr="no\n", exit_code=exit_code).outcome is Outcome.CRASHED


GOOD: Event = {"type": "result", "result": "x", "is_error": False, "subtype": "success", "session_id": "s-1"}
NOT_FOUND = "HTTP error: 404 Not Found"


def test_a_status_on_stderr_counts_only_for_an_error_that_was_told() -> None:
    logged = "ModelNotFoundError: nope {\n  code: 404\n}\n"
    failure: Event = {"type": "result", "status": "error"}
    named: Event = failure | {"error": {"type": "unknown", "message": "nope"}}
    good: Event = {"type": "result", "status": "success"}
    assert told("gemini", named, stderr=logged, exit_code=1).outcome is Outcome.INVALID_REQUEST
    assert told("gemini", failure, stderr=logged, exit_code=1).outcome is Outcome.FAILED
    assert told("gemini", SAID_BY_GEMINI, good, stderr=logged, exit_code=1).outcome is Outcome.OK
    warning = f"Warning: Could not fetch tenant MCP server configurations: {NOT_FOUND}"
    assert told("augment", stderr=warning, exit_code=1).outcome is Outcome.CRASHED
    assert told("augment", GOOD, stderr=warning).outcome is Outcome.OK
    wrong = GOOD | {"is_error": True, "subtype": "error_during_execution"}
    found = told("augment", wrong, stderr="\u274c API Error: HTTP error: 429 Too Many Requests", exit_code=1)
    assert (found.outcome, found.session) == (Outcome.RATE_LIMITED, "s-1")


def test_what_a_model_says_or_is_asked_beside_the_work_is_no_failure_of_the_api() -> None:
    said = json.dumps({"type": "assistant", "text": "ConnectError: [resource_exhausted]"})
    assert told("cursor", stderr=f"{said}\n  {said}\n", exit_code=-9).outcome is Outcome.CRASHED
    title = (
        'timestamp=2026-11-22T21:15:17.477Z level=ERROR message="stream error" small=true agent=title '
        'error.error="AI_RetryError: Failed after 3 attempts."'
    )
    assert told("opencode", stderr=title, exit_code=-9).outcome is Outcome.CRASHED


def test_opencode_out_of_credit_is_told_from_a_rate_limit() -> None:
    body = json.dumps({"error": {"code": "insufficient_quota"}})
    error = {"name": "APIError", "data": {"statusCode": 429, "message": "no credit", "responseBody": body}}
    assert told("opencode", {"type": "error", "error": error}, exit_code=1).outcome is Outcome.BUDGET


def test_an_error_that_opencode_tells_as_a_plain_string_is_kept() -> None:
    found = told("opencode", {"type": "error", "error": "permission rejected"}, exit_code=1)
    assert (found.outcome, found.detail) == (Outcome.FAILED, "permission rejected")
