"""Lines, table and words: what people see of events."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from rich.console import Console
from trio.testing import MockClock

from spec_kitty_orchestrator.core.describe import clean, duration
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Event, HostRefused, Submitted
from spec_kitty_orchestrator.core.forecast import Forecast, Range
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Result,
    Role,
    Usage,
)
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, ResourcesShort, Waiting
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import Grant, Turn, WorkPackage
from spec_kitty_orchestrator.views import console as consoles
from spec_kitty_orchestrator.views.console import PatientFile, SteadyConsole
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.plain import PlainView

POLICY = Policy(("claude-code",), ("codex",))
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHA = "0123456789" * 4
ATTEMPT = Attempt("id1", 2, Role.REVIEW, "codex", "/r/.kittify/logs/m/WP01/02-review-codex", head=SHA)
REVIEWING = WorkPackage("WP01", phase=Phase.REVIEWING, lane=Lane.IN_REVIEW, attempts=(ATTEMPT,))


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.passed)


def show(
    view: PlainView | LiveView, wp: WorkPackage, event: Event, *others: WorkPackage, took_s: float = 0.0
) -> None:
    wps = {one.id: one for one in (wp, *others)}
    view.saw(RunState(POLICY, wps), Entry(START, wp.id, event, took_s))


def plain() -> tuple[PlainView, Clock, io.StringIO]:
    clock, file = Clock(), io.StringIO()
    return PlainView(Console(file=file, width=60), clock), clock, file


def test_an_event_is_one_line_with_its_time_however_long() -> None:
    view, _, file = plain()
    show(view, REVIEWING, HostRefused("transition", "X", "two\nlines " + "long " * 100, Lane.PLANNED))
    assert file.getvalue().count("\n") == 1
    assert file.getvalue().startswith("2026-01-02T03:04:05Z WP01 ")


def test_a_heartbeat_names_what_is_in_work_and_for_how_long() -> None:
    view, clock, file = plain()
    show(view, REVIEWING, AttemptOpened(ATTEMPT))
    clock.passed = 65
    view.beat()
    assert file.getvalue().splitlines()[-1].endswith("in work: WP01 reviewing by codex for 1m 05s")


def test_a_heartbeat_forgets_what_is_finished() -> None:
    view, _, file = plain()
    show(view, REVIEWING, AttemptOpened(ATTEMPT))
    show(view, replace(REVIEWING, phase=Phase.FINISHED), Submitted())
    view.beat()
    assert file.getvalue().splitlines()[-1].endswith("nothing is in work")


def test_a_heartbeat_says_what_is_left_as_time_passes() -> None:
    view, clock, file = plain()
    view.expects(Forecast(Range(600, 1200), None, 9, "", 1.0))
    clock.passed = 300
    view.beat()
    assert file.getvalue().endswith("nothing is in work; about 5 min to 15 min left\n")
    clock.passed = 1300
    view.beat()
    assert file.getvalue().endswith("nothing is in work\n")


def test_the_table_says_what_is_left() -> None:
    passed = [0.0]
    view = LiveView(Console(file=io.StringIO(), width=200), lambda: passed[0])
    view.began(MissionState("demo", {"WP01": Lane.PLANNED}, {"WP01": ()}))
    view.expects(Forecast(Range(600, 1200), Range(1.0, 2.0), 9, "", 1.0))
    passed[0] = 60.0
    told = "demo: 0 of 1 approved or done, 1m 00s, about 9 min to 19 min left, $1.00 to $2.00 more"
    assert str(view.table().title) == told


def test_a_reader_that_is_gone_does_not_end_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    view = PlainView(SteadyConsole(file=Closed()), Clock())
    view.said("one")
    show(view, REVIEWING, Submitted())


@pytest.mark.parametrize(
    ("ruling", "expected"),
    [
        (Ruling.APPROVED, "codex approved 0123456789 after 2m 05s, $1.50 (attempt 2)"),
        (
            Ruling.CHANGES_REQUESTED,
            "codex asks for changes of 0123456789 after 2m 05s, $1.50 (attempt 2): fine",
        ),
    ],
)
def test_a_verdict_is_told_with_its_commit_its_time_and_its_cost(ruling: Ruling, expected: str) -> None:
    view, _, file = plain()
    report = AgentReport(Outcome.OK, usage=Usage(cost_usd=1.5))
    verdict = Verdict(ruling, SHA, "id1", "codex", "fine")
    show(view, REVIEWING, AgentExited("id1", report, verdict=verdict), took_s=125)
    assert file.getvalue() == f"2026-01-02T03:04:05Z WP01  {expected}\n"


def test_a_void_verdict_is_never_told_as_one() -> None:
    view, _, file = plain()
    verdict = Verdict(Ruling.APPROVED, SHA, "id1", "codex", "fine")
    exited = AgentExited("id1", AgentReport(Outcome.OK), tampered=("a.py",), verdict=verdict)
    show(view, REVIEWING, exited)
    assert "codex's review does not count: a.py" in file.getvalue()
    assert "approved" not in file.getvalue()


def test_an_event_of_the_run_is_a_line_of_the_run_s_in_both_views() -> None:
    view, _, file = plain()
    view.saw(RunState(POLICY), Entry(START, "", ResourcesShort("no memory")))
    assert file.getvalue() == "2026-01-02T03:04:05Z run   nothing new starts: no memory\n"
    above = io.StringIO()
    live = LiveView(Console(file=above, width=80))
    live.saw(RunState(POLICY), Entry(START, "", ResourcesShort("")))
    assert above.getvalue() == "the machine has room again; work goes on\n"


def test_the_table_says_what_each_work_package_waits_for() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, height=40)
    view = LiveView(console)
    waits = WorkPackage("WP01", dependencies=("WP07", "WP08"))
    needed = {one: WorkPackage(one) for one in waits.dependencies}
    state = RunState(POLICY, {"WP01": waits, **needed})
    view.saw(state, Entry(START, "", Waiting({"WP01": waits.turn.waits})))
    console.print(view.table())
    assert "after WP07, WP08" in file.getvalue()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", "ab"),
        ("a\r\nb", "a b"),
        ("a\u202eb", "ab"),
        ("\ud800", "\ufffd"),
        ("x" * 500, "x" * 399 + "…"),
    ],
)
def test_text_of_others_is_made_harmless(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (9.94, "9.9s"), (59.9, "59s"), (60, "1m 00s"), (7260, "2h 01m"), (-5, "0s")],
)
def test_spans_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.asyncio
async def test_the_table_shows_every_work_package_and_interprets_no_markup() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, height=40)
    state = MissionState(
        "demo", {"WP01": Lane.IN_REVIEW, "WP02": Lane.PLANNED}, {"WP01": (), "WP02": ("WP01",)}
    )
    view = LiveView(console)
    view.began(state)
    other = WorkPackage("WP02", dependencies=("WP01",))
    said = "[red]not[/red] markup"
    foreign = WorkPackage("WP03", lane=Lane.BLOCKED, phase=Phase.FINISHED, result=Result.BLOCKED, note=said)
    show(view, replace(REVIEWING, turn=Turn(Grant.SLOT)), Submitted(), other, foreign)
    console.print(view.table())
    shown = file.getvalue()
    assert "demo: 0 of 3 approved or done" in shown
    assert "codex reviews, round 1 of 3" in shown
    assert "after WP01" in shown
    assert "[red]not[/red] markup" in shown


def test_nothing_that_a_console_prints_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", "s3cr3t-value")
    shown = io.StringIO()
    console = SteadyConsole(file=shown, width=80)

    console.print("[bold]the key[/] s3cr3t-value", markup=True)
    console.out("sk-ant-api03-abcDEF123456789")

    assert shown.getvalue() == "the key [redacted]\n[redacted]\n"


def test_the_table_shows_who_is_at_work_however_many_work_packages_there_are() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, height=12)
    lanes = {f"WP{n:02d}": Lane.DONE if n < 30 else Lane.PLANNED for n in range(1, 41)}
    view = LiveView(console)
    view.began(MissionState("demo", lanes, dict.fromkeys(lanes, ())))
    at_work = replace(REVIEWING, id="WP40", turn=Turn(Grant.SLOT))
    blocked = WorkPackage("WP39", phase=Phase.FINISHED, lane=Lane.BLOCKED, note="needs a person")
    rest = [WorkPackage(one, lane=lane) for one, lane in lanes.items() if one not in ("WP39", "WP40")]
    show(view, at_work, Submitted(), *rest, blocked)
    console.print(view.table())
    rows = [line.split()[:2] for line in file.getvalue().splitlines()[1:]]
    assert rows[:3] == [["!", "WP39"], ["▶", "WP40"], ["·", "WP30"]]
    assert len(rows) == 8
    assert file.getvalue().splitlines()[-1].split() == ["+33", "4", "waiting,", "29", "done"]


def test_the_table_at_80_columns_says_which_one_it_is_and_all_that_it_waits_for() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, height=24)
    view = LiveView(console)
    title = "Read the configuration of every plug-in"
    view.began(MissionState("demo", {"WP01": Lane.PLANNED}, {"WP01": ()}, titles={"WP01": title}))
    needed = tuple(f"WP{number:02}" for number in range(2, 8))
    waits = WorkPackage("WP01", dependencies=needed)
    show(view, waits, Submitted(), *map(WorkPackage, needed))
    console.print(view.table())
    (row,) = (line for line in file.getvalue().splitlines() if "WP01" in line.split()[:2])
    assert row.startswith("·  WP01  Read the conf")
    assert f"after {', '.join(needed)}" in row


class Pipe:
    """A pipe that is full: whoever writes to it waits until somebody reads."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self.filling = 0
        with suppress(BlockingIOError):
            while True:
                self.filling += os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        self.file = os.fdopen(writer, "w")

    def read(self) -> str:
        """Read all that is there, and what comes until the writer closes."""
        with os.fdopen(self.reader, "rb") as file:
            return file.read()[self.filling :].decode()


