"""`watch` as a terminal shows it: its screens as text, its keys, and what it does while a run goes on."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from spec_kitty_orchestrator.core import events, report
from spec_kitty_orchestrator.core.model import AgentReport, Lane, Outcome, Role
from spec_kitty_orchestrator.core.run_events import AnyEvent
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.views.watch.line_view import LineView
from spec_kitty_orchestrator.views.watch.overview import tone
from spec_kitty_orchestrator.views.watch.screen import CLOCK_LOOKS, WatchApp
from spec_kitty_orchestrator.views.watch.spans import text_of

from .mission import IMPLEMENTS, POLICY, TOO_LARGE, Mission, Told, at, csv_import, step

pytestmark = pytest.mark.asyncio

DATA = Path(__file__).with_name("data")
UPDATE = "UPDATE_SCREENS" in os.environ
"""Whether the screens are to be written anew: look at what changed then."""

SIZES = ((80, 24), (120, 40), (160, 50), (60, 14))


def screen(app: WatchApp) -> str:
    """Return what the terminal shows."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


async def settled(pilot: Pilot[None]) -> None:
    """Wait until what a key began is drawn."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@asynccontextmanager
async def watching(told: Told, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Any]:
    """Show a mission; the function that is yielded presses keys and returns the screen."""
    app = WatchApp(told)
    async with app.run_test(size=size) as pilot:

        async def press(*keys: str) -> str:
            for key in keys:
                await pilot.press(key)
                await settled(pilot)
            return screen(app)

        press.pilot, press.app = pilot, app  # type: ignore[attr-defined]
        await settled(pilot)
        yield press


Press = Callable[..., Awaitable[str]]


def expect(name: str, shown: str) -> None:
    """Compare a screen with the one that is kept."""
    file = DATA / f"watch-{name}.txt"
    if UPDATE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(shown)
    assert shown == file.read_text()


def pane(app: WatchApp) -> list[str]:
    return [text_of(line) for line in app.query_one("#pane", LineView).lines]


def chosen(app: WatchApp) -> str:
    view = app.query_one("#list", LineView)
    return text_of(view.lines[min(view.chosen)])[3:7]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_screen_is_as_it_was_looked_at(size: tuple[int, int]) -> None:
    async with watching(Told(csv_import(), 90), size) as press:
        expect("{}x{}".format(*size), await press())


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("timeline", "t"),
        ("graph", "g"),
        ("help", "question_mark"),
        ("full", "enter"),
        ("events", "e"),
        ("verdict", "v"),
        ("diff", "d"),
    ],
)
async def test_each_key_opens_what_it_says(name: str, keys: str) -> None:
    async with watching(Told(csv_import(), 90), (100, 30)) as press:
        before = await press()
        expect(name, await press(keys))
        assert await press("escape", "l") == before


async def test_who_needs_a_person_comes_first_and_says_why_and_what_to_do() -> None:
    async with watching(Told(csv_import(), 90)) as press:
        shown = await press()
        assert chosen(press.app) == "WP06"
        assert shown.index("NEEDS YOU 1") < shown.index("RUNNING 1") < shown.index("WAITING 1")
        told = " ".join(" ".join(pane(press.app)).split())
        assert "retry WP06 --mission csv-import-01M8FXBP --note" in told
        assert "so an upload of 3 GB takes the server down" in told


async def test_a_key_picks_another_and_f_follows_the_first_again() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        shown = await press("down")
        assert chosen(press.app) == "WP05"
        assert "runs   pytest -q tests/test_import.py" in shown
        told.mission.happens(91, "WP05", *())
        await press("j", "k")
        assert chosen(press.app) == "WP05"
        await press("end")
        assert chosen(press.app) == "WP04"
        await press("home", "pagedown", "f")
        assert chosen(press.app) == "WP06"


async def test_what_an_agent_does_now_stands_below_its_work_package_and_goes_on() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        assert "└ runs pytest -q tests/test_import.py" in await press("down")
        told.logs["WP05-1"].all.append(step("edits", "src/importer/\x1b[2J[bold]rows.py"))
        for _ in range(CLOCK_LOOKS):
            press.app.look()
        await settled(press.pilot)
        shown = screen(press.app)
        assert shown.count("edits") >= 2
        assert "[bold]rows.py" in shown


async def test_a_run_that_goes_on_and_ends_is_seen_without_a_key() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        assert "4/10 done" in await press()
        told.mission.lines += later().lines
        told.seconds = 140
        press.app.look()
        await settled(press.pilot)
        assert "5/10 done" in screen(press.app)
        told.mission.ends(150, 1)
        told.seconds, told.active = 160, False
        press.app.look()
        await settled(press.pilot)
        assert "exit 1, 2m 30s" in screen(press.app)
        assert "slots" not in screen(press.app)


def later() -> Mission:
    """Tell how WP05 goes on."""
    told = csv_import()
    known = len(told.lines)
    attempt = "WP05-1"
    told._heads["WP05"] = "b" * 40
    from spec_kitty_orchestrator.core import events
    from spec_kitty_orchestrator.core.model import AgentReport, Evidence, Outcome

    told.happens(95, "WP05", events.AgentExited(attempt, AgentReport(Outcome.OK)))
    told.happens(96, "WP05", events.Committed(Evidence("a" * 40, "b" * 40, tree="b" * 40)))
    told.gates(97, 99, "WP05")
    told.reviews(100, 110, "WP05")
    told.lines = told.lines[known:]
    return told


@pytest.mark.parametrize("size", [(80, 24), (124, 34), (60, 14), (200, 60), (30, 8), (4, 3)])
async def test_the_terminal_may_change_its_size_at_any_time(size: tuple[int, int]) -> None:
    async with watching(Told(csv_import(), 90), (80, 24)) as press:
        before = await press()
        await press.pilot.resize_terminal(*size)
        await settled(press.pilot)
        for key in ("t", "escape", "enter", "escape", "down", "up", "f"):
            assert all(len(line) <= size[0] for line in (await press(key)).splitlines())
        await press.pilot.resize_terminal(80, 24)
        await settled(press.pilot)
        assert await press() == before


async def test_a_filter_keeps_what_matches_and_escape_clears_it() -> None:
    async with watching(Told(csv_import(), 90)) as press:
        shown = await press("slash", "w", "p", "1", "0", "enter")
        assert "WP10" in shown
        assert "WP07 Command" not in shown
        assert "filter: wp10" in shown
        assert chosen(press.app) == "WP10"
        # The letters were the filter's; now they are keys again.
        assert "longest chain" in await press("t")
        shown = await press("escape", "escape")
        assert "WP07 Command" in shown
        assert "nothing matches 'zzz'" in await press("slash", "z", "z", "z")
        assert "WP07 Command" in await press("escape")


async def test_what_is_done_is_hidden_and_shown() -> None:
    async with watching(Told(csv_import(), 90)) as press:
        assert "✓ WP01" in await press()
        assert "✓ WP01" not in await press("z")
        assert "✓ WP01" in await press("z")


def many() -> Mission:
    """Tell a mission of 99 work packages, of which 8 are at work."""
    titles = {f"WP{number:02}": f"Part {number} of the whole" for number in range(1, 100)}
    told = Mission(titles, dict.fromkeys(list(titles)[60:], ("WP01",)), replace(POLICY, max_concurrent=8))
    for number in range(1, 41):
        told.done(number, f"WP{number:02}")
    for number in range(41, 49):
        told.claims(80, f"WP{number}")
        told.opens(82, f"WP{number}", Role.IMPLEMENT, "claude-code", *IMPLEMENTS)
    return told


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: "{}x{}".format(*size))
async def test_99_work_packages_are_paged_through_with_the_chosen_one_in_sight(
    size: tuple[int, int],
) -> None:
    async with watching(Told(many(), 90), size) as press:
        expect("99-{}x{}".format(*size), await press())
        for key in ("pagedown", "pagedown", "end", "pageup", "home"):
            shown = await press(key)
            assert chosen(press.app) in shown
        assert "WP01" in await press("t")
        assert "longest chain" in await press("end")


HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m [red]markup[/red] [@click=app.quit]x[/] \u202egnihton\n\rover"


async def test_titles_and_logs_with_escape_sequences_and_markup_are_inert() -> None:
    told = Mission({"WP01": HOSTILE, "WP02": "‖ 幅の広い文字" * 9}, {})
    told.claims(0, "WP01")
    told.implements(2, 10, "WP01")
    told.gates(11, 12, "WP01")
    told.reviews(13, 20, "WP01", TOO_LARGE, summary=HOSTILE, lane=Lane.IN_PROGRESS)
    told.opens(22, "WP01", Role.IMPLEMENT, "claude-code", step("says", HOSTILE), step("runs", "x" * 5000))
    async with watching(Told(told, 30)) as press:
        for keys in ("l", "e", "v", "t", "g", "enter"):
            shown = await press(keys)
            assert not set(shown) & {"\x1b", "\x07", "\r", "\u202e"}
            assert "[red]" in shown or keys == "t"


async def test_a_journal_that_cannot_be_read_on_is_told_in_one_line() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        told.trouble = "the journal cannot be read on: line 7 is damaged\nand more"
        press.app.look()
        first, *rest = (await press("down")).splitlines()
        assert "cannot be read on: line 7 is damaged and more" in first
        assert any("WP05" in line for line in rest)


async def test_a_mission_of_which_nothing_is_known_yet_is_shown() -> None:
    async with watching(Told(Mission({}, {}), 0)) as press:
        for key in ("l", "t", "g", "v", "enter", "down", "escape"):
            assert await press(key)
        assert "no work packages yet" in await press()


async def test_of_a_long_log_the_end_is_shown_and_more_on_scrolling_up() -> None:
    mission = csv_import()
    mission.steps["WP05-1"] = tuple(step("says", f"line {number}") for number in range(1000))
    async with watching(Told(mission, 90)) as press:
        shown = await press("down")
        assert "line 999" in shown
        assert len(pane(press.app)) < 150
        for _ in range(8):
            shown = await press("b")
        assert "says   line 999" not in shown
        assert len(pane(press.app)) > 200
        while not any("line 0" in line for line in pane(press.app)):
            before = len(pane(press.app))
            await press("b")
            assert len(pane(press.app)) >= before
        assert any(line.endswith("line 999") for line in pane(press.app))


async def test_only_the_lines_that_are_seen_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    mission = csv_import()
    mission.steps["WP05-1"] = tuple(step("says", f"line {number}") for number in range(100))
    drawn: list[int] = []
    async with watching(Told(mission, 90)) as press:
        view = press.app.query_one("#pane", LineView)
        draw: Callable[[Region], list[Strip]] = view.render_lines

        def seen(crop: Region) -> list[Strip]:
            drawn.extend(range(crop.y, crop.bottom))
            return draw(crop)

        monkeypatch.setattr(view, "render_lines", seen)
        await press("down")
        assert max(drawn) < 40
        drawn.clear()
        press.app._draw()
        await settled(press.pilot)
        assert drawn == []


VERDICT = Verdict(Ruling.CHANGES_REQUESTED, "a" * 40, "1", "codex")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.Recorded(Lane.DONE), "done"),
        (events.Recorded(Lane.BLOCKED), "needs"),
        (events.Recorded(Lane.IN_PROGRESS), ""),
        (events.AgentExited("1", AgentReport(Outcome.OK, detail="nobody asks for changes")), ""),
        (events.AgentExited("1", AgentReport(Outcome.OK), verdict=VERDICT), "needs"),
        (events.AgentExited("1", AgentReport(Outcome.CRASHED, detail="approved")), "needs"),
    ],
)
async def test_the_colour_of_a_line_is_that_of_what_happened_whatever_its_words_are(
    event: AnyEvent, expected: str
) -> None:
    assert tone(report.Told(at(0), "WP01", event)) == expected
