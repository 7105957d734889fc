"""Takes secrets out of text: known values, and whatever has the shape of a well-known kind of key.

Whether something is a secret depends on at most `LONGEST_BYTES` from its first byte on, and a few before it.
So a stream gives the same as the whole, however it is cut into chunks, and in bounded memory.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spec_kitty_orchestrator.core.plain_text import begun, ended, plain
from spec_kitty_orchestrator.machine.key_shapes import CONTEXT_BYTES, LONGEST_KEY_BYTES, Span, key_spans
from spec_kitty_orchestrator.machine.spellings import spellings

__all__ = [
    "LONGEST_BYTES",
    "REDACTED",
    "RedactionStream",
    "Redactor",
    "is_secret_name",
    "ours",
    "secret_values",
]

REDACTED = "[redacted]"
MIN_SECRET_CHARS = 8
"""Shorter values are left alone: they would match ordinary words."""
LONGEST_BYTES = LONGEST_KEY_BYTES
"""No match is longer."""

_MARK = REDACTED.encode()
_PIECE_BYTES = 4 * 1024


class Redactor:
    """Knows what must not be seen; it is never changed, and can be used by several threads."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the values to look for besides the shapes of keys; too short ones are left out."""
        self._secrets = frozenset(one for one in secrets if len(one) >= MIN_SECRET_CHARS)
        pieces = {piece for one in self._secrets for piece in _pieces(one)}
        self._pieces = tuple(sorted(pieces, key=lambda piece: (-len(piece), piece)))

    def sparing(self, *words: str) -> "Redactor":
        """Return one that leaves these words alone, should a known value be one of them or a part of one."""
        kept = [one for one in self._secrets if not any(one in word for word in words)]
        return self if len(kept) == len(self._secrets) else Redactor(kept)

    def text(self, text: str) -> str:
        """Return the text with a mark in place of each secret."""
        stream = self.stream()
        clean = stream.feed(text.encode("utf-8", "surrogatepass")) + stream.finish()
        return clean.decode("utf-8", "surrogatepass") if stream.found else text

    def knows(self, data: bytes) -> bool:
        """Tell whether bytes hold one of the known values; shapes of keys do not count."""
        return next(self._known(data, 0, len(data)), None) is not None

    def tail(self, text: str, limit: int) -> str:
        """Return the last characters as plain text: redacted first, so that no part of a secret is left."""
        text = plain(text)
        kept = self._from(text, len(text) - limit + 1) if len(text) > limit else self.text(text)
        return ended(kept, limit)

    def head(self, text: str, limit: int) -> str:
        """Return the first characters as plain text, redacted before they are cut."""
        return begun(self.text(plain(text)), limit)

    def _from(self, text: str, begin: int) -> str:
        data = text.encode()
        cut = len(text[:begin].encode())
        # What was cut off before it came here may begin with a part of a secret, too.
        across = (until for start, until in self.spans(data, 0, len(data)) if start < cut < until)
        after = data[max([cut, *across]) :].decode("utf-8", "ignore")
        return f"…{self.text(after)}"

    def value(self, value: Any) -> Any:
        """Do the same for every text in JSON-like data; keys stay as they are."""
        # A look at all of it at once takes a tenth of the time, and most data holds no secret.
        together = "\n".join(_texts(value))
        return value if self.text(together) == together else self._value(value)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def stream(self) -> "RedactionStream":
        """Begin to redact bytes that come in chunks."""
        return RedactionStream(self)

    def spans(self, data: bytes, start: int, end: int) -> list[Span]:
        """Find the secrets of matches that begin from `start` up to `end`."""
        return [*self._known(data, start, end), *key_spans(data, start, end)]

    def _known(self, data: bytes, start: int, end: int) -> Iterator[Span]:
        for piece in self._pieces:
            limit = end + len(piece) - 1
            place = data.find(piece, start, limit)
            while place >= 0:
                yield place, place + len(piece)
                place = data.find(piece, place + 1, limit)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def ours() -> Redactor:
    """Return one for what git, the host and other programs say that run in our own environment."""
    return Redactor(secret_values(os.environ))


