"""People are told of a run beside it: whatever becomes of messages, the run is the same."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from signal import SIGINT
from typing import Any

import anyio
import pytest
from tests.driver.builders import LIMIT_S, Power, Stage, longer, scripted

from spec_kitty_orchestrator.app import notifications
from spec_kitty_orchestrator.app.notifications import Notifier, Place
from spec_kitty_orchestrator.core.model import Outcome, Role, Usage
from spec_kitty_orchestrator.core.notices import Notice, noticed
from spec_kitty_orchestrator.core.run_events import Entry, Notified, RunEnded
from spec_kitty_orchestrator.core.samples import End, Sample, Samples
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_journal import LoopClock
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

ALL = ("needs_person", "ended", "budget", "quota", "slow")
APART = {"WP01": (), "WP02": (), "WP03": ()}
LATE = Play(outcome=Outcome.TIMEOUT, detail="no end in sight")
ONCE = longer(max_attempts=1, max_review_cycles=1)


class Inbox:
    """A place that keeps what arrives; `problem` is why nothing does, and it takes its time."""

    def __init__(self, name: str = "inbox", on: tuple[str, ...] = ALL, takes_s: float = 0.0) -> None:
        self.place = Place(name, on, "here", self._send)
        self.problem, self.takes_s = "", takes_s
        self.tried: list[Notice] = []
        self.arrived: list[Notice] = []

    async def _send(self, notice: Notice) -> str:
        self.tried.append(notice)
        await anyio.sleep(self.takes_s)
        if not self.problem:
            self.arrived.append(notice)
        return self.problem

    @property
    def titles(self) -> list[str]:
        return [one.title for one in self.arrived]


async def told(
    stage: Stage,
    *inboxes: Inbox,
    samples: Samples | None = None,
    begun: Callable[[Any], None] = lambda _: None,
    **changes: Any,
) -> RunResult:
    """Run a start, as the command does, and tell people of it."""
    notices = noticed(stage.journal.lines)
    places = [one.place for one in inboxes]
    notifier = Notifier(stage.watcher, places, notices, lambda: samples or Samples(), LoopClock())
    engine = stage.orchestrator(observer=notifier, **changes)
    begun(engine)

    async def keep(event: Notified) -> None:
        await engine._ledger.happened("", event)

    with anyio.fail_after(LIMIT_S):
        async with notifier.telling(keep):
            return await engine.run()


def kept(stage: Stage) -> list[Notified]:
    events = [one.event for one in stage.journal.lines if isinstance(one, Entry)]
    return [one for one in events if isinstance(one, Notified)]


async def test_work_packages_that_one_cause_stops_are_one_message_and_the_end_another(stage: Any) -> None:
    script = scripted(implement=LATE, WP04_implement=Play(100.0))
    made, inbox = stage({**APART, "WP04": ()}, script, policy=ONCE), Inbox()
    await told(made, inbox)
    assert inbox.titles[0] == "WP01, WP02 and WP03 need you"
    assert [one.on for one in inbox.arrived if one.wps and one.on != "ended"] == ["needs_person"]
    assert inbox.arrived[-1].on == "ended"
    assert [one.problem for one in kept(made)] == [""] * len(inbox.arrived)


async def test_a_run_that_goes_well_tells_its_end_alone(stage: Any) -> None:
    made, inbox = stage(), Inbox()
    assert (await told(made, inbox)).exit_code == 0
    assert inbox.titles == ["4 of 4 work packages are done"]
    assert isinstance(made.journal.lines[-2], RunEnded)


async def test_a_place_gets_only_what_it_asked_for(stage: Any) -> None:
    made = stage(APART, scripted(implement=LATE), policy=ONCE)
    first, second = Inbox("first", ("ended",)), Inbox("second", ("budget",))
    await told(made, first, second)
    assert [one.on for one in first.arrived] == ["ended"]
    assert second.arrived == []


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_place_that_hangs_or_fails_costs_the_run_nothing_but_one_line(
    stage: Any, hangs: bool
) -> None:
    def rejects(request: AttemptRequest) -> Play:
        text = verdict(request, "changes_requested", f"{request.wp_id} is odd")
        return Play(100.0 * int(request.wp_id[-1]), text=text)

    async def ran(*inboxes: Inbox) -> tuple[Stage, datetime]:
        made: Stage = stage(APART, scripted(review=rejects), policy=ONCE)
        await told(made, *inboxes)
        end = next(one for one in made.journal.lines if isinstance(one, RunEnded))
        return made, end.at - (made.journal.lines[0].at - datetime(2026, 1, 1, tzinfo=UTC))

    alone, usual = await ran()
    bad, good = Inbox("bad", takes_s=1e9 if hangs else 0.0), Inbox("good")
    bad.problem = "no answer"
    made, at = await ran(bad, good)
    assert at == usual
    assert made.host.lanes == alone.host.lanes
    said = [one for one in made.watcher.messages if one.startswith("warning: bad")]
    assert len(said) == 1
    assert len(good.arrived) > 1
    assert len(bad.tried) == (1 if hangs else len(good.arrived))


async def test_a_place_whose_code_breaks_is_told_nothing_more_and_the_run_goes_on(stage: Any) -> None:
    async def breaks(_: Notice) -> str:
        raise RuntimeError("a bug")

    inbox = Inbox("odd")
    inbox.place = Place("odd", ALL, "here", breaks)
    made = stage()
    assert (await told(made, inbox)).exit_code == 0
    assert "warning: odd is told nothing more of this run; the log says why" in made.watcher.messages


async def test_the_end_gets_out_when_a_run_is_interrupted(stage: Any) -> None:
    made, inbox = stage(script=scripted(implement=Play(seconds=500.0))), Inbox()
    async with anyio.create_task_group() as tasks:

        def begun(engine: Any) -> None:
            async def stop() -> None:
                await anyio.sleep(50)
                engine.interrupt(SIGINT)

            tasks.start_soon(stop)

        result = await told(made, inbox, begun=begun)
    assert result.exit_code == 130
    assert [one.on for one in inbox.arrived] == ["ended"]
    assert "exit code 130" in inbox.arrived[0].text


async def test_the_end_waits_for_a_message_that_takes_a_moment_and_no_longer(stage: Any) -> None:
    quick, slow = Inbox("quick", takes_s=notifications.FINISH_S - 1), Inbox("slow", takes_s=99.0)
    made = stage()
    await told(made, quick, slow)
    assert len(quick.arrived) == 1
    assert slow.arrived == []
    assert [one.target for one in kept(made)] == ["quick"]
    assert made.watcher.messages == ["warning: slow did not take all messages within 5 s after the run"]


async def test_the_end_is_told_once_what_follows_the_run_has_ended_too(stage: Any) -> None:
    made, inbox = stage(), Inbox()
    notifier = Notifier(made.watcher, [inbox.place], noticed(()), Samples, LoopClock())
    engine = made.orchestrator(observer=notifier)

    async def keep(event: Notified) -> None:
        await engine._ledger.happened("", event)

    with anyio.fail_after(LIMIT_S):
        async with notifier.telling(keep):
            await engine.run()
            await anyio.sleep(600)
            assert inbox.tried == []
            notifier.finalized(["merged into the target branch"], "")
    assert inbox.titles == ["4 of 4 work packages are done; merged into the target branch"]


async def test_a_failure_of_a_run_comes_out_as_it_is_and_its_end_is_told(stage: Any) -> None:
    made, inbox = stage(), Inbox()
    made.journal.dies_at = 9
    with pytest.raises(Power):
        await told(made, inbox)
    assert [one.on for one in inbox.arrived] == ["ended"]


async def test_what_was_told_is_not_told_by_the_next_start_and_what_was_not_is(stage: Any) -> None:
    made = stage(APART, scripted(WP01_implement=LATE), policy=ONCE)
    first, second = Inbox("first"), Inbox("second", ("needs_person",))
    second.problem = "no answer"
    await told(made, first, second)
    before = [one.about for one in first.arrived if one.on == "needs_person"]
    assert len(before) == 1
    second.problem = ""
    again = Inbox("first")
    await told(made, again, second)
    assert [one.on for one in again.arrived] == ["ended"]
    assert [one.about for one in second.arrived] == before


async def test_no_message_is_lost_or_repeated_wherever_the_power_fails(stage: Any) -> None:
    def new() -> Stage:
        made: Stage = stage({"WP01": (), "WP02": ()}, scripted(WP01_implement=LATE), policy=ONCE)
        return made

    whole, inbox = new(), Inbox()
    await told(whole, inbox)
    lines = len(whole.journal.lines)
    for dies_at in range(1, lines + 1):
        made, inbox = new(), Inbox()
        made.journal.dies_at = dies_at
        with suppress(Power):
            await told(made, inbox)
        made.journal.dies_at = None
        before = {one.about[0] for one in kept(made)}
        sent = len(inbox.tried)
        await told(made, inbox)
        later = {one.about[0] for one in inbox.tried[sent:]}
        assert not before & later, dies_at
        parked = [one.about[0] for one in inbox.arrived if one.title.startswith("WP01 needs you")]
        ended = [one for one in inbox.arrived if one.on == "ended" and "WP01" in one.wps]
        assert parked or ended, dies_at
        assert Counter(parked).most_common(1)[0][1] <= 2 if parked else True


def known(*seconds: float) -> Samples:
    return Samples({(Role.IMPLEMENT, "ada"): tuple(Sample(one, Usage(), End.GOOD) for one in seconds)})


async def test_an_attempt_that_takes_long_is_told_once_while_it_runs(stage: Any) -> None:
    made, inbox = stage({"WP01": ()}, scripted(implement=Play(seconds=3000.0))), Inbox(on=("slow",))
    await told(made, inbox, samples=known(300.0, 300.0, 310.0))
    assert inbox.titles == ["ada takes long to implement WP01"]
    usual = inbox.arrived[0].text
    assert usual.startswith("15m ")
    assert usual.endswith("until now; usual are 5m 00s.")
