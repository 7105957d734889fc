"""How Qwen Code is called, and what is made of transcripts of the real one."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.qwen import Qwen
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

DATA = Path(__file__).parent / "data" / "qwen"
QWEN = Qwen(own_defaults=())


def report(case: str, exit_code: int | None) -> AgentReport:
    stdout, stderr = DATA / f"{case}.stdout", DATA / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find("qwen").report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


def told(*events: object, stderr: str = "", exit_code: int | None = 1) -> AgentReport:
    return find("qwen").report([json.dumps(one) for one in events], stderr, exit_code)


def failed(words: str) -> AgentReport:
    return told({"type": "result", "is_error": True, "error": {"message": words}})


def command(role: Role, settings: AgentSettings | None = None, session: str = "") -> AgentCommand:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session)
    return QWEN.command(task, settings or AgentSettings())


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 1, Outcome.AUTH, "[API Error: 401 Incorrect API key"),
        ("403", 1, Outcome.AUTH, "[API Error: 403 "),
        ("noauth", 1, Outcome.AUTH, "No auth type is selected"),
        ("404_model", 1, Outcome.INVALID_REQUEST, "does not exist"),
        ("400ctx", 1, Outcome.INVALID_REQUEST, "exceeds the context window"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "Unknown argument: nope"),
        ("empty_stdin", 1, Outcome.INVALID_REQUEST, "No input provided via stdin"),
        ("429_given_up", 1, Outcome.RATE_LIMITED, "[API Error: 429 Rate limit reached"),
        ("503_given_up", 1, Outcome.OVERLOADED, "[API Error: 503 "),
        ("quota_given_up", 1, Outcome.BUDGET, "exceeded your current quota"),
        ("drop", 1, Outcome.OVERLOADED, "stream ended without a finish reason"),
        ("reset", 1, Outcome.OVERLOADED, "stream ended without a finish reason"),
        ("refused", 1, Outcome.OVERLOADED, "Connection error"),
        ("429", -9, Outcome.RATE_LIMITED, "it was trying again: [API Error: 429 Rate limit reached"),
        ("503", -9, Outcome.OVERLOADED, "it was trying again: [API Error: 503 "),
        ("quota", -9, Outcome.CRASHED, "Ripgrep"),
        ("hang", -9, Outcome.CRASHED, "no result event; exit code -9"),
        ("sigterm", -15, Outcome.CRASHED, "no result event; exit code -15"),
        ("sigterm_group", -15, Outcome.CRASHED, "Operation cancelled"),
        ("resume_unknown", 1, Outcome.FAILED, "No saved session found"),
        ("maxturns", 53, Outcome.FAILED, "Reached max session turns"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert found.text == ""
    assert found.exit_code == exit_code


def test_a_success_carries_text_session_and_tokens() -> None:
    found = report("success", 0)
    assert found.outcome is Outcome.OK
    assert found.text.startswith("DONE: completed 3 step(s).")
    assert found.session == "1f5b7ddf-0410-4772-b488-a7db552ce425"
    assert (found.usage, found.detail) == (Usage(4800, 136), "")


@pytest.mark.parametrize("exit_code", [1, 130, -15, None])
def test_a_positive_result_outweighs_the_exit_code(exit_code: int | None) -> None:
    assert report("success", exit_code).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("case", "verdict"), [("review_approve", "approved"), ("review_reject", "changes_requested")]
)
def test_the_text_of_a_review_ends_with_its_verdict(case: str, verdict: str) -> None:
    found = report(case, 0)
    assert found.outcome is Outcome.OK
    assert f'{{"verdict": "{verdict}"' in found.text
    assert found.text.endswith("```")


def test_what_it_used_is_counted_from_the_beginning_of_its_session() -> None:
    first, resumed = report("first", 0), report("resumed", 0)
    assert first.session == resumed.session == "a8d3581e-f116-4377-bb02-bd0dc383dd8f"
    assert (first.usage, resumed.usage) == (Usage(2400, 68), Usage(6000, 170))
    assert first.usage_is_cumulative
    assert resumed.usage_is_cumulative


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 1).session is None


INIT = {"type": "system", "subtype": "init", "session_id": "s"}
RETRY = {"type": "system", "subtype": "retry", "data": {"attempt": 1, "delayMs": 60_000}}
WORKS: dict[str, object] = {"type": "assistant", "parent_tool_use_id": None, "message": {}}
GOOD: dict[str, object] = {"type": "result", "is_error": False, "result": "all is well"}
AGAIN = "Retrying in 60s (attempt 1/10): [API Error: 429 Slow down. Please try again in 1.5s.]\n"


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("[API Error: 429 Slow down. Please try again in 20s.]", 20.0),
        ("[API Error: 429 Slow down. Please try again in 250ms.]", 0.25),
        ("[API Error: 429 Slow down. Please try again in 1.2.3s.]", None),
        ("[API Error: 429 Slow down. Please try again in 999999999999s.]", 8 * 86_400.0),
        ("[API Error: Quota exhausted: it will reset at noon.]", None),
    ],
)
def test_the_end_of_a_limit_is_known_where_the_api_tells_it(words: str, seconds: float | None) -> None:
    found = failed(words)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, seconds)


def test_what_it_was_trying_again_when_it_was_ended_names_the_outcome() -> None:
    found = told(INIT, RETRY, stderr=AGAIN, exit_code=-9)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, 1.5)
    assert told(INIT, RETRY, exit_code=-9).outcome is Outcome.OVERLOADED


def test_a_retry_that_worked_says_nothing_of_a_later_death() -> None:
    assert told(INIT, RETRY, WORKS, stderr=AGAIN, exit_code=-9).outcome is Outcome.CRASHED


@pytest.mark.parametrize("after", [WORKS, RETRY])
def test_a_result_is_none_if_it_goes_on_afterwards_and_dies(after: object) -> None:
    assert told(INIT, GOOD, after, exit_code=-9).outcome is not Outcome.OK


def test_a_late_word_of_a_subagent_does_not_undo_the_result() -> None:
    late = WORKS | {"parent_tool_use_id": "call_1"}
    assert told(INIT, GOOD, late, exit_code=0).text == "all is well"


@pytest.mark.parametrize("is_error", [None, "false", 0, True])
def test_it_is_ok_only_if_is_error_is_false(is_error: object) -> None:
    assert told(INIT, GOOD | {"is_error": is_error}, exit_code=0).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("the tests say [API Error: 401 no]", Outcome.FAILED),
        ("[API Error: 4290 no]", Outcome.FAILED),
        ("[API Error: 529 no]", Outcome.OVERLOADED),
        ("[API Error: Request timed out.]", Outcome.OVERLOADED),
        ("Missing API key for OpenAI-compatible auth.", Outcome.AUTH),
        ("Loop detected.", Outcome.FAILED),
    ],
)
def test_an_error_is_known_by_how_its_message_begins(words: str, outcome: Outcome) -> None:
    assert failed(words).outcome is outcome


@pytest.mark.parametrize("exit_code", [42, 52])
def test_a_code_of_a_refusal_means_nothing_once_it_has_begun(exit_code: int) -> None:
    assert told(exit_code=exit_code).outcome is Outcome.INVALID_REQUEST
    assert told(INIT, exit_code=exit_code).outcome is Outcome.CRASHED


def test_refused_tools_are_told_although_it_finished() -> None:
    denials = [{"tool_name": "write_file"}, {"tool_name": "edit"}, "x"]
    found = told(INIT, GOOD | {"permission_denials": denials}, exit_code=0)
    assert found.detail == "3 tool calls were refused: edit, write_file"


def test_an_implementer_edits_and_runs_commands_unasked() -> None:
    argv = command(Role.IMPLEMENT).argv
    assert argv[:5] == ("qwen", "--approval-mode", "auto-edit", "--allowed-tools", "run_shell_command")
    assert argv[5] == "--append-system-prompt"
    assert argv[7:] == ("--output-format", "stream-json")
    assert command(Role.IMPLEMENT).env == {}
    assert QWEN.permissions(Role.IMPLEMENT).sandbox_mode == "none"


def test_a_reviewer_has_no_tool_that_writes_makes_branches_or_goes_out() -> None:
    argv = command(Role.REVIEW).argv
    assert argv[:5] == ("qwen", "--safe-mode", "--approval-mode", "default", "--exclude-tools")
    excluded = set(argv[5].split(","))
    assert excluded >= {"run_shell_command", "write_file", "edit", "notebook_edit", "web_fetch"}
    assert excluded >= {"enter_worktree", "cron_create", "agent", "tool_call"}
    assert not excluded & {"read_file", "grep_search", "glob"}
    assert argv[6] == "--append-system-prompt"
    assert argv[8:] == ("--output-format", "stream-json")
    assert QWEN.shell_in_review is False
    allows = QWEN.permissions(Role.REVIEW)
    assert (allows.sandbox_mode, allows.network_mode) == ("read_only_tools", "none")


def test_a_review_takes_no_model_or_address_from_the_worktree() -> None:
    found = command(Role.REVIEW)
    assert json.loads(Path(found.env["QWEN_CODE_TRUSTED_FOLDERS_PATH"]).read_text()) == {}
    chosen = json.loads(Path(found.default_env["QWEN_CODE_SYSTEM_DEFAULTS_PATH"]).read_text())
    assert chosen["security"] == {"folderTrust": {"enabled": True}}


def test_its_model_is_told_what_the_cli_does_to_a_prompt() -> None:
    for role in Role:
        argv = command(role).argv
        assert "a blank before each @" in argv[argv.index("--append-system-prompt") + 1]


def test_a_session_is_gone_on_with_by_the_permissions_of_a_new_one() -> None:
    settings = AgentSettings(executable="/bin/q", model="m-1", extra_args=("--debug",))
    new = command(Role.IMPLEMENT, settings)
    assert new.argv[:4] == ("/bin/q", "--model", "m-1", "--debug")
    assert command(Role.IMPLEMENT, settings, "s-1").argv == (new.argv[0], "--resume", "s-1", *new.argv[1:])


@pytest.mark.parametrize("role", Role)
def test_its_retries_are_few_unless_the_machine_says_otherwise(role: Role, tmp_path: Path) -> None:
    defaults = command(role).default_env
    chosen = json.loads(Path(defaults["QWEN_CODE_SYSTEM_DEFAULTS_PATH"]).read_text())
    assert chosen["$version"] == 4  # Without it, the CLI writes it into our file.
    assert chosen["model"] == {"generationConfig": {"maxRetries": 0}}
    own = tmp_path / "system-defaults.json"
    own.write_text("{}")
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"))
    assert Qwen(own_defaults=(own,)).command(task, AgentSettings()).default_env == {}
