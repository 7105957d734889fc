"""A program that stands before a CLI and records how it was called: what the kernel says, not what we think.

It reads its own `/proc/PID/cmdline` and `environ` before anything else can change them, and then becomes
the CLI. Linux only.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.machine.process import MARKER

_SCRIPT = """\
#!/bin/sh
call={folder}/${marker}.$$
/bin/cat "/proc/$$/cmdline" > "$call.argv" && /bin/cat "/proc/$$/environ" > "$call.env" && exec {program} "$@"
"""


@dataclass(frozen=True)
class RecordedCall:
    """One call of the CLI: its whole argv and its whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def attempt(self) -> str:
        """The id of the attempt that it belongs to, "" if to none."""
        return self.env.get(MARKER, "")


def recorder(program: str, folder: Path) -> Path:
    """Write the program that records calls of a CLI into a new folder."""
    folder.mkdir(parents=True)
    made = folder / Path(program).name
    made.write_text(
        _SCRIPT.format(folder=shlex.quote(str(folder)), marker=MARKER, program=shlex.quote(program))
    )
    made.chmod(0o755)
    return made


def recorded(folder: Path) -> list[RecordedCall]:
    """Return the calls that were recorded in a folder, oldest first."""
    files = sorted(folder.glob("*.argv"), key=lambda file: file.stat().st_mtime_ns)
    return [
        RecordedCall(_words(file)[1:], dict(word.split("=", 1) for word in _words(file.with_suffix(".env"))))
        for file in files
    ]


def _words(file: Path) -> tuple[str, ...]:
    return tuple(file.read_bytes().decode(errors="surrogateescape").split("\0")[:-1])
