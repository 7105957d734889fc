"""Text of others as a report shows it: without secrets, without what acts, without this machine's paths."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from spec_kitty_orchestrator.core.describe import LONGEST_LINE, LONGEST_REASON, clean, note
from spec_kitty_orchestrator.core.plain_text import ended, plain
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.machine.redaction import Redactor

__all__ = ["Texts"]

LONGEST_PATH = 400

LONGEST_BLOCK = 4000
"""Characters of the end of an output."""

_MARK = "\n\x1e\n"
"""Separates texts that are redacted at once: none that was made plain holds it, and no key goes across it."""


class Texts:
    """Makes text of a report's fit to be shown.

    Args:
        report: what it holds is redacted at once, which is much faster than one by one.
        redactor: knows what must not be seen.
        root: of the repository; it is cut from paths, as are its worktrees.
        base: the folder to which links are relative.
    """

    def __init__(self, report: Report, redactor: Redactor, root: Path, base: Path) -> None:
        """Redact what the report holds."""
        self._redactor = redactor
        self._root, self._base = root, base
        spaces = {wp.workspace.path for wp in report.state.wps.values() if wp.workspace is not None}
        cuts = [f"{one}/" for one in sorted((*spaces, str(root)), key=len, reverse=True) if one != "/"]
        # Nearly no text holds one of them, and most of them begin alike.
        self._stem = os.path.commonprefix(cuts)  # noqa: RUF071 - of texts
        self._cuts = re.compile("|".join(map(re.escape, cuts)) or "(?!)")
        texts = list(dict.fromkeys(_texts(report)))
        redacted = redactor.text(_MARK.join(map(self._plain, texts))).split(_MARK)
        self._known = dict(zip(texts, redacted, strict=True)) if len(texts) == len(redacted) else {}

    def line(self, text: str, limit: int = LONGEST_LINE) -> str:
        """Return one bounded line of it."""
        return clean(self._discreet(text), limit)

    def note(self, text: str, limit: int = LONGEST_REASON) -> str:
        """Return one bounded line of it, with the names of commits shortened."""
        return note(self._discreet(text), limit)

    def block(self, text: str, limit: int = LONGEST_BLOCK) -> str:
        """Return the end of it, with its lines."""
        return ended(self._discreet(text), limit)

    def link(self, path: str) -> str:
        """Return the address of a file of the repository's, relative to the report; "" of any other."""
        if not path or not Path(path).is_relative_to(self._root):
            return ""
        # It begins with a dot and its colons are encoded, so it is never an address of another kind.
        return quote(f"./{os.path.relpath(path, self._base)}")

    def path(self, path: str) -> str:
        """Return the path of a file as it is in the repository; of others it is whole."""
        return self._redactor.text(path.removeprefix(f"{self._root}/"))

    def file(self, named: str) -> str:
        """Return the path in the repository that somebody named, "" if it is none of a file there."""
        path = self.line(named, LONGEST_PATH).replace("\\", "/")
        parts = [one for one in path.split("/") if one not in ("", ".")]
        outside = path.startswith(("/", "~")) or ".." in parts or re.match(r"[A-Za-z][\w+.-]*:", path)
        return "" if outside else "/".join(parts)

    def _discreet(self, text: str) -> str:
        known = self._known.get(text)
        return known if known is not None else self._redactor.text(self._plain(text))

    def _plain(self, text: str) -> str:
        return plain(self._cuts.sub("", text) if self._stem in text else text)


def _texts(report: Report) -> Iterator[str]:
    yield from (one.text for one in report.lines)
    yield from (one.reason for one in report.rests)
    for wp in report.wps:
        yield from (wp.id, wp.title, wp.situation.why, wp.situation.wp.note)
        yield from (span.what for span in wp.spans)
        yield from (gate.tail for gate in wp.gates)
        for one in wp.attempts:
            yield from (one.came_to(active=report.active), one.attempt.agent)
            if one.verdict is not None:
                yield from _said(one.verdict)


def _said(verdict: Verdict) -> Iterator[str]:
    yield verdict.summary
    for one in verdict.findings:
        yield from (one.severity, one.file, one.message)
