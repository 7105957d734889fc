"""How Gemini CLI is called, and what is made of transcripts of the real one."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.gemini import Gemini
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

DATA = Path(__file__).parent / "data" / "gemini"
GEMINI = Gemini(own_defaults=())


def report(case: str, exit_code: int | None) -> AgentReport:
    stdout, stderr = DATA / f"{case}.stdout", DATA / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find("gemini").report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


def told(*events: object, stderr: str = "", exit_code: int | None = 1) -> AgentReport:
    return find("gemini").report([json.dumps(one) for one in events], stderr, exit_code)


def command(role: Role, settings: AgentSettings | None = None, session: str = "") -> AgentCommand:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session)
    return GEMINI.command(task, settings or AgentSettings())


@pytest.mark.parametrize(
    ("case", "exit_code", "outcome", "detail"),
    [
        ("401", 145, Outcome.AUTH, '"code":401'),
        ("403", 147, Outcome.AUTH, "mock forbidden"),
        ("noauth", 41, Outcome.AUTH, "Invalid auth method selected"),
        ("404_model", 1, Outcome.INVALID_REQUEST, "is not found for API version"),
        ("400ctx", 144, Outcome.INVALID_REQUEST, "exceeds the maximum number of tokens"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "Unknown argument: nope"),
        ("empty_stdin", 42, Outcome.INVALID_REQUEST, "No input provided via stdin"),
        ("quota", 173, Outcome.RATE_LIMITED, "exhausted your daily quota"),
        ("429_given_up", 173, Outcome.RATE_LIMITED, "exceeded your current quota"),
        ("503_given_up", 247, Outcome.OVERLOADED, "The model is overloaded"),
        ("429", -9, Outcome.RATE_LIMITED, "trying again after a request that ended with status 429"),
        ("429_ra30", 0, Outcome.RATE_LIMITED, "trying again after a request that ended with status 429"),
        ("503", -9, Outcome.OVERLOADED, "trying again after a request that ended with status 503"),
        ("drop", 0, Outcome.OVERLOADED, "stream ended without a finish reason"),
        ("reset", 0, Outcome.OVERLOADED, "stream ended without a finish reason"),
        ("refused", 1, Outcome.OVERLOADED, "fetch failed"),
        ("hang", -9, Outcome.CRASHED, "[STARTUP]"),
        ("sigterm", 0, Outcome.CRASHED, "Ripgrep is not available"),
        ("resume_unknown", 42, Outcome.FAILED, "Error resuming session"),
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


def test_a_success_carries_text_session_and_tokens_with_those_of_thinking() -> None:
    found = report("success", 0)
    assert found.outcome is Outcome.OK
    assert found.text.startswith("DONE: completed 3 step(s).")
    assert found.session == "41c3b660-5315-4cc0-9396-7106a3e30578"
    assert found.usage == Usage(4800, 136 + 20)
    assert (found.detail, found.usage_is_cumulative) == ("", False)


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


def test_a_session_that_goes_on_keeps_its_id_and_counts_anew() -> None:
    first, resumed = report("first", 0), report("resumed", 0)
    assert first.outcome is resumed.outcome is Outcome.OK
    assert first.session == resumed.session == "d19165a4-1f1e-4bd0-8370-6ced96c7a2a8"
    assert first.usage == resumed.usage


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 42).session is None


@pytest.mark.parametrize(
    ("case", "exit_code", "seconds"), [("429_ra30", -15, 30.0), ("429", -15, None), ("quota", 173, None)]
)
def test_the_end_of_a_limit_is_known_where_the_cli_tells_it(
    case: str, exit_code: int, seconds: float | None
) -> None:
    assert report(case, exit_code).retry_after_s == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Slow down.\nSuggested retry after 90s.", 90.0),
        ("Slow down. Please retry in 1500ms.", 1.5),
        ("Slow down. Please retry in 1.2.3s.", None),
        ("Please retry in 999999999999s.", 8 * 86_400.0),
    ],
)
def test_the_end_of_a_limit_is_read_from_the_error_and_stays_sensible(
    words: str, seconds: float | None
) -> None:
    error = {"type": "unknown", "message": f"[API Error: {words}]"}
    found = told({"type": "result", "status": "error", "error": error}, exit_code=429 % 256)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, seconds)


INIT = {"type": "init", "session_id": "s"}
TOOL = {"type": "tool_use", "tool_name": "run_shell_command"}
RESULT = {"type": "tool_result", "status": "success"}
ASKED = {"type": "message", "role": "user", "content": "do it"}
SAID = {"type": "message", "role": "assistant", "content": "all is well", "delta": True}
GOOD = {"type": "result", "status": "success"}
AGAIN = "Attempt 2 failed with status 429. Retrying with backoff... _ApiError: {}\n"


def test_a_retry_that_worked_says_nothing_of_a_tool_that_was_ended() -> None:
    assert told(INIT, TOOL, stderr=AGAIN, exit_code=-9).outcome is Outcome.CRASHED
    assert told(INIT, stderr=AGAIN, exit_code=-9).outcome is Outcome.RATE_LIMITED


@pytest.mark.parametrize("later", [(SAID,), (TOOL, RESULT), (SAID, TOOL, RESULT)])
def test_a_retry_that_worked_says_nothing_of_what_hung_after_an_answer(
    later: tuple[dict[str, object], ...],
) -> None:
    found = told(INIT, ASKED, *later, stderr=AGAIN, exit_code=0)
    assert (found.outcome, found.retry_after_s) == (Outcome.CRASHED, None)
    assert told(INIT, ASKED, stderr=AGAIN, exit_code=0).outcome is Outcome.RATE_LIMITED


def test_a_connection_that_was_tried_again_when_it_was_ended_is_told_as_such() -> None:
    found = told(INIT, stderr="Attempt 1 failed. Retrying with backoff... Error: fetch failed\n")
    assert (found.outcome, found.detail) == (
        Outcome.OVERLOADED,
        "it was trying again after a request that ended without an answer",
    )


def test_what_it_says_before_its_last_tool_is_not_its_final_text() -> None:
    parts = [{"type": "message", "role": "assistant", "content": word} for word in ("Re", "jected.")]
    found = told(INIT, SAID, TOOL, {"type": "tool_result", "output": "approved"}, *parts, GOOD, exit_code=0)
    assert (found.outcome, found.text) == (Outcome.OK, "Rejected.")


def test_the_prompt_that_it_repeats_is_not_its_final_text() -> None:
    prompt = {"type": "message", "role": "user", "content": '{"verdict": "approved"}'}
    assert told(INIT, prompt, GOOD, exit_code=0).outcome is Outcome.FAILED


@pytest.mark.parametrize("words", ["Loop detected, stopping execution", "Maximum session turns exceeded", ""])
def test_a_success_that_was_cut_short_has_failed(words: str) -> None:
    found = told(INIT, SAID, {"type": "error", "severity": "warning", "message": words}, GOOD, exit_code=0)
    assert found.outcome is Outcome.FAILED
    assert found.detail == (words or "an error without words")
    assert found.text == ""


def test_an_error_after_which_it_went_on_is_none() -> None:
    error = {"type": "error", "severity": "warning", "message": "Agent execution blocked: not yet"}
    assert told(INIT, error, SAID, GOOD, exit_code=0).outcome is Outcome.OK


@pytest.mark.parametrize("after", [SAID, TOOL])
def test_a_result_is_none_if_it_goes_on_afterwards_and_dies(after: object) -> None:
    assert told(INIT, SAID, GOOD, after, exit_code=-9).outcome is Outcome.CRASHED


@pytest.mark.parametrize("status", [None, "ok", True, "error"])
def test_only_the_status_success_is_one(status: object) -> None:
    assert told(INIT, SAID, {"type": "result", "status": status}, exit_code=0).outcome is Outcome.FAILED


def test_a_status_on_stderr_counts_only_for_an_error_that_was_told() -> None:
    logged = "ModelNotFoundError: nope {\n  code: 404\n}\n"
    failed = {"type": "result", "status": "error", "error": {"type": "unknown", "message": "nope"}}
    assert told(INIT, failed, stderr=logged).outcome is Outcome.INVALID_REQUEST
    assert told(INIT, {"type": "result", "status": "error"}, stderr=logged).outcome is Outcome.FAILED
    assert told(INIT, SAID, GOOD, stderr=logged).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("FatalAuthenticationError", Outcome.AUTH),
        ("FatalTurnLimitedError", Outcome.FAILED),
        ("FatalConfigError", Outcome.INVALID_REQUEST),
        ("RetryableQuotaError", Outcome.RATE_LIMITED),
    ],
)
def test_an_error_with_a_name_is_known_by_it(name: str, outcome: Outcome) -> None:
    error = {"type": name, "message": "because"}
    assert told(INIT, {"type": "result", "status": "error", "error": error}).outcome is outcome


@pytest.mark.parametrize("exit_code", [41, 42, 52, 55])
def test_a_code_of_a_refusal_means_nothing_once_it_has_begun(exit_code: int) -> None:
    assert told(INIT, exit_code=exit_code).outcome is Outcome.CRASHED


def test_an_implementer_edits_and_runs_commands_unasked() -> None:
    expected = "gemini --approval-mode auto_edit --allowed-tools run_shell_command --skip-trust"
    assert command(Role.IMPLEMENT).argv == (*expected.split(), "--output-format", "stream-json")
    assert command(Role.IMPLEMENT).env == {}
    assert GEMINI.permissions(Role.IMPLEMENT).sandbox_mode == "none"


def test_a_reviewer_has_no_tool_that_writes_whatever_the_user_allowed() -> None:
    argv = command(Role.REVIEW).argv
    assert argv[:4] == ("gemini", "--approval-mode", "default", "--policy")
    assert argv[5:] == ("--skip-trust", "--output-format", "stream-json")
    rules = Path(argv[4]).read_text()
    for tool in ("run_shell_command", "write_file", "replace", "web_fetch", "google_web_search"):
        assert f'"{tool}",' in rules
    assert 'decision = "deny"' in rules
    assert GEMINI.shell_in_review is False
    allows = GEMINI.permissions(Role.REVIEW)
    assert (allows.sandbox_mode, allows.network_mode) == ("read_only_tools", "none")


def test_a_review_does_not_trust_the_worktree() -> None:
    assert command(Role.REVIEW).env == {"GEMINI_CLI_TRUST_WORKSPACE": "false"}


def test_a_session_is_gone_on_with_by_the_permissions_of_a_new_one() -> None:
    settings = AgentSettings(executable="/bin/g", model="m-1", extra_args=("--debug",))
    new = command(Role.IMPLEMENT, settings).argv
    assert new[:4] == ("/bin/g", "--model", "m-1", "--debug")
    assert command(Role.IMPLEMENT, settings, "s-1").argv == (new[0], "--resume", "s-1", *new[1:])


def test_it_replaces_no_word_of_a_prompt_by_the_name_of_a_file_that_is_like_it() -> None:
    named = command(Role.REVIEW).default_env["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"]
    filtering = json.loads(Path(named).read_text())["context"]["fileFiltering"]
    assert filtering == {"enableRecursiveFileSearch": False}


def test_its_retries_are_few_and_signals_reach_it_unless_the_machine_says_otherwise(tmp_path: Path) -> None:
    defaults = command(Role.IMPLEMENT).default_env
    assert defaults["GEMINI_CLI_NO_RELAUNCH"] == "true"
    chosen = json.loads(Path(defaults["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"]).read_text())
    assert chosen["general"] == {"maxAttempts": 3}
    own = tmp_path / "system-defaults.json"
    own.write_text("{}")
    task = Assignment(Role.IMPLEMENT, Path("/wt"), "a1", Path("/attempt"))
    kept = Gemini(own_defaults=(tmp_path / "none", own)).command(task, AgentSettings()).default_env
    assert list(kept) == ["GEMINI_CLI_NO_RELAUNCH"]
