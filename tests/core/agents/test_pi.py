"""pi's argv, and what its module makes of transcripts of the real CLI."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents.pi import Pi
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "pi"


def lines_of(case: str) -> list[str]:
    stdout = DATA / f"{case}.stdout"
    return stdout.read_text().splitlines(keepends=True) if stdout.exists() else []


def report(case: str, exit_code: int | None = 0) -> AgentReport:
    stderr = DATA / f"{case}.stderr"
    return Pi().report(lines_of(case), stderr.read_text() if stderr.exists() else "", exit_code)


def argv(role: Role, session: str = "", settings: AgentSettings | None = None) -> str:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return " ".join(Pi().command(task, settings or AgentSettings()).argv)


def test_an_implementer_has_every_tool() -> None:
    assert argv(Role.IMPLEMENT) == "pi -p --mode json --tools read,bash,edit,write,grep,find,ls"


def test_a_reviewer_has_tools_that_read_and_runs_no_code_of_the_worktrees() -> None:
    assert argv(Role.REVIEW) == (
        "pi -p --mode json --tools read,grep,find,ls"
        " --offline --no-extensions --no-skills --no-prompt-templates"
    )
    assert not Pi().shell_in_review


def test_a_session_and_a_model_are_named() -> None:
    found = argv(Role.IMPLEMENT, "s-1", AgentSettings(model="v/m-1", extra_args=("--thinking", "high")))
    assert found.endswith("--session s-1 --model v/m-1 --thinking high")


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 0, Outcome.AUTH, "401 Incorrect API key"),
        ("403", 0, Outcome.AUTH, "403 mock forbidden"),
        ("404_model", 0, Outcome.INVALID_REQUEST, "does not exist"),
        ("400ctx", 0, Outcome.INVALID_REQUEST, "exceeds the context window"),
        ("429", 0, Outcome.RATE_LIMITED, "429 Rate limit reached"),
        ("quota", 0, Outcome.BUDGET, "exceeded your current quota"),
        ("503", 0, Outcome.OVERLOADED, "503 The engine is currently overloaded"),
        ("refused", 0, Outcome.OVERLOADED, "Connection error."),
        ("drop", 0, Outcome.OVERLOADED, "cut off"),
        ("reset", 0, Outcome.OVERLOADED, "cut off"),
        ("hang", -9, Outcome.CRASHED, "exit code -9"),
        ("sigterm", 143, Outcome.CRASHED, "'toolUse'; exit code 143"),
        ("noauth", 1, Outcome.AUTH, "No API key found"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "Unknown option"),
        ("resume_unknown", 1, Outcome.FAILED, "No session found"),
        ("resume_othercwd", 0, Outcome.FAILED, "Fork this session into current directory?"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert found.text == ""


@pytest.mark.parametrize("exit_code", [0, 1, 143, None])
def test_a_success_carries_text_session_and_what_it_cost(exit_code: int | None) -> None:
    found = report("success", exit_code)
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    assert found.text.startswith("DONE: completed 2 step(s).")
    assert found.text.endswith("README.md\nb.txt\nhello.txt\n")
    assert found.session == "01a20219-724b-74ef-9adc-f3f0a32aa75f"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3600, 102)
    assert found.usage.cost_usd == pytest.approx(0.003654)
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
    assert report("resumed").session == report("success").session
    assert report("resumed").usage.input_tokens == 2400


@pytest.mark.parametrize("case", ["resume_unknown", "resume_othercwd"])
def test_a_session_that_cannot_be_gone_on_with_is_not_offered_again(case: str) -> None:
    assert report(case).session is None


@pytest.mark.parametrize(
    ("case", "words", "outcome"),
    [
        ("429", '"type":"auto_retry_start","attempt":1', Outcome.RATE_LIMITED),
        ("503", '"type":"auto_retry_start","attempt":2', Outcome.OVERLOADED),
        ("success", '"type":"tool_execution_start"', Outcome.CRASHED),
    ],
)
def test_a_cli_that_is_ended_while_it_tries_again_is_named_by_what_it_tries_again(
    case: str, words: str, outcome: Outcome
) -> None:
    lines = lines_of(case)
    last = next(number for number, line in enumerate(lines) if words in line)
    assert Pi().report(lines[: last + 1], "", 143).outcome is outcome


def told(reason: str, tokens: int, *content: dict[str, object], error: str = "") -> str:
    said: dict[str, object] = {
        "role": "assistant",
        "content": list(content),
        "stopReason": reason,
        "usage": {"totalTokens": tokens, "input": tokens},
    }
    return json.dumps({"type": "message_end", "message": said | ({"errorMessage": error} if error else {})})


WORDS: dict[str, object] = {"type": "text", "text": "done"}
CALL: dict[str, object] = {"type": "toolCall", "name": "bash"}
END = '{"type":"agent_end","messages":[]}'


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([told("stop", 5, WORDS)], Outcome.OK),
        ([told("toolUse", 5, CALL), told("stop", 5, WORDS)], Outcome.OK),
        # An API that counts no tokens at all.
        ([told("toolUse", 0, CALL), told("stop", 0, WORDS)], Outcome.OK),
        # One that does, and did not get as far; and one that broke off a tool call before.
        ([told("toolUse", 5, CALL), told("stop", 0, WORDS)], Outcome.OVERLOADED),
        ([told("stop", 0, CALL), told("stop", 0, WORDS)], Outcome.OVERLOADED),
        ([told("length", 5, WORDS)], Outcome.FAILED),
        ([told("toolUse", 5, CALL)], Outcome.FAILED),
        ([told("stop", 5)], Outcome.FAILED),
        ([told("aborted", 5, WORDS)], Outcome.CRASHED),
        ([told("stop", 5, WORDS, error="402 Payment required")], Outcome.BUDGET),
        ([told("stop", 5, WORDS), told("error", 0, error="no")], Outcome.FAILED),
        ([told("error", 0, error="terminated"), told("stop", 5, WORDS)], Outcome.OK),
        ([], Outcome.CRASHED),
    ],
)
def test_the_last_message_decides(messages: list[str], outcome: Outcome) -> None:
    assert Pi().report([*messages, END], "", 0).outcome is outcome


def test_a_message_after_the_end_takes_the_end_back() -> None:
    assert (
        Pi().report([told("stop", 5, WORDS), END, '{"type":"agent_start"}'], "", 0).outcome is Outcome.CRASHED
    )


def test_messages_of_others_are_not_the_agents() -> None:
    user = json.dumps({"type": "message_end", "message": {"role": "user", "content": [{"type": "text"}]}})
    found = Pi().report([told("stop", 5, WORDS), user, END], "", 0)
    assert (found.outcome, found.text) == (Outcome.OK, "done")


def test_pieces_of_messages_are_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    whole = json.loads

    def watched(line: str) -> object:
        parsed.append(line)
        return whole(line)

    monkeypatch.setattr("spec_kitty_orchestrator.agents.json_lines.json.loads", watched)
    piece = '{"type":"message_update","message":{}}'
    assert Pi().report([piece, told("stop", 5, WORDS), END], "", 0).outcome is Outcome.OK
    assert parsed == [told("stop", 5, WORDS), END]
