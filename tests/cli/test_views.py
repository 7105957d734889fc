"""Lines, table and words: what people see of events."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, HostRefused, Submitted
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Role,
    Ruling,
    Verdict,
    WorkPackage,
)
from spec_kitty_orchestrator.views import words
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.plain import PlainView

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHA = "0123456789" * 4
ATTEMPT = Attempt("id1", 2, Role.REVIEW, "codex", "/r/.kittify/logs/m/WP01/02-review-codex", head=SHA)
REVIEWING = WorkPackage("WP01", phase=Phase.REVIEWING, lane=Lane.IN_REVIEW, attempts=(ATTEMPT,))


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.passed)


def plain() -> tuple[PlainView, Clock, io.StringIO]:
    clock, file = Clock(), io.StringIO()
    return PlainView(Console(file=file, width=60), clock), clock, file


def test_an_event_is_one_line_with_its_time_however_long() -> None:
    view, _, file = plain()
    view.saw(REVIEWING, HostRefused("transition", "X", "two\nlines " + "long " * 100, Lane.PLANNED))
    assert file.getvalue().count("\n") == 1
    assert file.getvalue().startswith("2026-01-02T03:04:05Z WP01 ")


def test_a_heartbeat_names_what_is_in_work_and_for_how_long() -> None:
    view, clock, file = plain()
    view.saw(REVIEWING, AttemptOpened(ATTEMPT))
    clock.passed = 65
    view.beat()
    assert file.getvalue().splitlines()[-1].endswith("in work: WP01 reviewing by codex for 1m 05s")


def test_a_heartbeat_forgets_what_is_finished() -> None:
    view, _, file = plain()
    view.saw(REVIEWING, AttemptOpened(ATTEMPT))
    view.saw(replace(REVIEWING, phase=Phase.FINISHED), Submitted())
    view.beat()
    assert file.getvalue().splitlines()[-1].endswith("nothing is in work")


def test_a_reader_that_is_gone_does_not_end_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    view = PlainView(SteadyConsole(file=Closed()), Clock())
    view.said("one")
    view.saw(REVIEWING, Submitted())


@pytest.mark.parametrize(
    ("ruling", "expected"),
    [
        (Ruling.APPROVED, "attempt 2: codex ended ok: approves 0123456789: fine"),
        (Ruling.CHANGES_REQUESTED, "attempt 2: codex ended ok: requests changes of 0123456789: fine"),
    ],
)
def test_a_verdict_is_told_with_the_commit_it_is_bound_to(ruling: Ruling, expected: str) -> None:
    wp = replace(REVIEWING, verdict=Verdict(ruling, SHA, "id1", "codex", "fine"), outcomes=(Outcome.OK,))
    assert words.tell(wp, AgentExited("id1", AgentReport(Outcome.OK))) == expected


def test_a_void_verdict_is_never_told_as_one() -> None:
    told = words.tell(REVIEWING, AgentExited("id1", AgentReport(Outcome.OK), tampered=("a.py",)))
    assert "its verdict is void: a.py" in told
    assert "approves" not in told


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", "a [31mb"),
        ("a\r\nb", "a b"),
        ("a\u202eb", "a b"),
        ("\ud800", ""),
        ("x" * 500, "x" * 399 + "…"),
    ],
)
def test_text_of_others_is_made_harmless(raw: str, shown: str) -> None:
    assert words.clean(raw) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59.9, "59s"), (60, "1m 00s"), (7260, "2h 01m"), (-5, "0s")]
)
def test_spans_are_short(seconds: float, shown: str) -> None:
    assert words.elapsed(seconds) == shown


@pytest.mark.asyncio
async def test_the_table_shows_every_work_package_and_interprets_no_markup() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, height=40)
    state = MissionState(
        "demo", {"WP01": Lane.IN_REVIEW, "WP02": Lane.PLANNED}, {"WP01": (), "WP02": ("WP01",)}
    )
    view = LiveView(console, state)
    view.saw(replace(REVIEWING, note="[red]not[/red] markup"), Submitted())
    console.print(view.table())
    shown = file.getvalue()
    assert "demo: 0 of 2 approved or done" in shown
    assert "codex" in shown
    assert "[red]not[/red] markup" in shown
    assert "after WP01" in shown


def test_nothing_that_a_console_prints_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", "s3cr3t-value")
    shown = io.StringIO()
    console = SteadyConsole(file=shown, width=80)

    console.print("[bold]the key[/] s3cr3t-value", markup=True)
    console.out("sk-ant-api03-abcDEF123456789")

    assert shown.getvalue() == "the key [redacted]\n[redacted]\n"
