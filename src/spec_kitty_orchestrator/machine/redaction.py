"""Takes secrets out of text: known values, and whatever has the shape of a well-known kind of key.

Whether something is a secret depends on at most `LONGEST_BYTES` from its first byte on, and a few before it.
So a stream gives the same as the whole, however it is cut into chunks, and in bounded memory.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
MIN_SECRET_CHARS = 8
"""Shorter values are left alone: they would match ordinary words."""
LONGEST_BYTES = 20 * 1024
"""No match is longer; a private key of 16,384 bits has 13 KB."""

_MARK = REDACTED.encode()
_PIECE_BYTES = 4 * 1024
_CONTEXT_BYTES = 16
# What may stand right before a key: no letter, unless it ends an escape of JSON, of a URL or of a terminal.
_BOUNDARY = re.compile(
    rb"(?:[^A-Za-z0-9_]|\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|\[[0-9;]{0,12}m)\Z", re.DOTALL
)

Span = tuple[int, int]


@dataclass(frozen=True)
class _Shape:
    """A kind of key: how it begins, which is cheap to find, and the whole; group 1, if any, is the secret."""

    begins: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    anywhere: bool = False


def _shape(begins: str, pattern: str, *, anywhere: bool = False) -> _Shape:
    words = tuple(word.replace("·", " ").encode() for word in begins.split())
    return _Shape(words, re.compile(pattern.encode(), re.VERBOSE), anywhere)


_SHAPES = (
    _shape("sk-", r"sk-(?=[\w-]{0,512}\d)[\w-]{16,512}"),
    _shape("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[pousr]|github_pat)_\w{16,512}"),
    _shape("AKIA ASIA", r"A[KS]IA[0-9A-Z]{16}(?!\w)"),
    _shape("AIza", r"AIza[\w-]{30,128}"),
    _shape("xox", r"xox[abeprs]-[\w-]{10,512}"),
    _shape("glpat-", r"glpat-[\w-]{16,512}"),
    _shape("npm_ hf_ gsk_", r"(?:npm|hf|gsk)_[A-Za-z0-9]{30,256}"),
    _shape("sk_live_ sk_test_ rk_live_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,256}"),
    _shape("pypi-", r"pypi-[\w-]{50,512}"),
    _shape("eyJ", r"eyJ[\w-]{8,4096}+\.eyJ[\w-]{8,8192}+\.[\w-]{8,1024}"),
    _shape("Bearer· bearer·", r"[Bb]earer\ ((?=[\w.~+/-]{0,512}\d)[\w.~+/-]{16,8192}={0,2})"),
    _shape("Basic·", r"Basic\ ((?=[A-Za-z0-9+/]{0,512}[0-9=])[A-Za-z0-9+/]{16,4096}={0,2})"),
    _shape(
        "-----BEGIN·",
        r"""-----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----
        (?:[^"]{0,16384}?-----END\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----
        |(?:(?:\s|\\+[nr]){0,8}[A-Za-z0-9+/=]{16,128}){1,120})""",
        anywhere=True,
    ),
    _shape("://", r"://[^\s/:@\"'\\<>]{0,256}:([^\s/@\"'\\<>\[\]${}*]{3,512})@", anywhere=True),
    # As in a file of variables, or in what prints them; 40 hexadecimal digits name a commit.
    _shape(
        "TOKEN SECRET PASSWORD PASSWD _KEY APIKEY _authToken x-api-key X-Api-Key",
        r"""(?:TOKEN|SECRET|PASSWORD|PASSWD|_KEY|APIKEY|_authToken|[xX]-[aA]pi-[kK]ey)
        [A-Z0-9_]{0,64}["'\\]{0,3}\ {0,2}[:=]\ {0,2}["'\\]{0,3}
        (?![0-9a-f]{40}(?!\w))(?=[\w+/.~=-]{0,1024}\d)(?=[\w+/.~=-]{0,1024}[A-Za-z])
        ([\w+/.~=-]{12,1024})""",
        anywhere=True,
    ),
)


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

    def value(self, value: Any) -> Any:
        """Do the same for every text in JSON-like data; keys stay as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def stream(self) -> "RedactionStream":
        """Begin to redact bytes that come in chunks."""
        return RedactionStream(self)

    def spans(self, data: bytes, start: int, end: int) -> list[Span]:
        """Find the secrets of matches that begin from `start` up to `end`."""
        return [*self._known(data, start, end), *_shaped(data, start, end)]

    def _known(self, data: bytes, start: int, end: int) -> Iterator[Span]:
        for piece in self._pieces:
            limit = end + len(piece) - 1
            place = data.find(piece, start, limit)
            while place >= 0:
                yield place, place + len(piece)
                place = data.find(piece, place + 1, limit)


class RedactionStream:
    """One stream of bytes; `found` tells whether anything was redacted so far."""

    def __init__(self, redactor: Redactor) -> None:
        """Begin with nothing; `Redactor.stream` is the way to one."""
        self.found = False
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
        dropped = max(0, end - _CONTEXT_BYTES)
        self._data = self._data[dropped:]
        self._start, self._resume = end - dropped, self._resume - dropped
        self._ahead = [(begin - dropped, until - dropped) for begin, until in self._ahead]
        return b"".join(parts)


def _shaped(data: bytes, start: int, end: int) -> Iterator[Span]:
    for shape in _SHAPES:
        for begin in shape.begins:
            limit = end + len(begin) - 1
            place = data.find(begin, start, limit)
            while place >= 0:
                before = data[max(0, place - _CONTEXT_BYTES) : place]
                if shape.anywhere or not before or _BOUNDARY.search(before):
                    match = shape.pattern.match(data, place, place + LONGEST_BYTES)
                    if match is not None:
                        yield match.span(1 if shape.pattern.groups else 0)
                place = data.find(begin, place + 1, limit)


def _pieces(secret: str) -> Iterator[bytes]:
    """Yield how a value may be written: as it is, in JSON or a URL, line by line; long ones in parts."""
    lines = secret.splitlines()
    values = [secret, *(line.strip() for line in lines if len(line.strip()) >= 20)] if lines[1:] else [secret]
    for value in values:
        escaped = json.dumps(value)[1:-1]
        plain = json.dumps(value, ensure_ascii=False)[1:-1]
        for form in {value, escaped, plain, json.dumps(plain)[1:-1], quote(value, safe="", errors="replace")}:
            data = form.encode("utf-8", "surrogateescape" if form == value else "replace")
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
