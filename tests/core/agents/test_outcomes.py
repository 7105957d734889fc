"""Outcomes that no stored transcript shows: limits of plans, and events in an unusual order."""

import json
from datetime import datetime

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.codex import Codex
from spec_kitty_orchestrator.core.model import AgentReport, Outcome

DAY_S = 86_400.0
NOW_S = 1_000_000.0


def report(agent: str, *events: object, stderr: str = "", exit_code: int | None = 1) -> AgentReport:
    return find(agent).report([json.dumps(one) + "\n" for one in events], stderr, exit_code)


def claude_limited(resets_at: object) -> AgentReport:
    events = (
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": resets_at}},
        {"type": "assistant", "error": "rate_limit", "parent_tool_use_id": None},
        {
            "type": "result",
            "subtype": "success",
            "is_error": True,
            "api_error_status": 429,
            "result": "limit",
        },
    )
    return ClaudeCode(now=lambda: NOW_S).report([json.dumps(one) for one in events], "", 1)


def codex_failed(message: str) -> AgentReport:
    return report("codex", {"type": "turn.failed", "error": {"message": message}})


@pytest.mark.parametrize(
    ("resets_at", "expected_s"),
    [(NOW_S + 90, 90.0), (NOW_S - 5, 0.0), (1e30, 8 * DAY_S), ("soon", None), (None, None), (True, None)],
)
def test_the_limit_of_a_claude_plan_ends_when_the_cli_says(
    resets_at: object, expected_s: float | None
) -> None:
    found = claude_limited(resets_at)
    assert found.outcome is Outcome.RATE_LIMITED
    assert found.retry_after_s == expected_s


def test_claude_that_goes_on_after_a_result_and_dies_has_crashed() -> None:
    found = report(
        "claude-code",
        {"type": "result", "is_error": False, "result": "half"},
        {"type": "assistant", "parent_tool_use_id": None, "message": {}},
    )
    assert found.outcome is Outcome.CRASHED


def test_a_late_word_of_a_claude_subagent_does_not_undo_the_result() -> None:
    found = report(
        "claude-code",
        {"type": "result", "is_error": False, "result": "all"},
        {"type": "assistant", "parent_tool_use_id": "toolu_1", "message": {}},
    )
    assert (found.outcome, found.text) == (Outcome.OK, "all")


@pytest.mark.parametrize("is_error", [None, "false", 0, True])
def test_claude_is_ok_only_if_is_error_is_false(is_error: object) -> None:
    found = report(
        "claude-code", {"type": "result", "subtype": "success", "is_error": is_error, "result": "x"}
    )
    assert found.outcome is Outcome.FAILED


def test_prose_about_an_error_does_not_make_a_finished_run_fail() -> None:
    prose = "The test expects: API Error 429, rate limit, authentication_failed, Quota exceeded."
    assert report("claude-code", {"type": "result", "is_error": False, "result": prose}).outcome is Outcome.OK
    codex = report(
        "codex",
        {"type": "item.completed", "item": {"type": "agent_message", "text": prose}},
        {"type": "turn.completed"},
    )
    assert codex.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("message", "retry_after_s"),
    [
        ("You've hit your usage limit. Try again in 4 hours 5 minutes.", 4 * 3600 + 5 * 60.0),
        ("You\u2019ve hit your usage limit. Upgrade, or try again in 2 days 1 hour.", 49 * 3600.0),
        ("Rate limit reached for gpt-5. Please try again in 1.5s.", 1.5),
        ("Rate limit reached for gpt-5. Please try again in 250ms.", 0.25),
        ("You've hit your usage limit. Try again later.", None),
        ("You've hit your usage limit. Try again at 13:75 PM.", None),
        ("You've hit your usage limit. Try again at Foo 1st, 2030 3:15 PM.", None),
        (f"You've hit your usage limit. Try again in {'9' * 400} days.", 8 * DAY_S),
    ],
)
def test_the_limit_of_a_codex_plan_ends_when_the_cli_says(message: str, retry_after_s: float | None) -> None:
    found = codex_failed(message)
    assert found.outcome is Outcome.RATE_LIMITED
    assert found.retry_after_s == retry_after_s


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
    failed = json.dumps({"type": "turn.failed", "error": {"message": message}})
    found = Codex(now=lambda: here).report([failed], "", 1).retry_after_s
    # The CLI leaves the seconds out, so a minute is added; a limit that is over has ended now.
    longest = 8 * DAY_S
    assert found == (0.0 if minutes is None else min(minutes * 60.0 + 60.0, longest))


