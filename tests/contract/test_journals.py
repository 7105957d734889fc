"""Our journals keep what every journal promises, and the suite finds those that do not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio.lowlevel
import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.core.run_events import Entry, Line, RunStarted
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.ports import Journal, OneLine
from spec_kitty_orchestrator.testing import JournalContract, MemoryJournal, OpenJournal


class TestJsonlJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, tmp_path: Path) -> OpenJournal:
        return lambda: JsonlJournal(tmp_path / "mission", tmp_path)


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def open_journal(self) -> OpenJournal:
        journal = MemoryJournal()
        return lambda: journal


class Forgetful(MemoryJournal):
    """Loses its third line."""

    async def read(self) -> Sequence[Line]:
        lines = [*await super().read()]
        return tuple(lines[:2] + lines[3:])


class Late(MemoryJournal):
    """Keeps the last line for the next append."""

    async def read(self) -> Sequence[Line]:
        return (await super().read())[:-1]


class Silent(MemoryJournal):
    """Does not tell the numbers."""

    async def append(self, line: OneLine) -> OneLine:
        await super().append(line)
        return line


class Trusting(MemoryJournal):
    """Takes the number that a line has."""

    async def append(self, line: OneLine) -> OneLine:
        kept = await super().append(line)
        if line.seq:
            self.lines[-1] = replace(self.lines[-1], seq=line.seq)
        return kept


class Racing(MemoryJournal):
    """Gives a number before it waits, and keeps the line after that."""

    async def append(self, line: OneLine) -> OneLine:
        numbered = replace(line, seq=len(self.lines) + 1)
        if isinstance(numbered, RunStarted):
            numbered = replace(numbered, number=sum(isinstance(one, RunStarted) for one in self.lines) + 1)
        await anyio.lowlevel.checkpoint()
        self.lines.append(numbered)
        return numbered


class Live(MemoryJournal):
    """Gives away the list that it goes on with."""

    async def read(self) -> Sequence[Line]:
        return self.lines


class Terse(MemoryJournal):
    """Keeps no times."""

    async def append(self, line: OneLine) -> OneLine:
        return await super().append(replace(line, took_s=0.0) if isinstance(line, Entry) else line)


class Locked(MemoryJournal):
    """A canceled append leaves it locked for good."""

    broken = False

    async def append(self, line: OneLine) -> OneLine:
        assert not self.broken
        self.broken = True
        numbered = await super().append(line)
        self.broken = False
        return numbered


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Forgetful, "test_lines_are_read_in_the_order_in_which_they_were_appended"),
        (Late, "test_what_append_returned_for_is_there_for_whoever_opens_the_journal_next"),
        (Silent, "test_whoever_appends_a_line_is_told_its_number_and_a_start_its_count"),
        (Trusting, "test_numbers_are_read_back_and_go_on_at_the_next_start"),
        (Racing, "test_lines_appended_at_once_are_all_kept_each_under_a_number_of_its_own"),
        (Live, "test_what_was_read_stays_as_it_was_read"),
        (Terse, "test_every_kind_of_line_reads_back_as_it_was"),
        (Locked, "test_a_canceled_append_leaves_its_whole_line_or_none_and_the_journal_goes_on"),
    ],
)
def test_a_journal_that_breaks_a_promise_is_found(mutant: type[MemoryJournal], promise: str) -> None:
    def fixture() -> Callable[[], Journal]:
        journal = mutant()
        return lambda: journal

    assert not is_kept(JournalContract, promise, {"open_journal": fixture})


def test_a_journal_that_is_only_in_the_process_that_wrote_it_is_found() -> None:
    fixtures = {"open_journal": lambda: MemoryJournal}
    kept = "test_what_append_returned_for_is_there_for_whoever_opens_the_journal_next"
    assert not is_kept(JournalContract, kept, fixtures)
    assert is_kept(JournalContract, "test_a_new_journal_is_empty", fixtures)
