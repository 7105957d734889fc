"""Observers of plug-ins: they get a run's events, and whatever they do, the run goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.app import observers
from spec_kitty_orchestrator.app.observers import Observers
from spec_kitty_orchestrator.core.events import Submitted
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.testing.memory_journal import StoppedClock, Watcher

Project = Any  # the class lives in conftest, which tests cannot import
STATE = RunState(Policy(("ada",), ("rob",)))
LIMIT_S = 60


class Offer:
    """An entry point of the distribution `acme 1.2`."""

    class dist:  # noqa: N801
        name, version = "acme", "1.2"

    def __init__(self, name: str, load: Callable[[], object]) -> None:
        self.name, self.load = name, load


class Keeps:
    """Keeps what it is told, and ends once it may."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.closed = False

    def saw(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed = True


def line(seq: int) -> Entry:
    return Entry(StoppedClock.moment, "WP01", Submitted(), seq=seq)


Start = Callable[..., tuple[Observers, Watcher]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    def begin(**offered: Callable[[], object]) -> tuple[Observers, Watcher]:
        made = [Offer(name, load) for name, load in offered.items()]
        monkeypatch.setattr(observers, "offers", lambda _: made)
        watcher = Watcher()
        return Observers(watcher, "034-x", "/repo", Redactor()), watcher

    return begin


def finish(made: Observers) -> None:
    async def run() -> None:
        with anyio.fail_after(LIMIT_S):
            await made.finish()

    anyio.run(run)


def dropped(name: str, why: str) -> str:
    return f"warning: observer {name} of the distribution acme 1.2 gets no more events: {why}"


def test_each_gets_every_event_in_order_and_is_closed(start: Start) -> None:
    one, other = Keeps(), Keeps()
    made, watcher = start(one=lambda: one, other=lambda: other)
    for seq in range(1, 501):
        made.saw(STATE, line(seq))
    finish(made)
    for each in (one, other):
        assert [event["seq"] for event in each.events] == list(range(1, 501))
        assert each.closed
    assert one.events[0] is not other.events[0]
    assert len(watcher.lines) == 500
    who = "observer {} of the distribution acme 1.2".format
    assert watcher.messages == [f"events go to {who('one')}, {who('other')}"]


def test_one_that_raises_is_dropped_and_that_is_said_once_and_the_others_go_on(start: Start) -> None:
    class Bad(Keeps):
        def saw(self, event: dict[str, Any]) -> None:
            super().saw(event)
            raise SystemExit("enough")

    good, bad = Keeps(), Bad()
    made, watcher = start(bad=lambda: bad, good=lambda: good)
    for seq in range(1, 11):
        made.saw(STATE, line(seq))
    finish(made)
    assert len(good.events) == 10
    assert len(bad.events) == 1
    assert watcher.messages[1:] == [dropped("bad", "SystemExit: enough")]


def test_what_cannot_be_loaded_or_is_no_observer_is_dropped(start: Start) -> None:
    made, watcher = start(broken=lambda: __import__("no_such_module"), empty=lambda: object())
    finish(made)
    assert watcher.messages[1:] == [
        dropped("broken", "ModuleNotFoundError: No module named 'no_such_module'"),
        dropped("empty", "it has not the methods `saw` and `close`"),
    ]


def test_one_that_is_too_slow_is_dropped_while_the_run_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "MOST_QUEUED", 5)
    go_on, told = Event(), Semaphore(0)

    class Quick(Keeps):
        def saw(self, event: dict[str, Any]) -> None:
            super().saw(event)
            told.release()

    class Slow(Keeps):
        def saw(self, event: dict[str, Any]) -> None:
            super().saw(event)
            go_on.wait(LIMIT_S)

    slow, quick = Slow(), Quick()
    made, watcher = start(slow=lambda: slow, quick=lambda: quick)
    for seq in range(1, 21):
        made.saw(STATE, line(seq))
        assert told.acquire(timeout=LIMIT_S)
    assert watcher.messages[1:] == [dropped("slow", "it is 5 events behind")]
    go_on.set()
    finish(made)
    assert len(quick.events) == 20
    assert len(slow.events) <= 1


def test_the_end_of_a_run_waits_only_so_long(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "FINISH_S", 0.1)
    go_on = Event()

    class Endless(Keeps):
        def close(self) -> None:
            go_on.wait(LIMIT_S)

    made, watcher = start(endless=Endless, fine=Keeps)
    finish(made)
    go_on.set()
    assert watcher.messages[1:] == [dropped("endless", "it was not done 0.1 s after the run")]


def test_a_plug_in_gets_the_events_that_the_run_prints_and_may_print_itself(
    project: Project, tmp_path: Path
) -> None:
    place = tmp_path / "plugins"
    info = place / "acme-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[spec_kitty_orchestrator.observers]\nloud = acme_loud:Loud\n")
    (place / "acme_loud.py").write_text(
        "import json, pathlib\n"
        "class Loud:\n"
        "    def saw(self, event):\n"
        "        print('loud')\n"
        f"        with open({str(tmp_path / 'told')!r}, 'a') as file:\n"
        "            file.write(json.dumps(event) + '\\n')\n"
        "    def close(self):\n"
        "        raise ValueError('no end')\n"
    )
    project.env["PYTHONPATH"] = str(place)
    project.lanes({"WP01": "approved"})
    done = project.orchestrate("--output", "jsonl")
    assert done.returncode == 0
    told = [json.loads(one) for one in (tmp_path / "told").read_text().splitlines()]
    assert [json.loads(one) for one in done.stdout.splitlines()] == told
    assert done.stderr.count("loud\n") == 2
    assert done.stderr.count(dropped("loud", "ValueError: no end")) == 1
