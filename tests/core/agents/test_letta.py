"""Letta Code's argv, and what its module makes of transcripts of the real CLI."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents.letta import Letta
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "letta"


def lines_of(case: str) -> list[str]:
    stdout = DATA / f"{case}.stdout"
    return stdout.read_text().splitlines(keepends=True) if stdout.exists() else []


def report(case: str, exit_code: int | None = 0) -> AgentReport:
    stderr = DATA / f"{case}.stderr"
    return Letta().report(lines_of(case), stderr.read_text() if stderr.exists() else "", exit_code)


def argv(role: Role, session: str = "", settings: AgentSettings | None = None) -> str:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return " ".join(Letta().command(task, settings or AgentSettings()).argv)


def test_an_implementer_edits_and_runs_commands_unasked() -> None:
    assert argv(Role.IMPLEMENT) == (
        "letta -p --output-format stream-json --permission-mode acceptEdits --allowedTools Bash --new-agent"
    )


def test_a_reviewer_reads_and_runs_only_what_changes_nothing() -> None:
    assert argv(Role.REVIEW) == (
        "letta -p --output-format stream-json --permission-mode plan --tools Read,Glob,Grep,Bash --new-agent"
    )


def test_a_session_is_gone_on_with_by_its_own_agent_and_the_same_permissions() -> None:
    found = argv(Role.IMPLEMENT, "c-1", AgentSettings(model="m-1", extra_args=("--no-skills",)))
    assert found.endswith(
        "--permission-mode acceptEdits --allowedTools Bash --conversation c-1 --model m-1 --no-skills"
    )
    assert "--new-agent" not in found


def test_it_does_not_update_itself_in_the_middle_of_a_run_by_default() -> None:
    task = Assignment(Role.IMPLEMENT, Path("/wt"), "a1", Path("/attempt"))
    assert Letta().command(task, AgentSettings()).default_env["DISABLE_AUTOUPDATER"] == "1"


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 1, Outcome.AUTH, "401 Incorrect API key"),
        ("403", 1, Outcome.AUTH, "403 mock forbidden"),
        ("404_model", 1, Outcome.INVALID_REQUEST, "does not exist"),
        ("model_unknown", 1, Outcome.INVALID_REQUEST, 'Unknown model "nope/nope"'),
        ("400ctx", 1, Outcome.INVALID_REQUEST, "exceeds the context window"),
        ("429", 1, Outcome.RATE_LIMITED, "429 Rate limit reached"),
        ("quota", 1, Outcome.BUDGET, "exceeded your current quota"),
        ("503", 1, Outcome.OVERLOADED, "503 The engine is currently overloaded"),
        ("refused", 1, Outcome.OVERLOADED, "Connection error"),
        ("hang", -15, Outcome.CRASHED, "exit code -15"),
        ("sigterm", -15, Outcome.CRASHED, "exit code -15"),
        ("noauth", 1, Outcome.AUTH, "Missing LETTA_API_KEY"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "Unknown option"),
        ("resume_unknown", 1, Outcome.FAILED, "not found"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert found.text == ""


@pytest.mark.parametrize("exit_code", [0, 1, -15, None])
def test_a_success_carries_text_session_and_what_it_used(exit_code: int | None) -> None:
    found = report("success", exit_code)
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    assert found.text.startswith("DONE: completed 2 step(s).")
    assert found.session == "local-conv-5"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3600, 102)
    assert not found.usage_is_cumulative


@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_the_text_of_a_review_ends_with_its_verdict(case: str, verdict: str) -> None:
    found = report(case)
    assert found.outcome is Outcome.OK
    assert f'{{"verdict": "{verdict}"' in found.text
    assert found.text.endswith("```")


def test_what_a_resumed_session_used_is_its_own() -> None:
    first, resumed = report("first"), report("resumed")
    assert first.session == resumed.session
    assert first.usage == resumed.usage


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 1).session is None


@pytest.mark.parametrize(
    ("case", "words", "outcome"),
    [
        ("503", '"event_type":"retry"', Outcome.OVERLOADED),
        ("429", '"event_type":"retry"', Outcome.RATE_LIMITED),
        ("503", '"type":"retry"', Outcome.OVERLOADED),
        ("success", '"type":"auto_approval"', Outcome.CRASHED),
    ],
)
def test_a_cli_that_is_ended_while_it_tries_again_is_named_by_what_it_tries_again(
    case: str, words: str, outcome: Outcome
) -> None:
    lines = lines_of(case)
    last = next(number for number, line in enumerate(lines) if words in line)
    assert Letta().report(lines[: last + 1], "", -15).outcome is outcome


def counted(tokens: int) -> str:
    return json.dumps({"type": "message", "message_type": "usage_statistics", "total_tokens": tokens})


RESULT = json.dumps({"type": "result", "subtype": "success", "result": "x"})


def message(piece: str, **more: object) -> str:
    return json.dumps({"type": "message", "message_type": piece, **more})


def said(words: object, name: str = "a") -> str:
    return message("assistant_message", content=words, otid=name)


SAID = said("x")
PARTS = [{"type": "text", "text": "VER"}, {"type": "text", "text": "DICT"}]


@pytest.mark.parametrize(
    "after",
    [
        [json.dumps({"type": "auto_approval", "tool_call": {"name": "Read"}})],
        [message("approval_request_message")],
        [message("tool_call_message")],
        [message("tool_return_message")],
        [message("stop_reason", stop_reason="requires_approval")],
        [message("tool_return_message"), said("")],
        [message("tool_return_message"), message("reasoning_message", reasoning="VERDICT")],
        [message("event_message", event_type="retry", event_data={})],
    ],
)
def test_what_was_said_before_a_tool_is_no_final_text_though_the_result_repeats_it(after: list[str]) -> None:
    result = json.dumps({"type": "result", "subtype": "success", "result": "VERDICT"})
    found = Letta().report([said("VERDICT"), *after, result], "", 0)
    assert (found.outcome, found.text) == (Outcome.FAILED, "")
    assert found.detail == "it ended without a final text"


@pytest.mark.parametrize(
    "words", [[said("VERDICT")], [said(PARTS)], [said("VER"), said("DICT")], [said([*PARTS, 1, {"x": 2}])]]
)
def test_the_final_text_is_what_was_said_after_the_last_tool(words: list[str]) -> None:
    before = (said("before"), message("tool_return_message"))
    ended = message("stop_reason", stop_reason="end_turn")
    assert Letta().report([*before, *words, counted(5), ended, RESULT], "", 0).text == "VERDICT"


def test_two_messages_after_the_last_tool_are_two_lines_of_the_final_text() -> None:
    assert Letta().report([said("a", "1"), said("b", "2"), said("c", "2"), RESULT], "", 0).text == "a\nbc"


@pytest.mark.parametrize("case", ["success", "first", "resumed", "review_approve", "review_reject"])
def test_the_text_of_the_real_cli_is_that_of_its_result_where_it_ended_with_words(case: str) -> None:
    assert report(case).text == json.loads(lines_of(case)[-1])["result"]


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([SAID, RESULT], Outcome.OK),
        ([RESULT], Outcome.FAILED),
        ([counted(5), SAID, counted(7), RESULT], Outcome.OK),
        # An API that counts no tokens at all, and one that does and did not get as far.
        ([counted(0), SAID, counted(0), RESULT], Outcome.OK),
        ([counted(5), SAID, counted(0), RESULT], Outcome.OVERLOADED),
        ([SAID, RESULT, counted(5)], Outcome.CRASHED),
        ([SAID, RESULT, '{"type": "error", "message": "no"}'], Outcome.FAILED),
        (['{"type": "error", "message": "no"}', SAID, RESULT], Outcome.OK),
        ([SAID, '{"type": "error", "message": "no"}', RESULT], Outcome.FAILED),
        (['{"type": "result", "subtype": "error", "result": "max turns"}'], Outcome.FAILED),
        (['{"type": "result", "subtype": "success", "is_error": true}'], Outcome.FAILED),
        (['{"type": "result"}'], Outcome.FAILED),
    ],
)
def test_only_a_last_result_that_says_success_is_one(events: list[str], outcome: Outcome) -> None:
    assert Letta().report(events, "", 0).outcome is outcome
