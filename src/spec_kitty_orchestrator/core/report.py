"""An implementer's final text -> the short report that we ask for; every part of it may be missing."""

import re
from collections.abc import Mapping

from spec_kitty_orchestrator.core.json_text import objects, text_of
from spec_kitty_orchestrator.core.model import ImplementReport

_KEYS = ("subtasks_done", "summary", "no_change_reason")
_SUBTASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
MOST_SUBTASKS = 200


def read_report(text: str, attempt_id: str) -> ImplementReport:
    """Read the last report object of this attempt; an empty report when there is none.

    Subtask ids go into a command line, so whatever does not look like one is dropped.
    """
    found = [
        one.value
        for one in objects(text)
        if one.value.get("attempt") == attempt_id and any(key in one.value for key in _KEYS)
    ]
    if not found:
        return ImplementReport()
    last = found[-1]
    return ImplementReport(
        subtasks_done=_subtasks(last),
        summary=text_of(last.get("summary"), 4_000),
        no_change_reason=text_of(last.get("no_change_reason"), 2_000),
    )


def _subtasks(report: Mapping[str, object]) -> tuple[str, ...]:
    named = report.get("subtasks_done")
    if not isinstance(named, list):
        return ()
    ids = (one for one in named if isinstance(one, str) and _SUBTASK.fullmatch(one))
    return tuple(dict.fromkeys(ids))[:MOST_SUBTASKS]
