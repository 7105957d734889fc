"""A console that shows no secrets; its reader can disappear or pause without ending or delaying a run."""

import json
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Condition, Thread
from typing import IO, Any, TextIO

import anyio
from rich.console import Console
from rich.text import Text

from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.machine.files import discard
from spec_kitty_orchestrator.machine.redaction import Redactor, ours
from spec_kitty_orchestrator.views.ci import inert, inert_json, service_around

__all__ = ["LONGEST_LINE", "READER_PATIENCE_S", "PatientFile", "SteadyConsole", "print_json", "tell_asking"]

LONGEST_LINE = 4000
"""Characters of a line that a person asked for, or has to act on."""

WIDTH_OF_FILES = 200
"""Width of tables in columns when no terminal defines it."""


class SteadyConsole(Console):
    """A `Console` that, unlike rich's own, does not end the process when its pipe is closed.

    Everything that it writes is redacted, including our own messages about settings and errors.
    """

    def __init__(
        self,
        file: Any = None,
        *,
        stderr: bool = False,
        redactor: Redactor | None = None,
        in_ci: bool = False,
        **options: Any,
    ) -> None:
        """Take rich's own options and a redactor, by default for the secrets of the environment.

        In a job of CI, as the environment or `in_ci` says, no text is a command of the service.
        """
        file = file or (sys.stderr if stderr else sys.stdout)
        self._redactor = redactor or ours()
        discreet: Any = _Discreet(file, self._redactor, in_ci or service_around(os.environ) is not None)
        super().__init__(file=discreet, **{"highlight": False, "soft_wrap": True, **options})
        if not self.is_terminal and "width" not in options:
            self.width = WIDTH_OF_FILES

    def tell(self, text: str = "", label: str = "", style: str = "") -> None:
        """Print one line as it is, without escape sequences, behind a label; its indent is kept."""
        indent = len(text) - len(text.lstrip(" "))
        shown = clean(self._redactor.text(text), LONGEST_LINE)
        told = Text.assemble((label, style), " " * indent, shown)
        self.print(told, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Be quiet from now on."""
        self.quiet = True
        with suppress(OSError, ValueError):
            discard(self.file.fileno())


def tell_asking(whom: str, mission: str, redactor: Redactor | None = None) -> None:
    """Say on stderr who is asked about a mission, as answers take seconds."""
    SteadyConsole(stderr=True, redactor=redactor).tell(f"asking {whom} about the mission {mission}")


def print_json(document: object, redactor: Redactor) -> None:
    """Print one JSON document on stdout, without secrets; times are in ISO format."""
    print(inert_json(json.dumps(redactor.value(document), indent=2, default=datetime.isoformat)))  # noqa: T201


class _Discreet:
    """A redacting text file; rich writes coherent text in one call, so no secret is split."""

    def __init__(self, file: IO[str], redactor: Redactor, in_ci: bool) -> None:
        self._file = file
        self._redactor = redactor
        self._in_ci = in_ci

    def write(self, text: str) -> int:
        shown = self._redactor.text(text)
        return self._file.write(inert(shown) if self._in_ci else shown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


MOST_UNREAD_BYTES = 4 * 1024 * 1024
"""What is kept for a paused reader such as `less`; the lines of a long run are less than that in total."""

READER_PATIENCE_S = 60.0
"""At the end: how long a reader may pause before the rest is given up."""

_LOOK_S = 0.05
_WRITE_BYTES = 64 * 1024


class PatientFile:
    """A file for text whose writes return at once, while a thread writes to the real one.

    What does not fit in memory because nobody reads is dropped and counted. A file without a descriptor, such
    as one in memory, is written to directly.
    """

    def __init__(
        self,
        file: TextIO,
        most_unread_bytes: int = MOST_UNREAD_BYTES,
        missing: Callable[[int], str] = "({} lines are missing here: nobody read them in time)\n".format,
    ) -> None:
        """Write to `file`; `missing` returns what to write for so many lines that were dropped."""
        self._file = file
        self._most_unread_bytes = most_unread_bytes
        self._missing = missing
        self._descriptor: int | None = None
        with suppress(OSError, ValueError, AttributeError):
            self._descriptor = file.fileno()
        self._unread = bytearray()
        self._lost = self._written = 0
        self._gone = False
        self._changed = Condition()
        self._thread: Thread | None = None

    @property
    def behind(self) -> bool:
        """Whether there is something unread."""
        return bool(self._unread)

    def write(self, text: str) -> int:
        """Queue text, to be written as soon as the reader allows it."""
        if self._descriptor is None:
            return self._file.write(text)
        data = text.encode(self._file.encoding or "utf-8", "replace")
        with self._changed:
            if len(self._unread) + len(data) > self._most_unread_bytes:
                self._lost += text.count("\n")
            elif not self._gone:
                if self._lost:
                    self._unread += self._missing(self._lost).encode()
                    self._lost = 0
                self._unread += data
                self._changed.notify()
        if self._thread is None:
            # A daemon: it must not keep the process alive while the reader pauses.
            self._thread = Thread(target=self._write_on, name="output", daemon=True)
            self._thread.start()
        return len(text)

    def flush(self) -> None:
        """Return at once: the thread writes as soon as it can."""
        if self._descriptor is None:
            self._file.flush()

    async def drain(self) -> None:
        """Wait until everything is read, or nothing was read for `READER_PATIENCE_S`."""
        written, since = self._written, anyio.current_time()
        while self.behind and anyio.current_time() - since < READER_PATIENCE_S:
            await anyio.sleep(_LOOK_S)
            if self._written != written:
                written, since = self._written, anyio.current_time()

    def _write_on(self) -> None:
        # It writes to the descriptor: a thread stuck in `sys.stdout` would crash the interpreter at exit.
        assert self._descriptor is not None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unread)
                data = bytes(self._unread[:_WRITE_BYTES])
            try:
                done = os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
                continue
            except OSError:
                with self._changed:
                    self._gone = True
                    self._unread.clear()
                return
            with self._changed:
                self._written += done
                del self._unread[:done]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