def test_a_reader_that_pauses_delays_nobody_and_gets_every_line() -> None:
    pipe = Pipe()
    output = PatientFile(pipe.file)
    view = PlainView(SteadyConsole(file=output))

    def write() -> None:
        for number in range(5000):
            view.said(f"line {number}")

    written = threading.Thread(target=write, daemon=True)
    written.start()
    written.join(30)
    assert not written.is_alive()
    assert output.behind

    reader = ThreadPoolExecutor(1).submit(pipe.read)
    anyio.run(output.drain)
    assert not output.behind
    pipe.file.close()
    lines = reader.result(30).splitlines()
    assert [line.split()[-1] for line in lines] == [str(n) for n in range(5000)]


def test_what_no_reader_could_ever_take_in_is_dropped_and_counted() -> None:
    pipe = Pipe()
    output = PatientFile(pipe.file, 10)
    for text in ("first\n", "second\n", "third\n"):
        output.write(text)
    reader = ThreadPoolExecutor(1).submit(pipe.read)
    anyio.run(output.drain)
    output.write("last\n")
    anyio.run(output.drain)
    pipe.file.close()
    assert reader.result(30) == "first\n(2 lines are missing here: nobody read them in time)\nlast\n"


def test_a_reader_that_never_comes_back_is_not_waited_for_without_end() -> None:
    pipe = Pipe()
    output = PatientFile(pipe.file)
    output.write("lost\n")
    clock = MockClock(autojump_threshold=0)
    anyio.run(output.drain, backend="trio", backend_options={"clock": clock})
    assert clock.current_time() >= consoles.READER_PATIENCE_S
    os.close(pipe.reader)
    pipe.file.close()


def test_a_reader_that_is_gone_is_written_to_no_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        output = PatientFile(file)
        for _ in range(3):
            output.write("lost\n")
            anyio.run(output.drain)
        assert not output.behind


def test_a_heartbeat_says_what_is_begun_and_waits() -> None:
    view, clock, file = plain()
    waiting = replace(REVIEWING, attempts=(), turn=Turn(waits="waits for codex: at most 1 at once"))
    show(view, waiting, Submitted())
    clock.passed = 65
    view.beat()
    told = "nothing is in work; waiting: WP01 for 1m 05s (waits for codex: at most 1 at once)"
    assert file.getvalue().splitlines()[-1].endswith(told)
