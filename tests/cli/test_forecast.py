"""What `--dry-run`, `plan` and `status` foresee, through the command and a host that answers from files."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import anyio
import pytest
from tests.cli.journals import AT, SLUG, Line, event, records, start_line, write_journal

from spec_kitty_orchestrator.app.forecasts import Forecaster
from spec_kitty_orchestrator.core.events import Resolving
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState, begin
from spec_kitty_orchestrator.core.run_events import Entry, RunStarted

Project = Any  # the class lives in conftest, which tests cannot import

EARLIER = "old-01XYZ"
UNKNOWN = "No forecast: no attempt has been recorded in this repository yet"


def attempt(wp: str, role: str, took_s: float, cost_usd: float) -> list[Line]:
    """Return the lines of an attempt that ended well."""
    made = {"id": f"{wp}-{role}", "number": 1, "role": role, "agent": "scripted", "directory": "d"}
    ended = {"outcome": "ok", "usage": {"cost_usd": cost_usd}}
    verdict = {"ruling": "approved", "head": "h", "attempt_id": made["id"], "reviewer": "scripted"}
    exited = event(wp, "agent_exited", attempt_id=made["id"], report=ended, verdict=verdict)
    return [event(wp, "attempt_opened", attempt=made), {**exited, "took_s": took_s}]


def recorded() -> list[Line]:
    """Return the lines of a run of five work packages: ten minutes and five, half a dollar and a quarter."""
    both = (
        [*attempt(f"WP0{number}", "implement", 600, 0.5), *attempt(f"WP0{number}", "review", 300, 0.25)]
        for number in range(1, 6)
    )
    return [start_line(EARLIER), *(line for lines in both for line in lines)]


def simulated(project: Project, *args: str) -> Mapping[str, Any]:
    done = project.run("plan", "--mission", SLUG, "--simulate", "--json", *args)
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def test_a_dry_run_foresees_nothing_where_nothing_was_recorded(project: Project) -> None:
    assert UNKNOWN in project.orchestrate("--dry-run").stdout


def test_a_dry_run_foresees_the_run_from_other_missions_of_the_repository(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    shown = project.orchestrate("--dry-run").stdout
    (line,) = (one for one in shown.splitlines() if one.startswith("Forecast:"))
    assert "from 10 attempts in this repository; bounded by the chain WP01 -> WP0" in line
    assert " min to " in line
    assert "$" in line


def test_an_archived_journal_counts_and_a_damaged_one_does_not(project: Project) -> None:
    journal = write_journal(project, *recorded(), slug=EARLIER)
    journal.rename(journal.with_name("journal-20260101T000000.000001Z.jsonl"))
    write_journal(project, slug="broken-01").write_text("{}\n{}\n")
    assert "from 10 attempts" in project.orchestrate("--dry-run").stdout


def test_plan_shows_what_a_dry_run_shows(project: Project) -> None:
    flags = ("--impl-agent", "scripted", "--review-agent", "scripted", "--max-concurrent", "2")
    planned = project.run("plan", "--mission", SLUG, *flags)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout == project.orchestrate("--dry-run", "--max-concurrent", "2").stdout


def test_a_simulation_compares_settings_and_says_what_bounds_each(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    done = project.run("plan", "--mission", SLUG, "--simulate", "--max-concurrent", "1..3")
    assert done.returncode == 0, done.stderr
    first, head, one, two, three, *_ = done.stdout.splitlines()
    assert first == f"Mission {SLUG}, simulated from 10 attempts in this repository"
    assert head.split() == ["slots", "duration", "cost", "bounded", "by"]
    assert [row.split()[0] for row in (one, two, three)] == ["1", "2", "3"]
    assert one.endswith("its only slot")
    assert "the chain WP01 -> " in three


def test_a_simulation_as_json_is_one_document(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    found = simulated(project, "--max-concurrent", "2")
    assert (found["mission"], found["attempts"]) == (SLUG, 10)
    (row,) = found["settings"]
    assert row["max_concurrent"] == 2
    assert row["duration_s"][0] < 45 * 60 < row["duration_s"][1]
    assert row["cost_usd"][0] < 3.0 < row["cost_usd"][1]


def test_a_simulation_without_records_is_empty(project: Project) -> None:
    assert simulated(project)["settings"] == []
    assert UNKNOWN in project.run("plan", "--mission", SLUG, "--simulate").stdout


def test_of_a_mission_that_is_done_nothing_is_foreseen(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    project.lanes({"WP01": "done", "WP02": "approved"})
    done = project.run("plan", "--mission", SLUG, "--simulate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing is left to do" in done.stderr


@pytest.mark.parametrize("span", ["0", "3..1", "1..300", "many"])
def test_a_span_of_slots_that_is_none_is_refused(project: Project, span: str) -> None:
    done = project.run("plan", "--mission", SLUG, "--simulate", "--max-concurrent", span)
    assert done.returncode == 2
    assert "such as 1..8" in done.stderr


def test_a_status_foresees_what_is_left_when_it_is_asked(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    mission = {"slug": SLUG, "lanes": {"WP01": "planned"}, "dependencies": {"WP01": []}}
    write_journal(project, start_line(mission=mission))
    assert "What is left: about " in project.run("status", "--mission", SLUG, "--forecast").stdout
    assert "What is left" not in project.run("status", "--mission", SLUG).stdout
    document = json.loads(project.run("status", "--mission", SLUG, "--forecast", "--format", "json").stdout)
    assert document["forecast"]["attempts"] == 10
    assert not (records(project) / "forecast").exists()


class Shown:
    """A view that keeps what it expects."""

    def __init__(self) -> None:
        self.expected: list[Forecast] = []
        self.seen = self.messages = 0
        self.told = anyio.Event()

    def saw(self, state: RunState, line: object) -> None:
        self.seen += 1

    def said(self, message: str) -> None:
        self.messages += 1

    def expects(self, found: Forecast) -> None:
        self.expected.append(found)
        self.told.set()


def begun() -> tuple[RunState, Entry]:
    policy, at = Policy(("scripted",), ("scripted",)), datetime.fromisoformat(AT)
    mission = MissionState(SLUG, {"WP01": Lane.PLANNED}, {"WP01": ()})
    state = begin(RunState(policy), RunStarted(at, mission, "me", policy, "1"))
    return state, Entry(at, "WP01", Resolving())


@pytest.mark.anyio
async def test_a_run_is_foreseen_while_it_goes_on_and_the_view_hears_everything(project: Project) -> None:
    write_journal(project, *recorded(), slug=EARLIER)
    view = Shown()
    forecaster = Forecaster(project.root, view)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forecaster.keep_foreseeing)
            forecaster.saw(*begun())
            forecaster.said("hello")
            await view.told.wait()
            tasks.cancel_scope.cancel()
    (found,) = view.expected
    assert found.attempts == 10
    assert 900 in found.seconds
    assert (view.seen, view.messages) == (1, 1)


@pytest.mark.anyio
async def test_a_forecast_that_fails_ends_no_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        failed.set()
        raise AssertionError

    failed = anyio.Event()
    forecaster = Forecaster(project.root, Shown())
    monkeypatch.setattr(forecaster, "_foresee", fails)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forecaster.keep_foreseeing)
            forecaster.saw(*begun())
            await failed.wait()
            tasks.cancel_scope.cancel()
