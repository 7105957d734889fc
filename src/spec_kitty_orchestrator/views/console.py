"""A console that shows no secret, and whose reader may go away: that silences us, and never ends a run."""

import os
from typing import IO, Any

from rich.console import Console

from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.secret_names import secret_values


class SteadyConsole(Console):
    """A `Console` that does not end the process when its pipe is closed, as rich's own does.

    Whatever it writes is redacted: what we say ourselves of settings and errors, too.
    """

    def __init__(self, *, redactor: Redactor | None = None, **options: Any) -> None:
        """Take rich's own options, and what must not be seen; without it, the secrets of the environment."""
        self._redactor = redactor or Redactor(secret_values(os.environ))
        super().__init__(**options)

    @property
    def file(self) -> IO[str]:
        """Where it writes to, behind the redaction."""
        return _Discreet(super().file, self._redactor)  # type: ignore[return-value]

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> None:
        """Go on in silence; the descriptor is replaced so that Python's own flush at exit succeeds."""
        self.quiet = True
        try:
            descriptor = self.file.fileno()
        except (OSError, ValueError):
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def say(line: str, redactor: Redactor | None = None) -> None:
    """Print one line for people on stdout as it is, but for secrets; see `SteadyConsole`."""
    console = SteadyConsole(highlight=False, soft_wrap=True, emoji=False, redactor=redactor)
    console.print(line, markup=False)


class _Discreet:
    """A file for text that never shows a secret; rich writes what belongs together in one go."""

    def __init__(self, file: IO[str], redactor: Redactor) -> None:
        self._file = file
        self._redactor = redactor

    def write(self, text: str) -> int:
        return self._file.write(self._redactor.text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
