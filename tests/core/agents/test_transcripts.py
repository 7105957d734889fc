"""What the agent modules make of transcripts of the real CLIs."""

from datetime import datetime
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.codex import Codex
from spec_kitty_orchestrator.core.model import AgentReport, Outcome

DATA = Path(__file__).parent / "data"
DIRECTORIES = {"claude-code": "claude", "codex": "codex", "opencode": "opencode"}


def report(agent: str, case: str, exit_code: int | None) -> AgentReport:
    stdout = DATA / DIRECTORIES[agent] / f"{case}.stdout"
    stderr = DATA / DIRECTORIES[agent] / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find(agent).report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


@pytest.mark.parametrize(
    ("agent", "case", "exit_code", "outcome", "detail"),
    [
        ("claude-code", "401", 1, Outcome.AUTH, "Invalid API key"),
        ("claude-code", "latest_401", 1, Outcome.AUTH, "Invalid API key"),
        ("claude-code", "403", 1, Outcome.AUTH, "Failed to authenticate"),
        ("claude-code", "noauth", 1, Outcome.AUTH, "Not logged in"),
        ("claude-code", "404_model", 1, Outcome.INVALID_REQUEST, "selected model"),
        ("claude-code", "400ctx", 1, Outcome.INVALID_REQUEST, "Prompt is too long"),
        ("claude-code", "429", 1, Outcome.RATE_LIMITED, "Request rejected (429)"),
        ("claude-code", "500", 1, Outcome.OVERLOADED, "API Error: 500"),
        ("claude-code", "529", 1, Outcome.OVERLOADED, "API Error: 529"),
        ("claude-code", "refused", 1, Outcome.OVERLOADED, "Unable to connect"),
        ("claude-code", "quota", 1, Outcome.BUDGET, "Credit balance is too low"),
        ("claude-code", "budget", 1, Outcome.BUDGET, "Reached maximum budget"),
        ("claude-code", "maxturns", 1, Outcome.FAILED, "Reached maximum number of turns"),
        ("claude-code", "hang_api_timeout", 1, Outcome.OVERLOADED, "Request timed out"),
        ("claude-code", "529_repeated", 1, Outcome.OVERLOADED, "Repeated 529 Overloaded"),
        ("claude-code", "504", 1, Outcome.OVERLOADED, "API Error: 504"),
        ("claude-code", "plan_limit", 1, Outcome.RATE_LIMITED, "hit your session limit"),
        (
            "claude-code",
            "429_sigint",
            0,
            Outcome.RATE_LIMITED,
            "trying again after a request that ended with status 429",
        ),
        ("claude-code", "429_sigterm", 143, Outcome.RATE_LIMITED, "with status 429 (rate_limit)"),
        ("claude-code", "hang", -9, Outcome.CRASHED, "exit code -9"),
        ("claude-code", "402", 1, Outcome.BUDGET, "API Error: 402"),
        ("claude-code", "413", 1, Outcome.INVALID_REQUEST, "Request too large"),
        ("claude-code", "resume_unknown", 1, Outcome.FAILED, "No conversation found"),
        ("claude-code", "wrong_usage", 1, Outcome.INVALID_REQUEST, "unknown option"),
        ("claude-code", "sigint", 0, Outcome.FAILED, "ede_diagnostic"),
        ("claude-code", "sigterm", 143, Outcome.CRASHED, "exit code 143"),
        ("claude-code", "bypass_flag_root", 1, Outcome.INVALID_REQUEST, "cannot be used with root"),
        ("claude-code", "empty_stdin", 1, Outcome.CRASHED, "Input must be provided"),
        ("codex", "401", 1, Outcome.AUTH, "unexpected status 401"),
        ("codex", "403", 1, Outcome.AUTH, "unexpected status 403"),
        ("codex", "404_model", 1, Outcome.INVALID_REQUEST, "does not exist"),
        ("codex", "400ctx", 1, Outcome.INVALID_REQUEST, "ran out of room"),
        ("codex", "ref_impl", 2, Outcome.INVALID_REQUEST, "unexpected argument"),
        ("codex", "429", 1, Outcome.RATE_LIMITED, "429 Too Many Requests"),
        ("codex", "429_none", 1, Outcome.RATE_LIMITED, "429 Too Many Requests"),
        ("codex", "500", 1, Outcome.OVERLOADED, "high demand"),
        ("codex", "503", 1, Outcome.OVERLOADED, "unexpected status 503"),
        ("codex", "529", 1, Outcome.OVERLOADED, "unexpected status 529"),
        ("codex", "drop", 1, Outcome.OVERLOADED, "stream disconnected"),
        ("codex", "reset", 1, Outcome.OVERLOADED, "stream disconnected"),
        ("codex", "quota", 1, Outcome.BUDGET, "Quota exceeded"),
        ("codex", "refused", -9, Outcome.OVERLOADED, "waiting for network"),
        ("codex", "hangstream_idle5s", 1, Outcome.OVERLOADED, "idle timeout"),
        ("codex", "hang", -9, Outcome.CRASHED, "exit code -9"),
        ("codex", "plan_limit", 1, Outcome.RATE_LIMITED, "try again at 11:09 PM"),
        ("codex", "plan_limit_no_reset", 1, Outcome.RATE_LIMITED, "try again later"),
        ("codex", "429_sigterm", -15, Outcome.RATE_LIMITED, "last status: 429"),
        ("codex", "not_included", 1, Outcome.BUDGET, "upgrade to Plus"),
        ("codex", "402", 1, Outcome.BUDGET, "unexpected status 402"),
        ("codex", "400", 1, Outcome.INVALID_REQUEST, "Unsupported parameter"),
        ("codex", "400_model", 1, Outcome.INVALID_REQUEST, "model is not supported"),
        ("codex", "413", 1, Outcome.INVALID_REQUEST, "unexpected status 413"),
        ("codex", "bad_config", 1, Outcome.INVALID_REQUEST, "Error loading config.toml"),
        ("codex", "sigterm", -15, Outcome.CRASHED, "exit code -15"),
        ("codex", "nogit", 1, Outcome.INVALID_REQUEST, "Not inside a trusted directory"),
        ("codex", "resume_unknown", 1, Outcome.CRASHED, "no rollout found"),
        ("opencode", "401", 1, Outcome.AUTH, "Incorrect API key"),
        ("opencode", "404_model", 1, Outcome.INVALID_REQUEST, "does not exist"),
        ("opencode", "400ctx", 1, Outcome.INVALID_REQUEST, "exceeds the context window"),
        ("opencode", "429", 1, Outcome.RATE_LIMITED, "Rate limit reached"),
        ("opencode", "503", 1, Outcome.OVERLOADED, "currently overloaded"),
        ("opencode", "ref_impl_outside", 0, Outcome.FAILED, "auto-rejecting"),
        ("opencode", "drop", -9, Outcome.OVERLOADED, "'unknown'"),
        ("opencode", "reset", -9, Outcome.OVERLOADED, "'unknown'"),
        ("opencode", "429_killed", -9, Outcome.OVERLOADED, "AI_APICallError: limit"),
        ("opencode", "refused", -9, Outcome.OVERLOADED, "Cannot connect to API"),
        ("opencode", "model_unknown", 1, Outcome.INVALID_REQUEST, "Model not found: mock/nope"),
        ("opencode", "wrong_usage", 1, Outcome.INVALID_REQUEST, "model to use"),
        ("opencode", "sigterm", -15, Outcome.CRASHED, "exit code -15"),
        ("opencode", "empty_stdin", 1, Outcome.CRASHED, "You must provide a message"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    agent: str, case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(agent, case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert "\x1b" not in found.detail
    assert found.exit_code == exit_code


@pytest.mark.parametrize(
    ("agent", "case", "session", "tokens", "cost_usd", "ending"),
    [
        (
            "claude-code",
            "success",
            "a16ad597-64f6-4414-89dc-3b4bdd1097c4",
            (5400, 136),
            0.03,
            "README.md\nb.txt\nhello.txt",
        ),
        (
            "claude-code",
            "latest_success",
            "8b3488da-5fbb-436f-a485-6b84bdb786f3",
            (4050, 102),
            0.01797,
            "(Bash completed with no output)",
        ),
        (
            "claude-code",
            "drop",
            "494ebc8e-eb29-407f-91c9-1686cc84e0a1",
            (4050, 102),
            0.0225,
            "no need to Read it back)",
        ),
        (
            "codex",
            "success",
            "01a20207-bd1e-7642-9665-778ea2eb75c0",
            (3600, 102),
            None,
            "README.md\nb.txt\nhello.txt\n",
        ),
        (
            "opencode",
            "success",
            "ses_dfdf65d5dffe4ybmpplNNP4yfz",
            (3600, 102),
            0.003654,
            "README.md\nb.txt\nhello.txt\n",
        ),
    ],
)
def test_a_success_carries_text_session_and_what_it_cost(
    agent: str, case: str, session: str, tokens: tuple[int, int], cost_usd: float | None, ending: str
) -> None:
    found = report(agent, case, 0)
    assert found.outcome is Outcome.OK
    assert found.text.startswith("DONE: completed")
    assert found.text.endswith(ending)
    assert found.session == session
    assert (found.usage.input_tokens, found.usage.output_tokens) == tokens
    assert found.usage.cost_usd == (None if cost_usd is None else pytest.approx(cost_usd))
    assert found.detail == ""


@pytest.mark.parametrize("agent", DIRECTORIES)
@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_the_text_of_a_review_ends_with_its_verdict(agent: str, case: str, verdict: str) -> None:
    found = report(agent, case, 0)
    assert found.outcome is Outcome.OK
    assert f'{{"verdict": "{verdict}"' in found.text
    assert found.text.endswith("```")


@pytest.mark.parametrize("agent", DIRECTORIES)
@pytest.mark.parametrize("exit_code", [1, -15, None])
def test_a_positive_result_outweighs_the_exit_code(agent: str, exit_code: int | None) -> None:
    assert report(agent, "success", exit_code).outcome is Outcome.OK


def test_retries_that_worked_in_the_end_are_no_failure() -> None:
    assert report("claude-code", "429x2", 0).outcome is Outcome.OK


def test_refused_tools_of_claude_are_told_although_it_finished() -> None:
    found = report("claude-code", "default_mode", 0)
    assert found.outcome is Outcome.OK
    assert found.detail == "2 tool calls were refused: Bash, Write"


def test_an_error_message_of_the_api_is_not_taken_for_the_agents_words() -> None:
    assert report("claude-code", "429", 1).text == ""


def test_opencode_tells_when_a_rate_limit_ends() -> None:
    assert report("opencode", "429", 1).retry_after_s == 1.0


def cut_after(agent: str, case: str, words: str, exit_code: int = -15) -> AgentReport:
    """Read a transcript as it was when the first line with these words had just been written."""
    lines = (DATA / DIRECTORIES[agent] / f"{case}.stdout").read_text().splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if words in line)
    return find(agent).report(lines[: last + 1], "", exit_code)


@pytest.mark.parametrize(
    ("agent", "case", "words", "outcome"),
    [
        ("claude-code", "429", '"subtype":"api_retry"', Outcome.RATE_LIMITED),
        ("claude-code", "500", '"subtype":"api_retry"', Outcome.OVERLOADED),
        ("claude-code", "529", '"subtype":"api_retry"', Outcome.OVERLOADED),
        ("claude-code", "refused", '"subtype":"api_retry"', Outcome.OVERLOADED),
        ("claude-code", "429", '"subtype":"init"', Outcome.CRASHED),
        ("claude-code", "429x2", '"type":"tool_use"', Outcome.CRASHED),
        ("codex", "429", "1/5", Outcome.RATE_LIMITED),
        ("codex", "429", '"error","message":"exceeded retry limit', Outcome.RATE_LIMITED),
        ("codex", "503", "2/5", Outcome.OVERLOADED),
        ("codex", "500", "1/5", Outcome.OVERLOADED),
        ("codex", "401", "3/5", Outcome.AUTH),
        ("codex", "reset", "1/5", Outcome.OVERLOADED),
        ("codex", "refused", "waiting for network", Outcome.OVERLOADED),
        ("codex", "refused", "turn.started", Outcome.CRASHED),
    ],
)
def test_a_cli_that_is_ended_while_it_tries_again_is_named_by_what_it_tries_again(
    agent: str, case: str, words: str, outcome: Outcome
) -> None:
    assert cut_after(agent, case, words).outcome is outcome


def test_a_claude_plan_tells_when_its_limit_ends() -> None:
    lines = (DATA / "claude" / "plan_limit.stdout").read_text().splitlines(keepends=True)
    found = ClaudeCode(now=lambda: 1795389049 - 7200.0).report(lines, "", 1)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, 7200.0)


@pytest.mark.parametrize(("case", "hours"), [("plan_limit", 2), ("plan_limit_days", 72)])
def test_a_codex_plan_tells_when_its_limit_ends(case: str, hours: int) -> None:
    lines = (DATA / "codex" / f"{case}.stdout").read_text().splitlines(keepends=True)
    # These were made at nine minutes past nine in the evening, whatever zone it is here.
    made = datetime(2026, 11, 22, 21, 9, 30).timestamp()  # noqa: DTZ001 - the time of day here is meant
    found = Codex(now=lambda: made).report(lines, "", 1)
    # The seconds are left out, so the end may be up to a minute later than told.
    assert found.retry_after_s == hours * 3600 + 30


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_a_session_that_is_gone_is_not_offered_again(agent: str) -> None:
    assert report(agent, "resume_unknown", 1).session is None


def test_what_codex_used_is_counted_from_the_beginning_of_its_session() -> None:
    first, resumed = report("codex", "first", 0), report("codex", "resumed", 0)
    assert first.session == resumed.session
    assert (first.usage.input_tokens, resumed.usage.input_tokens) == (2400, 4800)
    assert first.usage_is_cumulative
    assert resumed.usage_is_cumulative


def test_what_claude_used_in_a_resumed_session_is_its_own() -> None:
    resumed = report("claude-code", "resumed", 0)
    assert (resumed.usage.input_tokens, resumed.usage_is_cumulative) == (2700, False)


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_a_rate_limit_whose_end_is_not_told_has_none(agent: str) -> None:
    assert report(agent, "429", 1).retry_after_s is None
