"""What the agent modules make of transcripts of the real CLIs, as the record beside each says."""

from datetime import datetime

import pytest
from tests.core.agents.records import (
    DATA,
    RECORDED,
    ended_after,
    having,
    lines_of,
    record,
    report,
    rows,
)

from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.codex import Codex
from spec_kitty_orchestrator.core.model import Outcome

VERDICTS = {"review_approve": "approved", "review_reject": "changes_requested"}
# Transcripts whose limit ends at a time of the clock, which a test of its own sets.
BY_THE_CLOCK = {("claude-code", "plan_limit"), ("codex", "plan_limit"), ("codex", "plan_limit_days")}
# The answer of a CLI that was cut off in its last word, which is kept for people.
CUT_OFF = {("kilocode", "drop"), ("opencode", "drop"), ("opencode", "reset")}


@pytest.mark.parametrize("agent", RECORDED)
def test_every_transcript_is_in_the_record(agent: str) -> None:
    known = {*record(agent)["successes"], *record(agent)["failures"]}
    assert known == {file.stem for file in (DATA / agent).glob("*.std*")}


@pytest.mark.parametrize(("agent", "case"), rows("failures"))
def test_a_failure_of_the_real_cli_is_named_and_told_in_its_own_words(agent: str, case: str) -> None:
    exit_code, outcome, detail, *retry_after_s = record(agent)["failures"][case]
    found = report(agent, case, exit_code)
    assert (found.outcome, found.exit_code) == (Outcome(outcome), exit_code)
    assert detail in found.detail
    assert "\x1b" not in found.detail
    assert bool(found.text) is ((agent, case) in CUT_OFF)
    if (agent, case) not in BY_THE_CLOCK:
        assert found.retry_after_s == (retry_after_s[0] if retry_after_s else None)


@pytest.mark.parametrize(("agent", "case"), rows("successes"))
def test_a_success_carries_text_session_and_what_it_cost(agent: str, case: str) -> None:
    known = record(agent)["successes"][case]
    found = report(agent, case)
    assert (found.outcome, found.detail) == (Outcome.OK, known.get("detail", ""))
    assert found.text.startswith(("DONE: ", "Review finished.", known.get("ends", "")))
    assert found.text.endswith(known.get("ends", "```"))
    assert found.session == known["session"]
    assert [found.usage.input_tokens, found.usage.output_tokens] == known["tokens"]
    cost_usd = known.get("cost_usd")
    assert found.usage.cost_usd == (None if cost_usd is None else pytest.approx(cost_usd))
    assert found.usage_is_cumulative is record(agent)["usage_is_cumulative"]


@pytest.mark.parametrize("agent", RECORDED)
@pytest.mark.parametrize(("case", "verdict"), VERDICTS.items())
def test_the_text_of_a_review_ends_with_its_verdict(agent: str, case: str, verdict: str) -> None:
    found = report(agent, case)
    assert found.text.count('"verdict"') == 1
    assert f'{{"verdict": "{verdict}"' in found.text


@pytest.mark.parametrize("agent", RECORDED)
@pytest.mark.parametrize("exit_code", [1, 130, 143, -15, None])
def test_a_positive_result_outweighs_the_exit_code(agent: str, exit_code: int | None) -> None:
    found = report(agent, "success", exit_code)
    assert (found.outcome, found.detail) == (Outcome.OK, "")


@pytest.mark.parametrize("agent", having("first"))
def test_a_resumed_session_keeps_its_name(agent: str) -> None:
    assert report(agent, "first").session == report(agent, "resumed").session


@pytest.mark.parametrize(
    ("agent", "case"),
    [*((one, "resume_unknown") for one in having("resume_unknown")), ("pi", "resume_othercwd")],
)
def test_a_session_that_is_gone_is_not_offered_again(agent: str, case: str) -> None:
    assert report(agent, case, record(agent)["failures"][case][0]).session is None


@pytest.mark.parametrize(
    ("agent", "case", "words", "outcome"),
    [(agent, *row) for agent in RECORDED for row in record(agent).get("ended_early", {}).get("cases", ())],
)
def test_a_cli_that_is_ended_while_it_tries_again_is_named_by_what_it_tries_again(
    agent: str, case: str, words: str, outcome: str
) -> None:
    assert ended_after(agent, case, words).outcome is Outcome(outcome)


def test_a_run_that_was_cut_short_by_a_refused_permission_is_not_ok_whatever_it_exits_with() -> None:
    assert report("kilocode", "refused_permission", 0).outcome is Outcome.FAILED


def test_a_claude_plan_tells_when_its_limit_ends() -> None:
    found = ClaudeCode(now=lambda: 1795389049 - 7200.0).report(lines_of("claude-code", "plan_limit"), "", 1)
    assert (found.outcome, found.retry_after_s) == (Outcome.RATE_LIMITED, 7200.0)


@pytest.mark.parametrize(("case", "hours"), [("plan_limit", 2), ("plan_limit_days", 72)])
def test_a_codex_plan_tells_when_its_limit_ends(case: str, hours: int) -> None:
    # These were made at nine minutes past nine in the evening, whatever zone it is here.
    made = datetime(2026, 11, 22, 21, 9, 30).timestamp()  # noqa: DTZ001 - the time of day here is meant
    found = Codex(now=lambda: made).report(lines_of("codex", case), "", 1)
    # The seconds are left out, so the end may be up to a minute later than told.
    assert found.retry_after_s == hours * 3600 + 30
