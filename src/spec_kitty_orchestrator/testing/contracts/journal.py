"""What every `ports.Journal` promises: a line that `append` returned for is there, once, whoever reads it."""

from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import anyio
import pytest

from spec_kitty_orchestrator.core.events import AgentExited, HostRefused, Submitted
from spec_kitty_orchestrator.core.model import AgentReport, Lane, MissionState, Outcome
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunEnded, RunStarted
from spec_kitty_orchestrator.ports import Journal
from spec_kitty_orchestrator.testing.contracts import LIMIT_S, Contract
from spec_kitty_orchestrator.testing.sample_lines import example_lines

__all__ = ["JournalContract", "OpenJournal"]

OpenJournal = Callable[[], Journal]
"""Opens one and the same record, as each start of a run does; the first call finds it empty."""

_NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
_MISSION = MissionState("034-x", {"WP01": Lane.DONE, "WP02": Lane.PLANNED}, {"WP01": (), "WP02": ("WP01",)})
_RUN = RunStarted(_NOW, _MISSION, "me", Policy(("claude-code",), ("codex",)), "1")
_END = RunEnded(_NOW, 1, "two WPs are parked")


def _entry(number: int) -> Entry:
    return Entry(_NOW, f"WP{number:02}", HostRefused("transition", "X", f"ünsinn\n{number}", Lane.PLANNED))


async def _append(journal: Journal, *lines: Line) -> list[Line]:
    with anyio.fail_after(LIMIT_S):
        return [await journal.append(one) for one in lines]


async def _read(journal: Journal) -> list[Line]:
    with anyio.fail_after(LIMIT_S):
        return [*await journal.read()]


