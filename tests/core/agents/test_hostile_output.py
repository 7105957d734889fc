"""No output whatsoever makes a report raise, or makes it `ok` without the CLI's positive last event."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.agents.records import RECORDED, lines_of

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE
from spec_kitty_orchestrator.core.model import AgentReport, Outcome

ENDS: dict[str, dict[str, object]] = {
    "claude-code": {"type": "result", "is_error": False, "result": "x"},
    "codex": {"type": "turn.completed"},
    "copilot": {"type": "result", "exitCode": 0},
    "letta": {"type": "result", "subtype": "success", "result": "x"},
    "opencode": {"type": "step_finish", "part": {"reason": "stop"}},
    "kilocode": {"type": "step_finish", "part": {"reason": "stop"}},
    "augment": {"type": "result", "is_error": False, "subtype": "success", "result": "x"},
    "cursor": {"type": "result", "is_error": False, "subtype": "success", "result": "x"},
    "pi": {"type": "agent_end"},
    "gemini": {"type": "result", "status": "success"},
    "qwen": {"type": "result", "is_error": False, "result": "x"},
    "scripted": {"type": "result", "outcome": "ok"},
}
NAMES = (
    "type",
    "part",
    "item",
    "error",
    "data",
    "message",
    "is_error",
    "result",
    "usage",
    "tokens",
    "session_id",
    "text",
    "reason",
    "outcome",
    "modelUsage",
    "permission_denials",
    "rate_limit_info",
    "errors",
    "cost",
    "state",
    "api_error_status",
    "retry_after_s",
    "total_cost_usd",
    "subtype",
    "error_status",
    "timestamp",
    "billing",
    "usage_unit",
    "total_cost",
    "content",
    "inputTokens",
    "exitCode",
    "toolRequests",
    "statusCode",
    "errorType",
    "errorMessage",
    "modelMetrics",
    "role",
    "content",
    "stopReason",
    "totalTokens",
    "id",
    "conversation_id",
    "message_type",
    "event_type",
    "event_data",
    "api_error",
    "status",
    "stats",
    "severity",
)
KINDS = (
    "result",
    "assistant",
    "text",
    "error",
    "tool_use",
    "step_start",
    "step_finish",
    "turn.completed",
    "turn.failed",
    "item.completed",
    "rate_limit_event",
    "agent_message",
    "rejected",
    "stop",
    "rate_limit",
    "system",
    "api_retry",
    "assistant.message",
    "model.call_failure",
    "session.error",
    "message_end",
    "agent_end",
    "message",
    "retry",
    "usage_statistics",
    "429 You exceeded your current quota",
    '503 {"error": {"code": 503}}',
    "turn.failed",
    "init",
    "tool_result",
    "success",
    "[API Error: 429 Please try again in 9.9.9s.]",
    "Reconnecting... 1/5 (unexpected status 999)",
    "You've hit your usage limit. Try again at Feb 30th, 0000 99:99 PM.",
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
events = st.dictionaries(st.sampled_from(NAMES), values, max_size=6).map(json.dumps)
lines = st.lists(st.text(max_size=40) | events, max_size=12)
exit_codes = st.none() | st.integers(min_value=-64, max_value=255)


def storable(found: AgentReport) -> None:
    """A report goes into files and arguments."""
    for words in (found.text, found.detail, found.session or ""):
        assert "\x00" not in words
        words.encode("utf-8")
    assert found.usage.input_tokens >= 0
    assert found.retry_after_s is None or 0 <= found.retry_after_s < float("inf")


@pytest.mark.parametrize("agent", BUILT_IN)
@settings(max_examples=30, deadline=None)
@given(stdout=lines, stderr=st.text(max_size=60), exit_code=exit_codes)
def test_arbitrary_events_never_raise(
    agent: str, stdout: list[str], stderr: str, exit_code: int | None
) -> None:
    storable(find(agent).report(stdout, stderr, exit_code))


@pytest.mark.parametrize("agent", BUILT_IN)
@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=400), exit_code=exit_codes)
def test_arbitrary_bytes_are_never_a_success(agent: str, noise: bytes, exit_code: int | None) -> None:
    stdout = noise.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    found = find(agent).report(stdout, noise.decode("utf-8", "surrogateescape"), exit_code)
    storable(found)
    assert found.outcome in {Outcome.CRASHED, Outcome.INVALID_REQUEST}


@pytest.mark.parametrize("agent", RECORDED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_cut_transcript_is_never_a_success(agent: str, data: st.DataObject) -> None:
    whole = "".join(lines_of(agent, "success"))
    kept = whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))]
    found = find(agent).report(kept.splitlines(keepends=True), "", data.draw(exit_codes))
    storable(found)
    assert found.outcome is not Outcome.OK


@pytest.mark.parametrize("agent", RECORDED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_transcript_without_its_last_event_is_never_a_success(agent: str, data: st.DataObject) -> None:
    kept = lines_of(agent, "success")[:-1]
    shuffled = data.draw(st.permutations(kept))
    assert find(agent).report(shuffled, "", data.draw(exit_codes)).outcome is not Outcome.OK


@pytest.mark.parametrize("agent", RECORDED)
@given(
    noise=st.lists(st.text(max_size=40).filter(lambda line: "{" not in line), max_size=6),
    at=st.integers(0, 5),
)
def test_lines_that_are_not_json_change_nothing(agent: str, noise: list[str], at: int) -> None:
    real = lines_of(agent, "success")
    expected = find(agent).report(real, "", 0)
    assert find(agent).report([*real[:at], *noise, *real[at:]], "", 0) == expected


@pytest.mark.parametrize("agent", ENDS)
def test_a_line_of_absurd_length_is_skipped(agent: str) -> None:
    huge = json.dumps(ENDS[agent] | {"padding": "x" * LONGEST_LINE})
    assert find(agent).report([huge], "", 0).outcome is Outcome.CRASHED


@pytest.mark.parametrize("agent", ENDS)
@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, '{"n": ' + "9" * 5_000 + "}"])
def test_json_that_breaks_the_parser_is_skipped(agent: str, deep: str) -> None:
    assert find(agent).report([deep], "", 0).outcome is Outcome.CRASHED


def test_half_a_character_and_zero_bytes_do_not_reach_the_report() -> None:
    line = '{"type": "result", "is_error": false, "result": "a\\ud800b\\u0000c"}'
    found = find("claude-code").report([line], "", 0)
    assert found.text == "a?b\ufffdc"
