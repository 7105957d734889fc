"""The events of a run for other programs: one JSON object a line on stdout, and nothing else there."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from spec_kitty_orchestrator.core.documents import to_document
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.ci import inert_json

if TYPE_CHECKING:
    from spec_kitty_orchestrator.core.forecast import Forecast
    from spec_kitty_orchestrator.core.run import RunState
    from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["MOST_UNREAD_BYTES", "JsonLines", "json_line"]

MOST_UNREAD_BYTES = 64 * 1024 * 1024
"""What is kept for a reader that pauses: more than the events of a day."""


def json_line(document: Mapping[str, object], redactor: Redactor) -> str:
    """Return a document as one line without secrets, in ASCII whatever the locale is."""
    return inert_json(json.dumps(redactor.value(document), separators=(",", ":"))) + "\n"


class JsonLines:
    """An observer that writes each line of the journal as a document; messages go to another console.

    Args:
        file: for the documents.
        messages: for what people are told.
        root: absolute path of the repository.
        redactor: knows what must not be seen.
    """

    def __init__(self, file: TextIO, messages: "SteadyConsole", root: str, redactor: Redactor) -> None:
        self._file = file
        self._messages = messages
        self._root = root
        self._redactor = redactor
        self._mission = ""

    def began(self, state: MissionState) -> None:
        """Take the mission's name."""
        self._mission = state.slug

    def saw(self, state: "RunState", line: Line) -> None:
        """Write one document."""
        del state
        self._file.write(json_line(to_document(line, self._mission, self._root), self._redactor))
        self._file.flush()

    def said(self, message: str) -> None:
        """Print one line that concerns the whole run."""
        self._messages.tell(message)

    def expects(self, found: "Forecast") -> None:
        """Say nothing: a forecast is no event."""
        del found

    async def keep_showing(self) -> None:
        """Wait until canceled: what is written is never changed."""
        # Loaded only by a run: `events` should answer at once.
        import anyio

        await anyio.sleep_forever()
