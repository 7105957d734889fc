"""Finds what has the shape of a well-known kind of key, in a time that grows with its length alone.

A key begins with a few letters that are cheap to find, and goes on as runs of the letters that it is made of.
A run is measured once, however many beginnings lie in it: that keeps the scan linear, whatever it reads.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, cached_property

from spec_kitty_orchestrator.core.plain_text import MARGIN
from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["CONTEXT_BYTES", "LONGEST_KEY_BYTES", "Span", "key_spans"]

Span = tuple[int, int]

CONTEXT_BYTES = 16
"""What is looked at before a key; behind its first byte it has at most `LONGEST_KEY_BYTES`."""
LONGEST_KEY_BYTES = MARGIN
"""A private key of 16,384 bits has 13 KB."""

# What may stand right before a key: no letter, unless it ends an escape of JSON, of a URL or of a terminal.
_BOUNDARY = rb"(?s:[^A-Za-z0-9_]|\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|\[[0-9;]{0,12}m)\Z"
_LONGEST_PEM = 16 * 1024
_PEM_BEGINS = b"-----BEGIN "
_PEM_HEAD = rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_END = rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_LINES = rb"(?:(?:\s|\\{1,8}[nr]){0,8}[A-Za-z0-9+/=]{16,128}){1,120}"
"""Of one that is cut off."""
_QUOTE = b'"'
_NOWHERE = sys.maxsize
"""Behind the end of any text."""


@dataclass(frozen=True)
class _Run:
    """A part of a key, as long as these letters go on.

    Attributes:
        least: a shorter one is none.
        most: of a longer one no more belongs to the key; where something must follow, it is none.
        needs: letters of which it must have one each, among the first `within`.
        then: what must follow at once, and belongs to the key.
        padding: may follow it twice.
    """

    letters: bytes
    least: int
    most: int
    needs: tuple[bytes, ...] = ()
    within: int = 512
    then: bytes = b""
    padding: bytes = b""

    @cached_property
    def pattern(self) -> bytes:
        """The expression of the run."""
        return b"[" + self.letters + b"]*+"


@dataclass(frozen=True)
class _Shape:
    """A kind of key: letters that it begins with, its whole head, and its runs.

    Attributes:
        anywhere: whether letters may stand before it.
        last: whether the secret is the last run alone, and not all of it.
        ahead: what it must have within so many bytes: it spares looks at beginnings in vain.
    """

    begins: tuple[bytes, ...]
    head: bytes
    runs: tuple[_Run, ...]
    anywhere: bool
    last: bool
    ahead: bytes
    within: int


def _shape(
    begins: str,
    head: str,
    *runs: _Run,
    anywhere: bool = False,
    last: bool = False,
    ahead: tuple[bytes, int] | None = None,
) -> _Shape:
    words = tuple(word.replace("·", " ").encode() for word in begins.split())
    must, within = ahead or (b"", 0)
    return _Shape(words, head.encode(), runs, anywhere, last, must, within)


_DIGIT = (b"[0-9]",)
_SHAPES = (
    _shape("sk-", "sk-", _Run(rb"\w-", 16, 512, _DIGIT), ahead=(b"[0-9]", 516)),
    _shape("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", "(?:gh[pousr]|github_pat)_", _Run(rb"\w", 16, 512)),
    _shape("AKIA ASIA", "A[KS]IA", _Run(b"0-9A-Z", 16, 16, then=rb"(?!\w)")),
    _shape("AIza", "AIza", _Run(rb"\w-", 30, 128)),
    _shape("xox", "xox[abeprs]-", _Run(rb"\w-", 10, 512)),
    _shape("glpat-", "glpat-", _Run(rb"\w-", 16, 512)),
    _shape(
        "hooks.slack.com/ discord.com/api/webhooks/",
        r"hooks\.slack\.com/[a-z]+/|discord\.com/api/webhooks/",
        _Run(rb"\w/-", 20, 256, _DIGIT),
        anywhere=True,
        last=True,
    ),
    _shape("npm_ hf_ gsk_", "(?:npm|hf|gsk)_", _Run(b"A-Za-z0-9", 30, 256)),
    _shape("sk_live_ sk_test_ rk_live_", "[sr]k_(?:live|test)_", _Run(b"A-Za-z0-9", 16, 256)),
    _shape("pypi-", "pypi-", _Run(rb"\w-", 50, 512)),
    _shape(
        "eyJ",
        "eyJ",
        _Run(rb"\w-", 8, 4096, then=rb"\.eyJ"),
        _Run(rb"\w-", 8, 8192, then=rb"\."),
        _Run(rb"\w-", 8, 1024),
        ahead=(rb"\.eyJ", 4100),
    ),
    _shape(
        "Bearer· bearer·",
        "[Bb]earer ",
        _Run(rb"\w.~+/-", 16, 8192, _DIGIT, padding=b"="),
        last=True,
        ahead=(b"[0-9]", 520),
    ),
    _shape(
        "Basic·",
        "Basic ",
        _Run(b"A-Za-z0-9+/", 16, 4096, (b"[0-9=]",), padding=b"="),
        last=True,
        ahead=(b"[0-9=]", 520),
    ),
    _shape(
        "://",
        r"""://[^\s/:@"'\\<>]{0,256}+:""",
        _Run(rb"""^\s/@"'\\<>\[\]${}*""", 3, 512, then=b"(?=@)"),
        anywhere=True,
        last=True,
        ahead=(b"@", 3 + 256 + 1 + 512),
    ),
    # As in a file of variables, or in what prints them; 40 hexadecimal digits name a commit.
    _shape(
        "TOKEN SECRET PASSWORD PASSWD _KEY APIKEY _authToken x-api-key X-Api-Key",
        "TOKEN|SECRET|PASSWORD|PASSWD|_KEY|APIKEY|_authToken|[xX]-[aA]pi-[kK]ey",
        _Run(
            b"A-Z0-9_",
            0,
            64,
            then=rb"""["'\\]{0,3} {0,2}[:=] {0,2}["'\\]{0,3}(?![0-9a-f]{40}(?!\w))""",
        ),
        _Run(rb"\w+/.~=-", 12, 1024, (*_DIGIT, b"[A-Za-z]"), 1024),
        anywhere=True,
        last=True,
        ahead=(b"[:=]", 10 + 64 + 6),
    ),
)


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    # Most texts hold the beginning of no key; to compile them all would take longer than to read these.
    return re.compile(pattern)