def test_an_allowance_after_a_rejection_of_a_claude_plan_takes_the_reset_back() -> None:
    found = ClaudeCode(now=lambda: NOW_S).report(
        [
            json.dumps({"type": "rate_limit_event", "rate_limit_info": info})
            for info in ({"status": "rejected", "resetsAt": NOW_S + 90}, {"status": "allowed"})
        ]
        + [json.dumps({"type": "result", "is_error": True, "api_error_status": 429})],
        "",
        1,
    )
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, None)


def test_a_retry_that_worked_says_nothing_of_a_later_death() -> None:
    claude = report(
        "claude-code",
        {"type": "system", "subtype": "api_retry", "error_status": 429, "error": "rate_limit"},
        {"type": "assistant", "parent_tool_use_id": None, "message": {}},
        exit_code=-9,
    )
    codex = report(
        "codex",
        {"type": "turn.started"},
        {"type": "error", "message": "Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many)"},
        {"type": "item.started", "item": {"type": "command_execution"}},
        exit_code=-9,
    )
    logged = (
        'timestamp=2026-11-22T21:15:14.198Z level=ERROR message="stream error" error="AI_APICallError: x"'
    )
    opencode = report(
        "opencode",
        {"type": "tool_use", "timestamp": 1795382144198, "sessionID": "s"},
        stderr=logged,
        exit_code=-9,
    )
    assert [one.outcome for one in (claude, codex, opencode)] == [Outcome.CRASHED] * 3


def test_the_request_for_a_title_says_nothing_of_the_work_of_opencode() -> None:
    logged = (
        'timestamp=2026-11-22T21:15:17.477Z level=ERROR message="stream error" small=true agent=title '
        'error.error="AI_RetryError: Failed after 3 attempts."'
    )
    assert report("opencode", stderr=logged, exit_code=-9).outcome is Outcome.CRASHED


def test_words_inside_a_codex_message_do_not_decide() -> None:
    assert codex_failed("command printed: Quota exceeded").outcome is Outcome.FAILED


def test_codex_that_starts_another_turn_has_not_finished() -> None:
    assert report("codex", {"type": "turn.completed"}, {"type": "turn.started"}).outcome is Outcome.CRASHED


VERDICT = {"type": "item.completed", "item": {"type": "agent_message", "text": "VERDICT"}}


def item(kind: str, moment: str = "completed") -> object:
    return {"type": f"item.{moment}", "item": {"type": kind}}


@pytest.mark.parametrize(
    "after",
    [
        item("command_execution"),
        item("command_execution", "started"),
        item("file_change"),
        item("mcp_tool_call"),
        item("todo_list", "updated"),
        item("something_new"),
        {"type": "turn.started"},
    ],
)
def test_what_codex_says_before_a_tool_or_in_an_earlier_turn_is_not_its_final_text(after: object) -> None:
    found = report("codex", {"type": "turn.started"}, VERDICT, after, {"type": "turn.completed"})
    assert (found.outcome, found.text) == (Outcome.OK, "")


@pytest.mark.parametrize("after", [item("reasoning"), item("error"), item("todo_list")])
def test_codex_that_closes_its_plan_or_thinks_after_its_last_word_keeps_it(after: object) -> None:
    found = report("codex", item("command_execution"), VERDICT, after, {"type": "turn.completed"})
    assert (found.outcome, found.text) == (Outcome.OK, "VERDICT")


def test_opencode_without_a_final_text_has_failed() -> None:
    found = report("opencode", {"type": "step_finish", "part": {"reason": "stop"}}, exit_code=0)
    assert found.outcome is Outcome.FAILED


def test_opencode_out_of_credit_is_told_from_a_rate_limit() -> None:
    body = json.dumps({"error": {"code": "insufficient_quota"}})
    error = {"name": "APIError", "data": {"statusCode": 429, "message": "no credit", "responseBody": body}}
    assert report("opencode", {"type": "error", "error": error}).outcome is Outcome.BUDGET


def test_an_error_that_opencode_tells_as_a_plain_string_is_kept() -> None:
    found = report("opencode", {"type": "error", "error": "permission rejected"})
    assert (found.outcome, found.detail) == (Outcome.FAILED, "permission rejected")


@pytest.mark.parametrize("after", [{"type": "tool_use"}, {"type": "step_start"}])
def test_what_opencode_says_before_its_last_tool_or_step_is_not_its_final_text(after: object) -> None:
    found = report(
        "opencode",
        {"type": "step_start"},
        {"type": "text", "part": {"text": '{"verdict": "approved"}'}},
        after,
        {"type": "text", "part": {"text": "Re"}},
        {"type": "text", "part": {"text": "jected."}},
        {"type": "step_finish", "part": {"reason": "stop"}},
    )
    assert (found.outcome, found.text) == (Outcome.OK, "Rejected.")
