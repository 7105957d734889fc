"""Takes secrets out of an attempt's files once nothing writes them any more.

A file is replaced as a whole, by a rename within its folder: who is interrupted leaves the old one or the new
one, and doing it again gives the same. A file in which nothing is found is not touched.
"""

import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from spec_kitty_orchestrator.agents.spec import OWN_FOLDER
from spec_kitty_orchestrator.machine.files import PART, open_file, replacing
from spec_kitty_orchestrator.machine.redaction import RedactionStream, Redactor

__all__ = ["scrub_directory", "scrub_file", "scrub_unreported"]

KEPT = frozenset({"prompt.md", "exit", "process.json", "stdout.times"})
"""The prompt is what we wrote, for its owner alone; the others hold numbers."""

_CHUNK_BYTES = 128 * 1024


def scrub_directory(directory: Path, redactor: Redactor, kept: Collection[str] = KEPT) -> int:
    """Redact every file right below a directory and its CLI's own folder, except those of these names.

    Not for the event loop: it takes some 30 ms of processor time for each MB.

    Returns:
        How many files held a secret.

    Raises:
        OSError: one of them could not be replaced; the others were.
    """
    count = 0
    failure: OSError | None = None
    own = directory / OWN_FOLDER
    places = [directory, own] if own.is_dir() and not own.is_symlink() else [directory]
    for path in sorted(path for place in places for path in place.iterdir()):
        if path.name.startswith(".") and path.name.endswith(PART):
            with suppress(OSError):
                path.unlink()
        elif path.name not in kept:
            try:
                count += scrub_file(path, redactor)
            except OSError as error:
                failure = failure or error
    if failure is not None:
        raise failure
    return count


def scrub_unreported(logs: Path, redactor: Redactor) -> int:
    """Do the same for every attempt below a mission's log folder whose end nobody has seen to.

    Not for the event loop; none of their processes may run any more.

    Raises:
        OSError: see `scrub_directory`.
    """
    attempts = sorted(record.parent for record in logs.glob("*/*/command.json"))
    return sum(scrub_directory(one, redactor) for one in attempts if not (one / "result.json").exists())


def scrub_file(path: Path, redactor: Redactor) -> bool:
    """Redact one file in bounded memory, and tell whether anything was found in it.

    What is no ordinary file of its own (a link, a pipe, a folder) is left alone. Not for the event loop.

    Raises:
        OSError: it cannot be read, or not be replaced.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    with open_file(path) as file:
        if not _holds_a_secret(file, redactor.stream()):
            return False
        with replacing(path) as out:
            file.seek(0)
            _copy(file, out, redactor.stream())
    return True


def _holds_a_secret(file: BinaryIO, stream: RedactionStream) -> bool:
    while chunk := file.read(_CHUNK_BYTES):
        stream.feed(chunk)
        if stream.found:
            return True
    stream.finish()
    return stream.found


def _copy(file: BinaryIO, out: BinaryIO, stream: RedactionStream) -> None:
    while chunk := file.read(_CHUNK_BYTES):
        out.write(stream.feed(chunk))
    out.write(stream.finish())
