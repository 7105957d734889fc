"""Orders by keys in `watch`: what each one gives, what is asked first, and how its answer is shown."""

import asyncio
from typing import Any

import pytest
from textual.events import Key

from spec_kitty_orchestrator.core import orders
from spec_kitty_orchestrator.core.operator_events import Stopped
from spec_kitty_orchestrator.core.run_events import Continued, Paused
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.watch.steering import ANSWER_S

from .mission import Told, csv_import
from .test_watch import SIZES, chosen, expect, screen, settled, watching

pytestmark = pytest.mark.asyncio

TEXT = ("u", "s", "e", "space", "t", "a", "b", "s")


def last(press: Any) -> str:
    """Return the last row of the screen."""
    return screen(press.app).splitlines()[-1].strip()


ORDERS: tuple[tuple[tuple[str, ...], orders.Order], ...] = (
    (("P",), orders.Pause()),
    (("D", "y"), orders.Drain()),
    (("S", "y"), orders.Stop("WP06")),
    (("X", "y"), orders.Skip("WP06")),
    (("H",), orders.Pause(wp="WP06")),
    (("C",), orders.Continue(wp="WP06")),
    (("R", *TEXT, "enter"), orders.Retry("WP06", "use tabs")),
    (("R", "enter"), orders.Retry("WP06")),
    (("T", *TEXT, "enter"), orders.Tell("WP06", "use tabs")),
    (("N", *TEXT, "enter", "y"), orders.Tell("WP06", "use tabs", now=True)),
)


async def test_each_key_gives_its_order_and_shows_the_answer() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        for keys, expected in ORDERS:
            told.given.clear()
            await press.pilot.press(*keys[:-1])
            await press()
            assert told.given == []
            await press(keys[-1])
            assert told.given == [expected]
            assert last(press) == f"{expected.kind} is taken up"


async def test_what_stops_work_is_asked_for_and_any_other_key_than_y_is_a_no() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        before = (await press()).splitlines()[:-1]
        for key, answer in zip("SXDSXDS", ("n", "escape", "enter", "X", "down", "q", "t"), strict=True):
            await press(key)
            assert last(press).endswith("? y/n")
            # That key does nothing else.
            assert (await press(answer)).splitlines()[:-1] == before
            assert last(press).startswith("not given: ")
        await press("y")
        assert told.given == []


async def test_the_question_names_the_work_package_that_was_chosen_also_if_another_one_comes_first() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        await press("down", "S")
        assert last(press) == "stop WP05? y/n"
        told.mission.happens(91, "WP05", Stopped("ada"))
        told.seconds = 92
        press.app.look()
        await settled(press.pilot)
        assert last(press) == "stop WP05? y/n"
        await press("y")
        assert told.given == [orders.Stop("WP05")]


async def test_a_text_is_typed_with_any_letter_and_escape_gives_nothing() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        before = await press()
        await press("T", "q", "P", "slash", "y")
        assert last(press) == "tell WP06: qP/y"
        shown = await press("escape")
        assert shown.splitlines()[:-1] == before.splitlines()[:-1]
        assert last(press) == "not given: tell WP06"
        await press("T", "space", "enter")
        assert last(press) == "not given: tell WP06"
        await press("N", "a", "enter", "n")
        assert last(press) == "not given: tell WP06 now"
        assert told.given == []
        # What was typed is no filter, and is not there the next time.
        await press("R")
        assert last(press) == "retry WP06, note:"
        assert "filter:" not in screen(press.app)


async def test_keys_that_come_before_the_question_is_drawn_do_nothing_else() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        before = (await press()).splitlines()[:-1]
        for key in ("T", "t", "g", "P", "x", "enter"):
            press.app.post_message(Key(key, key if len(key) == 1 else None))
        await settled(press.pilot)
        await press("escape")
        assert (await press()).splitlines()[:-1] == before
        assert [one.kind for one in told.given] in ([], ["tell"])


