"""A console whose reader may go away: that silences us, and never ends a run."""

import os

from rich.console import Console


class SteadyConsole(Console):
    """A `Console` that does not end the process when its pipe is closed, as rich's own does."""

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
