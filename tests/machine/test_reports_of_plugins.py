"""What is made of a report that a plug-in's agent gives in a shape of its own."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.core.bounds import fitted
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Usage
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.machine.attempt_files import read_report, read_result, write_result
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.redaction import Redactor

WEEK_S = 7 * 24 * 3600.0


class Odd(Scripted):
    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        return self.given  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _output(tmp_path: Path) -> None:
    for name in ("stdout.log", "stderr.log"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "report() returned NoneType, not an AgentReport"),
        (AgentReport("ok", "x"), "its outcome is not an Outcome: 'ok'"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, None), "its text is not text: None"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "\ud800"), "its text must be valid UTF-8"),
        (AgentReport(Outcome.OK, "x", usage=None), "its usage is not a Usage: None"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "x", usage=Usage(0, 0, float("nan"))), "must be finite and not negative"),
        (AgentReport(Outcome.OK, "x", retry_after_s="1"), "no number of seconds: '1'"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "x", by_exit_code=None), "its by_exit_code is neither"),  # type: ignore[arg-type]
    ],
)
def test_a_report_that_is_none_is_a_crash_that_says_why(tmp_path: Path, given: object, told: str) -> None:
    found = read_report(tmp_path, Odd(given), 0, Redactor())
    assert found.outcome is Outcome.CRASHED
    assert told in found.detail


def test_a_proper_report_is_kept(tmp_path: Path) -> None:
    given = AgentReport(Outcome.OK, "x", session="s", usage=Usage(1, 2, 0.5), retry_after_s=1.0)
    assert read_report(tmp_path, Odd(given), 0, Redactor()) == given


@pytest.mark.parametrize(
    ("told_s", "kept_s"),
    [
        (1e12, WEEK_S),
        (10**400, WEEK_S),
        (WEEK_S + 1, WEEK_S),
        (60, 60.0),
        (-1.0, None),
        (float("nan"), None),
        (float("inf"), None),
        (None, None),
    ],
)
def test_a_wait_longer_than_a_week_is_a_week_and_one_that_is_none_is_not_told(
    tmp_path: Path, told_s: float | None, kept_s: float | None
) -> None:
    given = AgentReport(Outcome.RATE_LIMITED, retry_after_s=told_s)
    found = read_report(tmp_path, Odd(given), 1, Redactor())
    assert found.retry_after_s == kept_s
    (tmp_path / "result.json").unlink(missing_ok=True)
    if told_s is not None and not 0 <= told_s <= 1e300:
        return
    write_result(tmp_path, "id", given)
    kept = read_result(tmp_path, "id")
    assert kept is not None
    assert kept.retry_after_s == kept_s


def test_texts_tokens_and_cost_are_kept_within_bounds_and_texts_by_their_ends(tmp_path: Path) -> None:
    given = AgentReport(
        Outcome.OK,
        "x" * 10**7 + "end",
        "y" * 10**5 + "end",
        session="s" * 10**5,
        usage=Usage(10**300, 2, 1e300),
    )
    found = read_report(tmp_path, Odd(given), 0, Redactor())
    assert found.text.endswith("xend")
    assert found.detail.endswith("yend")
    assert len(found.text) + len(found.detail) < 500_000
    assert found.session is None
    assert (found.usage.input_tokens, found.usage.cost_usd) == (10**15, 1e6)


@pytest.mark.asyncio
async def test_a_line_about_any_report_is_read_at_the_next_start(tmp_path: Path) -> None:
    given = AgentReport(
        Outcome.OK, "x" * 10**7, "y\x07\x1b[2J", 1e300, "s" * 10**5, Usage(10**300, 10**300, 1e300)
    )
    found = read_report(tmp_path, Odd(given), 0, Redactor())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    entry = Entry(now, "WP01", fitted(AgentExited("id", found)))
    await JsonlJournal(tmp_path / "journal", tmp_path).append(entry)
    assert await JsonlJournal(tmp_path / "journal", tmp_path).read() == [entry]
    assert found.retry_after_s is not None
    assert now + timedelta(seconds=found.retry_after_s)