async def test_a_refusal_is_shown_and_goes_away_after_some_seconds() -> None:
    async def refused(_: orders.Order) -> str:
        raise UsageError("WP06 is neither parked\nnor \x1b[31mblocked")

    told = Told(csv_import(), 90)
    told.answers = refused
    async with watching(told) as press:
        await press("C")
        assert last(press) == "continue WP06: WP06 is neither parked nor blocked"
        told.seconds += ANSWER_S - 1
        press.app.look()
        await settled(press.pilot)
        assert "neither parked" in last(press)
        told.seconds += 1
        press.app.look()
        await settled(press.pilot)
        assert last(press).startswith("↑↓ pick")


async def test_a_long_answer_takes_three_rows_at_most() -> None:
    async def long(_: orders.Order) -> str:
        return "the run is paused; " + "what is at work goes on " * 20

    told = Told(csv_import(), 90)
    told.answers = long
    async with watching(told, (80, 24)) as press:
        rows = (await press("P")).splitlines()
        assert [row.startswith(" the run is paused") for row in rows[-4:]] == [False, True, False, False]
        assert rows[-1].endswith(" …")
        assert all(len(row) <= 80 for row in rows)


async def test_an_answer_that_is_slow_keeps_no_key_waiting_and_is_not_left_by_accident() -> None:
    answered = asyncio.Event()

    async def slow(order: orders.Order) -> str:
        await answered.wait()
        return f"{order.kind} at last"

    told = Told(csv_import(), 90)
    told.answers = slow
    async with watching(told) as press:

        async def pressed(key: str) -> None:
            await press.pilot.press(key)
            await press.pilot.pause()

        await pressed("P")
        assert last(press) == "pause the run …"
        await pressed("down")
        assert chosen(press.app) == "WP05"
        await pressed("t")
        assert "longest chain" in screen(press.app)
        await pressed("P")
        assert last(press) == "not given: the answer to `pause the run` is awaited"
        await pressed("q")
        assert last(press) == "the answer to `pause the run` is awaited; q again leaves"
        assert press.app.is_running
        answered.set()
        await settled(press.pilot)
        assert told.given == [orders.Pause()]
        assert last(press) == "pause at last"


async def test_what_is_not_seen_takes_no_orders() -> None:
    told = Told(csv_import(), 90)
    async with watching(told) as press:
        await press("g", "S", "y")
        assert told.given == []
        await press("P")
        assert told.given == [orders.Pause()]
    empty = Told(csv_import(), 90)
    async with watching(empty) as press:
        await press("enter", "S", "y")
        assert empty.given == [orders.Stop("WP06")]


async def test_a_pause_is_seen_in_the_header_and_the_same_key_ends_it() -> None:
    told = Told(csv_import(), 90)
    told.mission.happens(85, "", Paused("ada"), Paused("ada", agent="codex"))
    told.mission.happens(86, "WP05", Stopped("ada"))
    async with watching(told, (80, 24)) as press:
        shown = await press("down")
        expect("paused", shown)
        assert "‖ paused by ada at 12:01" in shown.splitlines()[0]
        await press("P")
        assert told.given == [orders.Continue()]
        told.mission.happens(91, "", Continued("ada"))
        told.seconds = 92
        press.app.look()
        await settled(press.pilot)
        assert "running 1m 32s" in screen(press.app).splitlines()[0]
    async with watching(told, (160, 50)) as press:
        assert "‖ codex paused" in (await press()).splitlines()[0]


async def test_without_a_run_the_pause_stands_beside_how_it_ended() -> None:
    told = Told(csv_import(), 90, active=False)
    told.mission.happens(85, "", Paused("ada"))
    told.mission.ends(90, 1)
    told.look()
    async with watching(told) as press:
        first, *_ = (await press()).splitlines()
        assert "exit 1, " in first
        assert "‖ paused by ada at 12:01" in first
        assert "P end pause" in last(press)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_questions_and_help_fit_every_terminal(size: tuple[int, int]) -> None:
    async with watching(Told(csv_import(), 90), size) as press:
        for key in ("S", "N", "D", "R"):
            shown = await press(key)
            assert all(len(row) <= size[0] for row in shown.splitlines())
            await press("escape")
        if size[1] >= 24:
            assert "Capital letters order, S N X D ask first" in await press("question_mark")
