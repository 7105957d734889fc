"""Kilo Code: its argv and environment for each role, and what is made of transcripts of the real CLI."""

import json
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

DATA = Path(__file__).parent / "data" / "kilocode"
PLAIN = AgentSettings()


def command(role: Role, settings: AgentSettings = PLAIN, session: str = "") -> AgentCommand:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    return find("kilocode").command(task, settings)


def report(case: str, exit_code: int | None) -> AgentReport:
    stdout, stderr = DATA / f"{case}.stdout", DATA / f"{case}.stderr"
    assert stdout.exists() or stderr.exists()
    lines = stdout.read_text().splitlines(keepends=True) if stdout.exists() else []
    return find("kilocode").report(lines, stderr.read_text() if stderr.exists() else "", exit_code)


@pytest.mark.parametrize(
    ("role", "argv"),
    [
        (Role.IMPLEMENT, "kilocode run --auto --agent code --format json"),
        (Role.REVIEW, "kilocode run --auto --agent plan --format json"),
    ],
)
def test_the_argv_is_the_one_that_works_on_the_real_cli(role: Role, argv: str) -> None:
    assert command(role).argv == tuple(argv.split())


@pytest.mark.parametrize("role", Role)
def test_model_and_arguments_of_the_settings_reach_the_cli(role: Role) -> None:
    settings = AgentSettings(executable="/bin/x", model="p/m", extra_args=("--variant", "high"))
    found = command(role, settings)
    assert found.argv[0] == "/bin/x"
    assert "--model p/m --variant high" in " ".join(found.argv)


def test_a_reviewer_may_neither_edit_nor_run_commands() -> None:
    found = command(Role.REVIEW)
    rules = json.loads(found.env["KILO_PERMISSION"])
    assert {name for name, rule in rules.items() if rule == "deny"} == {
        "edit",
        "bash",
        "background_process",
        "task",
        "skill",
        "external_directory",
        "webfetch",
        "websearch",
    }
    assert found.env["KILO_DISABLE_PROJECT_CONFIG"] == "1"


def test_an_implementer_keeps_the_projects_own_settings() -> None:
    found = command(Role.IMPLEMENT)
    assert "KILO_DISABLE_PROJECT_CONFIG" not in found.env
    assert json.loads(found.env["KILO_PERMISSION"]) == {"external_directory": "deny"}


def test_it_is_told_its_directory_because_it_believes_pwd() -> None:
    assert command(Role.IMPLEMENT).env["PWD"] == "/wt"


def test_by_default_its_retries_are_few_and_its_log_is_shown() -> None:
    assert command(Role.REVIEW).default_env == {
        "KILO_PRINT_LOGS": "1",
        "KILO_LOG_LEVEL": "ERROR",
        "KILO_SESSION_RETRY_LIMIT": "3",
        "KILO_TELEMETRY_LEVEL": "off",
    }


@pytest.mark.parametrize("role", Role)
def test_a_session_is_resumed_with_the_permissions_of_a_new_one(role: Role) -> None:
    new, resumed = command(role), command(role, session="ses_1")
    assert "--session ses_1" in " ".join(resumed.argv)
    assert [word for word in resumed.argv if word in new.argv] == list(new.argv)
    assert resumed.env == new.env


@pytest.mark.parametrize(
    ("case", "tokens", "cost_usd", "ending"),
    [
        ("success", (3600, 102), 0.003654, "README.md\nb.txt\nhello.txt\n"),
        ("resumed", (2400, 68), 0.002436, "Wrote file successfully."),
    ],
)
def test_a_success_carries_text_session_and_what_it_cost(
    case: str, tokens: tuple[int, int], cost_usd: float, ending: str
) -> None:
    found = report(case, 0)
    assert found.outcome is Outcome.OK
    assert found.text.startswith("DONE: completed")
    assert found.text.endswith(ending)
    assert (found.session or "").startswith("ses_")
    assert (found.usage.input_tokens, found.usage.output_tokens) == tokens
    assert found.usage.cost_usd == pytest.approx(cost_usd)
    assert (found.detail, found.usage_is_cumulative) == ("", False)


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
        ("401", 1, Outcome.AUTH, "Incorrect API key"),
        ("404_model", 1, Outcome.INVALID_REQUEST, "does not exist"),
        ("400ctx", 1, Outcome.INVALID_REQUEST, "exceeds the context window"),
        ("quota", 1, Outcome.BUDGET, "exceeded your current quota"),
        ("429", 1, Outcome.RATE_LIMITED, "Rate limit reached"),
        ("503", 1, Outcome.OVERLOADED, "currently overloaded"),
        ("refused_permission", 1, Outcome.FAILED, "auto-rejected permission"),
        ("drop", 0, Outcome.OVERLOADED, "'other'"),
        ("429_killed", -15, Outcome.OVERLOADED, "AI_APICallError: Rate limit reached"),
        ("model_unknown", 1, Outcome.INVALID_REQUEST, "Model not found: mock/nope"),
        ("sigterm", -15, Outcome.CRASHED, "exit code -15"),
        ("wrong_usage", 1, Outcome.INVALID_REQUEST, "--auto"),
        ("resume_unknown", 1, Outcome.CRASHED, "Session not found"),
    ],
)
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(
    case: str, exit_code: int, outcome: Outcome, detail: str
) -> None:
    found = report(case, exit_code)
    assert found.outcome is outcome
    assert detail in found.detail
    assert "\x1b" not in found.detail
    assert found.exit_code == exit_code


def test_a_rate_limit_tells_when_it_ends() -> None:
    assert report("429", 1).retry_after_s == 1.0


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert report("resume_unknown", 1).session is None


def test_a_run_that_was_cut_short_by_a_refused_permission_is_not_ok_whatever_it_exits_with() -> None:
    assert report("refused_permission", 0).outcome is Outcome.FAILED
