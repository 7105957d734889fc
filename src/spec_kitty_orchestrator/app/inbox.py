"""Reads what needs a person in all missions of a repository, from their journals, at once."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.app.journals import journaled
from spec_kitty_orchestrator.app.status import StatusReader
from spec_kitty_orchestrator.errors import InvalidTransition, JournalError
from spec_kitty_orchestrator.machine.files import read_tail, read_whole
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.views.inbox import Inbox, Item, items, ordered

__all__ = ["read_inbox"]

_LONGEST_END = 4096
"""Bytes of the line that closes a run."""


def read_inbox(root: Path, environ: Mapping[str, str]) -> Inbox:
    """Return what needs a person; the missions that were run last come first where that makes no difference.

    A journal that cannot be read hides nothing of the others.
    """
    known = tuple(journaled(root))
    found: list[Item] = []
    unreadable: dict[str, str] = {}
    for mission in known:
        if _needs_nobody(root / JOURNALS / mission / "journal.jsonl"):
            continue
        try:
            found += items(StatusReader(root, mission, environ).read().report)
        except (JournalError, InvalidTransition) as error:
            unreadable[mission] = str(error)
    return Inbox(ordered(found), known, unreadable)


def _needs_nobody(journal: Path) -> bool:
    """Tell by its last line that a mission is complete: most are, and to read one takes up to a second."""
    with suppress(ValueError, AttributeError, OSError):
        last = json.loads(read_tail(journal, _LONGEST_END).rstrip("\n").rpartition("\n")[2])
        complete = last.get("line") == "end" and last.get("exit_code") == 0
        return complete and b'"conflict_forecast"' not in read_whole(journal)
    return False
