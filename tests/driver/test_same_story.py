"""The plain lines alone, the status alone and the report alone tell of a run what its journal holds."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.console import Console
from tests.driver.builders import DIAMOND, Power, Stage, longer, scripted

from spec_kitty_orchestrator.core.advice import needs, next_commands
from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget, Gate
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_journal import LoopClock
from spec_kitty_orchestrator.testing.scripted_agents import Play, Script, verdict
from spec_kitty_orchestrator.views.plain import PlainView
from spec_kitty_orchestrator.views.report.page import page
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.status import MissionStatus
from spec_kitty_orchestrator.views.status_rows import mission_rows
from spec_kitty_orchestrator.views.watch.details import farewell

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

COST = Usage(1000, 100, 0.25)


@dataclass(frozen=True)
class Story:
    """What a mission goes through.

    Attributes:
        cut: at which line of the journal the power fails, 0 if it does not.
        starts: how often it is run.
    """

    script: Script = lambda _: Play(seconds=5, usage=COST)
    settings: Mapping[str, object] = field(default_factory=dict)
    cut: int = 0
    starts: int = 1


def rejects(times: int) -> Script:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW and request.number <= 2 * times and request.wp_id == "WP02":
            return Play(text=verdict(request, "changes_requested", "mend it"), usage=COST)
        return Play(seconds=5, usage=COST)

    return script


def fails(outcome: Outcome, times: int) -> Script:
    def script(request: AttemptRequest) -> Play:
        failing = request.wp_id == "WP03" and request.number <= times
        return Play(outcome=outcome, retry_after_s=90, usage=COST) if failing else Play(usage=COST)

    return script


def red(wp_id: str, head: str) -> list[bool]:
    return [False]


GATED = longer(gates=(Gate("tests", ("true",)),))
TWO = longer(impl_agents=("ada", "eve"))

STORIES: Mapping[str, Story] = {
    "all goes well": Story(),
    "one rejection": Story(rejects(1)),
    "rejected until a person must look": Story(rejects(9)),
    "a crash of an agent": Story(fails(Outcome.CRASHED, 1)),
    "an agent that always crashes": Story(fails(Outcome.CRASHED, 99)),
    "a quota": Story(fails(Outcome.RATE_LIMITED, 1)),
    "a quota with a stand-in": Story(fails(Outcome.RATE_LIMITED, 1), {"policy": TWO}),
    "nothing changed": Story(scripted(WP02_implement=Play(edits=(), text="I did nothing.", usage=COST))),
    "a verdict that none can use": Story(scripted(WP02_review=Play(text="fine", usage=COST))),
    "no money is left": Story(settings={"policy": longer(budget=Budget(max_cost_usd=1.0))}),
    "a cause of several": Story(
        lambda one: Play(outcome=Outcome.CRASHED if one.wp_id in ("WP02", "WP03") else Outcome.OK, usage=COST)
    ),
    "a kill": Story(cut=25),
    "a kill at work": Story(rejects(1), cut=60),
    "a kill, and on": Story(rejects(1), cut=40, starts=2),
    "a start after the end": Story(rejects(9), starts=2),
}


@dataclass(frozen=True)
class Told:
    """What somebody says of a work package."""

    done: bool
    needs_a_person: bool
    attempts: int
    rejections: int
    cost: str


@pytest.mark.parametrize("name", STORIES)
async def test_lines_status_and_report_tell_what_the_journal_holds(
    stage: Make, name: str, tmp_path: Path
) -> None:
    story = STORIES[name]
    mission = stage(DIAMOND, story.script, **story.settings)
    shown = io.StringIO()
    view = PlainView(Console(file=shown, width=400), LoopClock().now)
    for number in range(story.starts):
        mission.journal.dies_at = story.cut if number == 0 and story.cut else None
        await _start(mission, view, killed=mission.journal.dies_at is not None)
    lines = mission.journal.lines
    truth = _of_journal(mission)
    report = record(lines, mission.policy).report(lines[-1].at, active=False)
    assert _of_report(report) == truth
    assert _of_page(report, tmp_path) == truth
    status = MissionStatus(report)
    assert _of_status(status.document([])) == truth
    assert _of_rows(status) == {wp: (one.done, one.needs_a_person) for wp, one in truth.items()}
    commands = {wp: next_commands(report).get(wp, "") for wp, one in truth.items() if one.needs_a_person}
    assert all(commands.values())
    assert _commands_of_report(report) == commands
    assert _commands_of_status(status.document([])) == commands
    assert _commands_of_watch(report) == commands
    assert _of_lines(shown.getvalue(), truth) == {
        # Lines do not say that what was cut off still needs a person.
        wp: replace(one, cost="")
        for wp, one in truth.items()
    }


async def _start(mission: Stage, view: PlainView, *, killed: bool) -> None:
    if not killed:
        await mission.run(observer=view)
        return
    with anyio.fail_after(mission.limit_s), pytest.raises(Power):
        await mission.orchestrator(observer=view).run()


def _of_journal(mission: Stage) -> dict[str, Told]:
    wps = fold(mission.journal.lines, mission.policy).wps.values()
    return {
        wp.id: Told(
            wp.lane.complete,
            wp.lane is Lane.BLOCKED or wp.result in ("parked", "blocked"),
            len(wp.attempts),
            len(wp.review.rejected),
            f"${wp.usage.cost_usd or 0:.2f}",
        )
        for wp in wps
    }


def _of_report(report: Report) -> dict[str, Told]:
    return {
        wp.id: Told(
            wp.situation.status is Status.DONE,
            wp.situation.status is Status.NEEDS_YOU,
            len(wp.attempts),
            sum(one.bad == "rejected" for one in wp.attempts),
            f"${wp.usage.cost_usd or 0:.2f}",
        )
        for wp in report.wps
    }


def _of_status(document: Mapping[str, Any]) -> dict[str, Told]:
    return {
        wp["id"]: Told(
            wp["status"] == "done",
            wp["status"] == "needs you",
            wp["attempts"],
            wp["rejections"],
            f"${wp['used']['cost_usd'] or 0:.2f}",
        )
        for wp in document["work_packages"]
    }


def _of_rows(status: MissionStatus) -> dict[str, tuple[bool, bool]]:
    """Return of the lines of `status` who is done, and who needs a person."""
    found = {}
    for row in mission_rows(status, 100):
        words = "".join(text for text, _ in row.head).split()
        if len(words) > 1 and words[1].startswith("WP"):
            found[words[1]] = words[0] == Status.DONE.glyph, words[0] == Status.NEEDS_YOU.glyph
    return found


def _of_lines(shown: str, truth: Mapping[str, Told]) -> dict[str, Told]:
    opened = re.compile(r" \S+ (implements|reworks it|reviews \S+), attempt ")
    found = {}
    for wp in truth:
        told = [line for line in shown.splitlines() if line.split()[1] == wp]
        last = [one for one in told if re.search(r" (done: approved|needs you: |blocked: )", one)]
        found[wp] = Told(
            bool(last) and " done: approved" in last[-1],
            bool(last) and " done: approved" not in last[-1],
            len(list(filter(opened.search, told))),
            len([one for one in told if " asks for changes" in one]),
            "",
        )
    return found


def _commands_of_report(report: Report) -> dict[str, str]:
    """Return the one command of each need that puts its work packages back to work."""
    return {
        wp.id: next(
            command for _, command in one.steps if {"retry", "move-task"}.intersection(command.split())
        )
        for one in needs(report)
        for wp in one.wps
        if wp.situation.status is Status.NEEDS_YOU
    }


def _commands_of_status(document: Mapping[str, Any]) -> dict[str, str]:
    return {wp["id"]: wp["commands"][1] for wp in document["work_packages"] if wp["commands"]}


def _commands_of_watch(report: Report) -> dict[str, str]:
    found = {}
    for wp in report.of(Status.NEEDS_YOU):
        rows = ["".join(text for text, _ in line) for line in farewell(report, {wp.id: ()})]
        (found[wp.id],) = (row.partition("next: ")[2] for row in rows if "next: " in row)
    return found


class _Rows(HTMLParser):
    """The cells of the table of work packages."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._inside = "sort" in (dict(attrs).get("class") or "").split()
        elif self._inside and tag == "tr":
            self.rows.append([])
        elif self._inside and tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "table"

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def _of_page(report: Report, place: Path) -> dict[str, Told]:
    parser = _Rows()
    texts = Texts(report, Redactor([]), place, place)
    parser.feed(page(report, texts, "1.0.0", str(place / "journal.jsonl")))
    found = {}
    for row in filter(None, parser.rows):
        wp, state, _, _, _, attempts, rejected, _, cost, _ = (one.strip() for one in row)
        found[wp.split()[0]] = Told(
            state.endswith("done"),
            state.endswith("needs you"),
            int(attempts),
            int(rejected) if rejected.isdecimal() else 0,
            cost.split()[0] if cost.startswith("$") else "$0.00",
        )
    return found
