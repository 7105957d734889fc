"""The lines of a journal as documents for other programs: one JSON object each, the same wherever it is read.

Within a `SCHEMA`, documents only grow: kinds and fields are added, and nothing changes its meaning.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, Final, Protocol, runtime_checkable

from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.run_events import AnyEvent, Entry, Line, RunAborted, RunEnded, RunStarted

__all__ = ["ENVELOPE", "KINDS", "PATHS", "SCHEMA", "EventObserver", "to_document"]

SCHEMA = 1
"""In each document; a reader refuses any other."""

_OF_RUNS: Final = {"run": "run_started", "end": "run_ended", "aborted": "run_aborted"}

KINDS: Final[Mapping[str, type]] = {
    **{_OF_RUNS[one.line]: one for one in (RunStarted, RunEnded, RunAborted)},
    **{one.kind: one for one in AnyEvent.__args__},
}
"""What each kind of document is made of."""

ENVELOPE: Final = frozenset({"kind", "line", "seq", "at"})
"""Fields of a line or an event that are not in `data`."""

PATHS: Final = frozenset({"path", "prompt_path", "directory", "log", "aside"})
"""Fields that hold absolute paths, or nothing; those in the repository leave it relative to its root."""


def to_document(line: Line, mission: str, root: str = "") -> dict[str, object]:
    """Return a line of a journal as JSON-ready data.

    Secrets are still in it: whoever passes it on redacts it.

    Args:
        line: with the number that the journal gave it.
        mission: the slug.
        root: absolute path of the repository; paths below it become relative. "" leaves them as they are.

    Returns:
        `schema`, `seq`, `at` (ISO 8601 in UTC), `mission`, `wp` (None if it concerns the whole run), `kind`
        and `data`, which has the fields of the kind.
    """
    if isinstance(line, Entry):
        wp, kind, data = line.wp_id, str(line.event.kind), _plain(line.event, "", root)
        data["took_s"] = line.took_s
    else:
        wp, kind, data = "", _OF_RUNS[line.line], _plain(line, "", root)
    at = line.at.isoformat()
    envelope = {"schema": SCHEMA, "seq": line.seq, "at": at, "mission": mission, "wp": wp or None}
    return {**envelope, "kind": kind, "data": data}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    told = ENVELOPE if kind in KINDS.values() else ()
    return tuple(one.name for one in fields(kind) if one.name not in told)


def _plain(value: Any, name: str, root: str) -> Any:
    if isinstance(value, str):
        return _relative(value, root) if name in PATHS else plain(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {plain(str(key)): _plain(one, "", root) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one, name, root) for one in value]
    # Whatever else a journal holds is made of fields.
    return {one: _plain(getattr(value, one), one, root) for one in _names(value.__class__)}


def _relative(path: str, root: str) -> str:
    if root and path == root:
        return "."
    return plain(path.removeprefix(f"{root}/") if root else path)


@runtime_checkable
class EventObserver(Protocol):
    """A plug-in of another distribution: gets a run's events in a thread of its own, and may take its time.

    One that raises, or is more than a thousand events behind, gets no more of them.
    """

    def saw(self, event: dict[str, Any]) -> None:
        """Take an event, as `to_document` makes it, without secrets."""
        ...

    def close(self) -> None:
        """Finish: there are no more events. The command waits a few seconds for all observers together."""
        ...