class RedactionStream:
    """One stream of bytes; `found` tells whether anything was redacted so far."""

    def __init__(self, redactor: Redactor) -> None:
        """Begin with nothing; `Redactor.stream` is the way to one."""
        self.found: bool = False
        self._redactor = redactor
        self._data = b""
        self._start = 0
        self._resume = 0
        self._ahead: list[Span] = []

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes, and return those that are certain by now, redacted."""
        self._data += chunk
        return self._release(len(self._data) - LONGEST_BYTES)

    def finish(self) -> bytes:
        """Return the rest, redacted."""
        return self._release(len(self._data))

    def _release(self, end: int) -> bytes:
        """Give out what lies before `end`; behind it may begin what is still incomplete."""
        if end <= self._start:
            return b""
        spans = sorted([*self._ahead, *self._redactor.spans(self._data, self._start, end)])
        self._ahead = [span for span in spans if span[0] >= end]
        parts: list[bytes] = []
        for begin, until in spans:
            if begin >= end:
                break
            if begin >= self._resume:
                parts += (self._data[self._resume : begin], _MARK)
                self.found = True
            self._resume = max(self._resume, until)
        if self._resume < end:
            parts.append(self._data[self._resume : end])
            self._resume = end
        # What precedes a key says whether it is one.
        dropped = max(0, end - CONTEXT_BYTES)
        self._data = self._data[dropped:]
        self._start, self._resume = end - dropped, self._resume - dropped
        self._ahead = [(begin - dropped, until - dropped) for begin, until in self._ahead]
        return b"".join(parts)


def _pieces(secret: str) -> Iterator[bytes]:
    """Yield how a value may be written: whole and line by line, in every spelling; long ones in parts."""
    lines = secret.splitlines()
    values = [secret, *(line.strip() for line in lines if len(line.strip()) >= 20)] if lines[1:] else [secret]
    for value in values:
        for data in spellings(value):
            for place in range(0, len(data), _PIECE_BYTES):
                piece = data[place : place + _PIECE_BYTES]
                if len(piece) >= MIN_SECRET_CHARS:
                    yield piece


_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|AUTHORIZATION|COOKIE"
    r"|KEYS?(?![A-Z])|AUTH(?!OR)|(?:^|_)(?:PASS|PAT|PWD)(?:_|$)",
    re.IGNORECASE,
)
_WORD_OR_NUMBER = re.compile(r"[A-Za-z]?[a-z]+|[A-Z]+|[\d.,:+-]+")
_BARE_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s@?#]*")
_FEW_LETTERS = 3
"""A value of no more different letters is a placeholder, such as `xxxxxxxx`."""


def is_secret_name(name: str) -> bool:
    """Tell whether a variable's name says that its value is a secret."""
    return name not in ("PWD", "OLDPWD") and _SECRET_NAME.search(name) is not None


def secret_values(*environments: Mapping[str, str]) -> frozenset[str]:
    """Return the values of secret-looking variables, without those that are plainly something else.

    Words, numbers, addresses without a password and paths of this machine (the disk is looked at) are in so
    much text that nobody could read it any more.
    """
    return frozenset(
        value
        for environment in environments
        for name, value in environment.items()
        if is_secret_name(name) and _could_be_secret(value)
    )


def _could_be_secret(value: str) -> bool:
    return not (
        len(value) < MIN_SECRET_CHARS
        or len(set(value)) <= _FEW_LETTERS
        or _WORD_OR_NUMBER.fullmatch(value)
        or _BARE_URL.fullmatch(value)
        or _is_path(value)
    )


def _is_path(value: str) -> bool:
    if not value.startswith(("/", "~/", "./", "../")) or "\0" in value:
        return False
    try:
        path = Path(value).expanduser()
        # A key in Base64 can begin with a slash; a folder of that name is not there.
        return path.exists() or (len(path.parts) > 2 and path.parent.is_dir())
    except (OSError, RuntimeError, ValueError):
        return False