class JournalContract(Contract):
    """The suite for a `ports.Journal`.

    A subclass gives the fixture `open_journal`.
    """

    @pytest.fixture
    def open_journal(self) -> OpenJournal:
        """Return a function that opens one record, which is empty at first; two calls open the same."""
        raise NotImplementedError("give the class a fixture open_journal that returns such a function")

    async def test_a_new_journal_is_empty(self, open_journal: OpenJournal) -> None:
        """Nothing was appended, so nothing is read."""
        assert await _read(open_journal()) == []

    async def test_every_kind_of_line_reads_back_as_it_was(self, open_journal: OpenJournal) -> None:
        """Each field of each event is kept."""
        lines = example_lines()
        await _append(open_journal(), *lines)
        found = await _read(open_journal())
        for mine, its in zip(lines, found, strict=True):
            assert its == mine

    async def test_lines_are_read_in_the_order_in_which_they_were_appended(
        self, open_journal: OpenJournal
    ) -> None:
        """The oldest comes first."""
        lines: list[Line] = [_RUN, _entry(2), _entry(1), _entry(3), _END]
        journal = open_journal()
        await _append(journal, *lines)
        assert await _read(journal) == lines

    async def test_what_append_returned_for_is_there_for_whoever_opens_the_journal_next(
        self, open_journal: OpenJournal
    ) -> None:
        """The process that appended it can be killed at once: nothing is closed or flushed."""
        journal, kept = open_journal(), list[Line]()
        for line in (_RUN, _entry(1), _END):
            await _append(journal, line)
            kept.append(line)
            assert await _read(open_journal()) == kept

    async def test_whoever_appends_a_line_is_told_its_number_and_a_start_its_count(
        self, open_journal: OpenJournal
    ) -> None:
        """Lines count from 1, and so do the starts."""
        told = await _append(open_journal(), _RUN, _entry(1), _RUN)
        assert told == [_RUN, _entry(1), _RUN]
        assert [one.seq for one in told] == [1, 2, 3]
        assert [one.number for one in told if isinstance(one, RunStarted)] == [1, 2]

    async def test_numbers_are_read_back_and_go_on_at_the_next_start(self, open_journal: OpenJournal) -> None:
        """They count over the whole record, whoever writes it, whatever numbers a line brought along."""
        await _append(open_journal(), _RUN, _entry(1))
        await _append(open_journal(), replace(_RUN, seq=77, number=77), replace(_entry(2), seq=1))
        lines = await _read(open_journal())
        assert [one.seq for one in lines] == [1, 2, 3, 4]
        assert [one.number for one in lines if isinstance(one, RunStarted)] == [1, 2]

    async def test_lines_appended_at_once_are_all_kept_each_under_a_number_of_its_own(
        self, open_journal: OpenJournal
    ) -> None:
        """Each work package has a coroutine that appends."""
        journal = open_journal()
        lines = [_entry(number) for number in range(1, 51)]
        told: list[Line] = []

        async def append(line: Entry) -> None:
            told.append(await journal.append(line))

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                for line in lines:
                    tasks.start_soon(append, line)
        found = await _read(open_journal())
        assert sorted(found, key=lambda one: getattr(one, "wp_id", "")) == lines
        assert [one.seq for one in found] == [*range(1, 51)]
        assert {one.seq: one for one in told} == {one.seq: one for one in found}

    async def test_a_canceled_append_leaves_its_whole_line_or_none_and_the_journal_goes_on(
        self, open_journal: OpenJournal
    ) -> None:
        """A run can be canceled at any moment."""
        journal = open_journal()
        await _append(journal, _RUN)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.append(_entry(1))
        await _append(journal, _END)
        found = await _read(open_journal())
        assert [one for one in found if one != _entry(1)] == [_RUN, _END]
        assert [one.seq for one in found] == [*range(1, len(found) + 1)]

    async def test_what_was_read_stays_as_it_was_read(self, open_journal: OpenJournal) -> None:
        """A later line does not change what somebody holds."""
        journal = open_journal()
        await _append(journal, _RUN)
        found = await journal.read()
        await _append(journal, _END)
        assert [*found] == [_RUN]

    async def test_text_with_any_characters_is_kept(self, open_journal: OpenJournal) -> None:
        """Agents say what they like."""
        odd = "a\nb\r\nc\0\u2028\u2029\x85\x1b[2J\\\"'🙂}{" + "x" * 5_000
        event = AgentExited("id", AgentReport(Outcome.OK, text=odd))
        await _append(open_journal(), Entry(_NOW, "WP01", event), _END)
        assert await _read(open_journal()) == [Entry(_NOW, "WP01", event), _END]

    async def test_text_that_is_no_unicode_hinders_no_other_line(self, open_journal: OpenJournal) -> None:
        """What of it cannot be written may be replaced."""
        event = AgentExited("id", AgentReport(Outcome.FAILED, detail="caf\udce9 \ud83d end"))
        await _append(open_journal(), _RUN, Entry(_NOW, "WP01", event), _END)
        first, odd, last = await _read(open_journal())
        assert (first, last) == (_RUN, _END)
        assert isinstance(odd, Entry)
        assert isinstance(odd.event, AgentExited)
        assert odd.event.report.detail.startswith("caf")
        assert odd.event.report.detail.endswith("end")

    async def test_a_mapping_of_any_kind_is_kept(self, open_journal: OpenJournal) -> None:
        """The ports ask for mappings, not for dicts."""
        given = replace(_RUN, policy=replace(_RUN.policy, families=ChainMap({"codex": "openai"})))
        await _append(open_journal(), given)
        (line,) = await _read(open_journal())
        assert isinstance(line, RunStarted)
        assert {**line.policy.families} == {"codex": "openai"}

    async def test_a_moment_is_kept_whatever_its_zone(self, open_journal: OpenJournal) -> None:
        """To the microsecond."""
        east = _NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
        await _append(open_journal(), Entry(east, "WP01", Submitted()))
        (line,) = await _read(open_journal())
        assert line.at == _NOW
        assert line.at.tzinfo is not None
