"""Rounds on a cluster that is made up: who has a slot, what a log has grown by, and who is lost."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.cluster.rounds import LostMachine, Rounds, beside
from spec_kitty_orchestrator.cluster.transport import Seat, Silent, Unreachable

pytestmark = pytest.mark.asyncio

LOST_AFTER_S = 20.0
VERSION, PYTHON = "1", "{}.{}".format(*sys.version_info)


@dataclass
class Machine:
    """What one worker answers to `look`."""

    waiting: list[str] = field(default_factory=list)
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaving: bool = False
    free: int = 0
    version: str = VERSION
    python: str = PYTHON


@dataclass
class Cluster:
    """A transport with machines by their addresses; `calls` and `holds` are what was asked of it."""

    machines: dict[str, Machine]
    reachable: bool = True
    silent: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    holds: list[tuple[str, str, str]] = field(default_factory=list)
    now: float = 0.0
    ring: Callable[[str], None] = lambda _: None
    asked: Callable[[str], None] = lambda _: None
    called: Callable[[str], None] = lambda _: None

    async def workers(self) -> Sequence[Seat]:
        if not self.reachable:
            raise Unreachable("away")
        return [Seat(address, "", {"bot": 1}) for address in self.machines]

    async def call(self, address: str, method: str, limit_s: float, **arguments: Any) -> Mapping[str, Any]:
        self.calls.append((address, method, arguments))
        self.called(method)
        if address in self.silent:
            raise Silent("no answer")
        machine = self.machines[address]
        if method != "look":
            return {"done": method}
        seen = {
            name: {
                "state": "absent",
                "held": False,
                "logs": {},
                "more": False,
                **machine.attempts.get(name, {}),
            }
            for name in arguments["offsets"]
        }
        waiting = [name for name in machine.waiting if name not in seen]
        return {
            "machine": f"machine-{address}",
            "version": machine.version,
            "python": machine.python,
            "waiting": waiting,
            "leaving": machine.leaving,
            "free": {"bot": machine.free},
            "attempts": seen,
        }

    async def hold(self, attempt_id: str, agent: str, address: str = "", *, free: bool = False) -> None:
        self.holds.append((attempt_id, agent, f"{address} at once" if free else address))
        self.asked(attempt_id)

    def listen(self, rung: Callable[[str], None]) -> None:
        self.ring = rung

    async def release(self, attempt_id: str) -> None:
        raise AssertionError("rounds let nobody go")


def rounds_of(cluster: Cluster, say: Callable[[str], None] = lambda _: None) -> Rounds:
    return Rounds(cluster, VERSION, lost_after_s=LOST_AFTER_S, clock=lambda: cluster.now, say=say)


async def make(rounds: Rounds, cluster: Cluster, count: int, apart_s: float = 2.0) -> None:
    for _ in range(count):
        cluster.now += apart_s
        await rounds.once()


async def lost(rounds: Rounds, attempt_id: str) -> bool:
    with anyio.move_on_after(0):
        try:
            await rounds.end(attempt_id)
        except LostMachine:
            return True
    return False


async def offered(rounds: Rounds, attempt_id: str) -> bool:
    with anyio.move_on_after(0):
        return bool(await rounds.slot(attempt_id))
    return False


async def test_an_attempt_gets_the_machine_on_which_its_task_waits(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(), "b": Machine()})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path):
        await make(rounds, cluster, 1)
        assert cluster.holds == [("one", "bot", "")]
        cluster.machines["b"].waiting.append("one")
        await make(rounds, cluster, 1)
        assert await rounds.slot("one") == "machine-b"


async def test_an_attempt_asks_for_a_slot_where_one_is_free_and_each_for_one_of_its_own(
    tmp_path: Path,
) -> None:
    cluster = Cluster({"a": Machine(free=1), "b": Machine(free=2)})
    rounds = rounds_of(cluster)
    with ExitStack() as followed:
        for name in ("one", "two", "three", "four"):
            followed.enter_context(rounds.following(name, "bot", tmp_path))
        await make(rounds, cluster, 1)
        asked = [address for _, _, address in cluster.holds]
        assert asked == ["b at once", "a at once", "b at once", ""]
        cluster.holds.clear()
        await make(rounds, cluster, 1, apart_s=0.1)
        assert cluster.holds == [("four", "bot", "")], "the others' tasks may still be on their way"


async def test_an_attempt_whose_slot_was_taken_by_another_run_is_moved_to_one_that_is_free(
    tmp_path: Path,
) -> None:
    cluster = Cluster({"a": Machine(free=1), "b": Machine()})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path):
        await make(rounds, cluster, 1)
        cluster.machines["a"].free = 0
        await make(rounds, cluster, 1)
        cluster.machines["b"].free = 1
        await make(rounds, cluster, 1)
        assert [address for _, _, address in cluster.holds] == ["a at once", "a", "b at once"]
        del cluster.machines["b"]
        await make(rounds, cluster, 1)
        assert cluster.holds[-1] == ("one", "bot", ""), "nobody waits for a worker that is gone"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Machine(["two"], free=9, python="3.8"), f"Python 3.8, we have {PYTHON}"),
        (Machine(["two"], free=9, version="0"), "version 0 of this program, we have 1"),
    ],
)
async def test_a_worker_that_joins_with_another_version_or_python_gets_no_attempts_and_is_told_once(
    tmp_path: Path, other: Machine, said: str
) -> None:
    cluster, lines = Cluster({"a": Machine()}), list[str]()
    rounds = rounds_of(cluster, lines.append)
    await make(rounds, cluster, 1)
    cluster.machines["b"] = other
    with ExitStack() as followed:
        for name in ("one", "two"):
            followed.enter_context(rounds.following(name, "bot", tmp_path))
        followed.enter_context(rounds.following("three", "bot", tmp_path, only="machine-b"))
        await make(rounds, cluster, 3)
        assert set(cluster.holds) == {("one", "bot", "a"), ("two", "bot", "a")}
        assert not await offered(rounds, "two")
        assert ("b", "dismiss", {"attempt_id": "two"}) in cluster.calls
        del cluster.machines["a"]
        cluster.holds.clear()
        await make(rounds, cluster, 3)
        assert cluster.holds == [], "nobody is there who could run it"
    assert lines == [f"worker machine-b has {said}: it gets no attempts"]


async def test_what_differs_at_a_start_is_for_the_start_to_say(tmp_path: Path) -> None:
    cluster, lines = Cluster({"a": Machine(version="0")}), list[str]()
    rounds = rounds_of(cluster, lines.append)
    running = {"one": {"state": "running", "held": False}}
    cluster.machines["a"].attempts = running
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 3)
    assert (lines, cluster.holds) == ([], [])


async def test_an_attempt_that_is_let_go_asks_for_no_slot_meanwhile(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine()})
    rounds = rounds_of(cluster)

    async def release(attempt_id: str) -> None:
        await make(rounds, cluster, 1)

    cluster.release = release  # type: ignore[method-assign]
    with rounds.following("one", "bot", tmp_path):
        await rounds.let_go("one")
    assert cluster.holds == []


@pytest.mark.parametrize("rung", ["one", "another coordinator's"])
async def test_what_a_worker_tells_of_our_attempts_is_looked_at_at_once(
    tmp_path: Path, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.cluster.rounds.APART_S", 0.0)
    cluster = Cluster({"a": Machine()})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path):
        async with beside(rounds.keep_asking):
            await anyio.wait_all_tasks_blocked()
            cluster.machines["a"].waiting.append("one")
            looks = len(cluster.calls)
            cluster.ring(rung)
            await anyio.wait_all_tasks_blocked()
            assert (len(cluster.calls) > looks) == (rung == "one")


async def test_a_slot_on_a_machine_that_is_about_to_leave_is_given_back(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(waiting=["one"], leaving=True)})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path):
        await make(rounds, cluster, 1)
    assert ("a", "dismiss", {"attempt_id": "one"}) in cluster.calls


async def test_a_task_that_the_scheduler_moved_away_from_the_attempts_machine_is_dismissed(
    tmp_path: Path,
) -> None:
    running = {"one": {"state": "running", "held": False}}
    cluster = Cluster({"a": Machine(attempts=running), "b": Machine(waiting=["one"])})
    rounds = rounds_of(cluster)
    await make(rounds, cluster, 1)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 1)
    assert ("b", "dismiss", {"attempt_id": "one"}) in cluster.calls
    assert cluster.holds == [("one", "bot", "a")], "the slot is held where the attempt runs"


async def test_a_task_of_another_coordinator_is_left_alone() -> None:
    cluster = Cluster({"a": Machine(waiting=["theirs"])})
    rounds = rounds_of(cluster)
    await make(rounds, cluster, 2)
    assert {method for _, method, _ in cluster.calls} == {"look"}


async def test_an_attempt_that_ends_while_its_task_is_moved_asks_for_no_slot_any_more(
    tmp_path: Path,
) -> None:
    cluster = Cluster({"a": Machine(free=1)})
    rounds = rounds_of(cluster)
    with ExitStack() as followed:
        followed.enter_context(rounds.following("one", "bot", tmp_path))
        await make(rounds, cluster, 1)
        cluster.called = lambda method: followed.close() if method == "dismiss" else None
        await make(rounds, cluster, 1)
    assert cluster.holds == [("one", "bot", "a at once")]


async def test_an_attempt_that_has_to_be_on_one_machine_asks_for_a_slot_there_alone(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(waiting=["one"]), "b": Machine()})
    rounds = rounds_of(cluster)
    await make(rounds, cluster, 1)
    with rounds.following("one", "bot", tmp_path, only="machine-b"):
        await make(rounds, cluster, 1)
        assert cluster.holds == [("one", "bot", "b")]
        assert ("a", "dismiss", {"attempt_id": "one"}) in cluster.calls


async def test_an_attempt_that_ends_during_a_round_asks_for_no_slot_any_more(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine()})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path), ExitStack() as other:
        other.enter_context(rounds.following("two", "bot", tmp_path))
        cluster.asked = lambda _: other.close()
        await make(rounds, cluster, 1)
    assert cluster.holds == [("one", "bot", "")]


async def test_an_attempt_waits_for_a_slot_of_its_one_machine_until_that_is_lost(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(), "b": Machine()})
    rounds = rounds_of(cluster)
    await make(rounds, cluster, 1)
    with rounds.following("one", "bot", tmp_path, only="machine-b"):
        await make(rounds, cluster, 1)
        cluster.silent.add("b")
        await make(rounds, cluster, 9)
        assert not await offered(rounds, "one")
        await make(rounds, cluster, 1)
        assert await offered(rounds, "one")
        with pytest.raises(LostMachine):
            await rounds.ask(await rounds.slot("one"), "have")
        rounds.refuse("one")
        await make(rounds, cluster, 1)
        assert cluster.holds[-1] == ("one", "bot", "")


async def test_a_slot_that_stays_free_is_asked_for_less_and_less_often(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(free=1), "b": Machine(free=1)})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path):
        await make(rounds, cluster, 120, apart_s=0.5)
    assert 3 < len([one for one in cluster.holds if "at once" in one[2]]) < 10


async def test_a_log_grows_by_what_follows_its_own_end_and_an_end_is_told_after_the_last_of_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "stdout.log"
    log.write_bytes(b"old ")
    seen = {"state": "ended", "held": True, "logs": {"stdout.log": b"new "}, "more": True}
    cluster = Cluster({"a": Machine(attempts={"one": seen})})
    rounds = rounds_of(cluster)
    await make(rounds, cluster, 1)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        assert await rounds.once(), "there is more to fetch"
        with anyio.move_on_after(0):
            await rounds.end("one")
            pytest.fail("the end was told before the whole log was here")
        seen |= {"logs": {"stdout.log": b"last"}, "more": False}
        assert not await rounds.once()
        assert await rounds.end("one") == "ended"
    assert log.read_bytes() == b"old new last"
    offsets = [told["offsets"]["one"]["stdout.log"] for _, _, told in cluster.calls if told["offsets"]]
    assert offsets == [4, 8]


async def test_a_machine_that_is_silent_for_long_enough_is_lost(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(attempts={"one": {"state": "running", "held": True}})})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 1)
        cluster.silent.add("a")
        await make(rounds, cluster, 9)
        assert not await lost(rounds, "one")
        await make(rounds, cluster, 1)
        assert await lost(rounds, "one")
        with pytest.raises(LostMachine):
            await rounds.ask("machine-a", "pack", attempt_id="one")


async def test_a_machine_that_is_back_after_it_was_lost_is_asked_again(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine()}, silent={"a"})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 12)
        assert await lost(rounds, "one")
    cluster.silent.clear()
    await make(rounds, cluster, 1)
    with anyio.fail_after(5):
        assert await rounds.ask("machine-a", "have") == {"done": "have"}


async def test_a_machine_that_answers_again_in_time_is_not_lost(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(attempts={"one": {"state": "running", "held": True}})})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        for _ in range(3):
            cluster.silent.clear()
            await make(rounds, cluster, 1)
            cluster.silent.add("a")
            await make(rounds, cluster, 9)
        assert not await lost(rounds, "one")


async def test_while_the_scheduler_is_away_nobody_is_lost(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(attempts={"one": {"state": "running", "held": True}})})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 1)
        cluster.reachable = False
        await make(rounds, cluster, 100)
        cluster.reachable, cluster.silent = True, {"a"}
        await make(rounds, cluster, 9)
        assert not await lost(rounds, "one")


async def test_people_are_told_once_that_the_scheduler_is_away_and_that_it_is_back() -> None:
    cluster, said = Cluster({"a": Machine()}, reachable=False), list[str]()
    rounds = rounds_of(cluster, said.append)
    await make(rounds, cluster, 3)
    cluster.reachable = True
    await make(rounds, cluster, 3)
    assert said == [
        "the scheduler is away; agents go on, and the run waits for it: away",
        "the scheduler is back",
    ]


async def test_our_own_sleep_counts_as_one_round(tmp_path: Path) -> None:
    cluster = Cluster({"a": Machine(attempts={"one": {"state": "running", "held": True}})})
    rounds = rounds_of(cluster)
    with rounds.following("one", "bot", tmp_path, machine="machine-a"):
        await make(rounds, cluster, 1)
        cluster.silent.add("a")
        await make(rounds, cluster, 1, apart_s=3600.0)
        assert not await lost(rounds, "one")