def key_spans(data: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield where the secrets of keys are that begin from `start` up to `end`, in no order."""
    for shape in _SHAPES:
        begins = [one for one in shape.begins if one in data]
        if not begins:
            continue
        runs = tuple(_Measured(data, run.pattern) for run in shape.runs)
        needs = tuple(tuple(_Next(data, one) for one in run.needs) for run in shape.runs)
        for begin in begins:
            for place in _places(data, begin, start, end, shape):
                if shape.anywhere or _may_begin(data, place):
                    span = _span(shape, data, place, runs, needs)
                    if span is not None:
                        yield span
    if _PEM_BEGINS in data:
        yield from _private_keys(data, start, end)


def _places(data: bytes, word: bytes, start: int, end: int, shape: _Shape | None = None) -> Iterator[int]:
    """Yield where a word is, without those places behind which a shape has not what it must have."""
    limit = end + len(word) - 1
    ahead = _Next(data, shape.ahead) if shape is not None and shape.ahead else None
    place = data.find(word, start, limit)
    while place >= 0:
        far = ahead.span(place)[0] - shape.within if ahead is not None and shape is not None else place
        if far <= place:
            yield place
        place = data.find(word, max(place + 1, far), limit)


def _may_begin(data: bytes, place: int) -> bool:
    return not place or _compiled(_BOUNDARY).search(data[max(0, place - CONTEXT_BYTES) : place]) is not None


class _Measured:
    """Tells where a run ends; asked again within the same one it knows."""

    def __init__(self, data: bytes, pattern: bytes) -> None:
        self._data, self._pattern = data, pattern
        self._since, self._until = 0, -1

    def end(self, place: int) -> int:
        if not self._since <= place <= self._until:
            self._since, self._until = place, _scan(_compiled(self._pattern).match, self._data, place)[1]
        return self._until


class _Next:
    """Tells where the next match of a pattern is; asked again before that it knows."""

    def __init__(self, data: bytes, pattern: bytes) -> None:
        self._data, self._pattern = data, pattern
        self._since, self._found = 0, (-1, -1)

    def span(self, place: int) -> Span:
        if not self._since <= place <= self._found[0]:
            self._since, self._found = place, _scan(_compiled(self._pattern).search, self._data, place)
        return self._found


def _scan(look: Callable[[bytes, int], re.Match[bytes] | None], data: bytes, place: int) -> Span:
    """Look at as much of the text as it takes: all that could take long passes here."""
    found = look(data, place)
    return found.span() if found is not None else (_NOWHERE, _NOWHERE)


def _span(
    shape: _Shape,
    data: bytes,
    place: int,
    measured: tuple[_Measured, ...],
    needs: tuple[tuple[_Next, ...], ...],
) -> Span | None:
    head = _compiled(shape.head).match(data, place)
    if head is None:
        return None
    begin = end = until = head.end()
    for run, one, wanted in zip(shape.runs, measured, needs, strict=True):
        begin, until = end, one.end(end)
        reach = min(until + len(run.padding), begin + run.within + 1)
        if until - begin < run.least or any(letters.span(begin)[0] >= reach for letters in wanted):
            return None
        if not run.then:
            until = min(until, begin + run.most)
            rest = data[until : until + 2]
            until += len(rest) - len(rest.lstrip(run.padding)) if run.padding else 0
            continue
        follows = _compiled(run.then).match(data, until) if until - begin <= run.most else None
        if follows is None:
            return None
        end = follows.end()
    return begin if shape.last else place, until


def _private_keys(data: bytes, start: int, end: int) -> Iterator[Span]:
    ends, quotes = _Next(data, _PEM_END), _Next(data, _QUOTE)
    for place in _places(data, _PEM_BEGINS, start, end):
        head = _compiled(_PEM_HEAD).match(data, place)
        if head is None:
            continue
        last = ends.span(head.end())
        if last[0] <= min(head.end() + _LONGEST_PEM, quotes.span(head.end())[0]):
            yield place, last[1]
        elif lines := _compiled(_PEM_LINES).match(data, head.end(), place + LONGEST_KEY_BYTES):
            yield place, lines.end()
