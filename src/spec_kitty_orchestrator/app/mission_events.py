"""The events of a mission from its journals, each once and in order, also when a run starts over."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.app.journals import find_journal, run_here
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunStarted
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, archives
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import JOURNALS

__all__ = ["MissionEvents", "run_to_come"]


def run_to_come(root: Path, mission: str | None) -> str:
    """Return the slug of a mission as `run_here` does, also of one that was never run. Raises as that."""
    if mission is not None and find_journal(root, mission) is None:
        from spec_kitty_orchestrator.app.repository import missions

        planned = [one for one in missions(root) if one == mission or one.endswith(f"-{mission}")]
        if len(planned) == 1:
            return planned[0]
    return run_here(root, mission)


class MissionEvents:
    """Reads what is new in the journals of a mission.

    A run that starts over puts its journal aside and goes on with the numbers: what is missing before the
    first line of the journal is in those.

    Args:
        root: of the repository.
        mission: its slug.
        since: the number after which lines are wanted; None for all lines of the journal.
    """

    def __init__(self, root: Path, mission: str, since: int | None = None) -> None:
        self._root, self._mission = root, mission
        self._directory = root / JOURNALS / mission
        self._journal = JsonlJournal(self._directory, root)
        self._last = since

    @property
    def known(self) -> bool:
        """Whether there is a journal."""
        return self._journal.path.exists()

    @property
    def running(self) -> bool:
        """Whether a run of the mission is active on this machine."""
        return MissionLock(self._directory, self._mission).holder() is not None

    def news(self) -> Sequence[Line]:
        """Return the lines that were added since the last call, oldest first. Raises `JournalError`."""
        began = self._journal.begun
        lines: Sequence[Line] = self._journal.look()
        if self._journal.begun != began and self._last is not None:
            # Those of a copy that took the journal's place are known, and this file may be a later one.
            lines = [*self._put_aside(lines), *lines]
        last = -1 if self._last is None else self._last
        found = [line for line in lines if line.seq > last]
        if found:
            self._last = found[-1].seq
        return found

    def _put_aside(self, lines: Sequence[Line]) -> Iterator[Line]:
        last = self._last or 0
        if lines and lines[0].seq <= last + 1:
            return
        for file in archives(self._directory):
            # Damage may be why it was put aside.
            with suppress(JournalError):
                for line in JsonlJournal(self._directory, self._root, name=file.name).look():
                    if line.seq > last:
                        last = line.seq
                        yield line

    def work_packages(self) -> Sequence[str]:
        """Return the ids that the journal names; before there is one, those of the task files. It blocks."""
        found: set[str] = set()
        for line in JsonlJournal(self._directory, self._root).look():
            if isinstance(line, RunStarted):
                found |= line.mission.lanes.keys()
            elif isinstance(line, Entry) and line.wp_id:
                found.add(line.wp_id)
        if found:
            return sorted(found)
        from spec_kitty_orchestrator.app.repository import task_files

        return sorted(task_files(self._root, self._mission))
