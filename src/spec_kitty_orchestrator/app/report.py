"""The report of a mission: read from its journal, and written beside it when a run ends."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from spec_kitty_orchestrator import __version__
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.machine.files import write_private
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock

__all__ = ["Format", "Found", "read_report", "reported", "write_as"]

T = TypeVar("T")

PAGE = "report.html"

LONGEST_S = 30.0
"""A run that is over is not kept longer by its report; a large one takes a second."""


class Format(StrEnum):
    """What a report can be written as."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"
    CSV = "csv"
    TRACE = "trace"
    JUNIT = "junit"
    SARIF = "sarif"


@dataclass(frozen=True, repr=False)
class Found:
    """A report, and the journal that it was made from.

    It has no text: asyncio makes that of what a main task returns, and a large mission's takes seconds.
    """

    report: Report
    journal: Path

    @property
    def page(self) -> Path:
        """Where the page of it belongs."""
        return self.journal.with_name(PAGE)


async def read_report(project: Project, mission: str, *, active: bool) -> Found:
    """Read the report of a mission that was run here.

    Args:
        project: the user's.
        mission: its whole slug.
        active: whether its run goes on.

    Raises:
        JournalError: its journal cannot be read.
    """
    directory = project.directory(mission)
    journal = JsonlJournal(directory, project.root)
    lines = await journal.read()
    report = record(lines, project.policy).report(SystemClock().now(), active=active)
    return Found(report, journal.path)


def write_as(found: Found, project: Project, form: Format, base: Path) -> str:
    """Return a report in a format; links in it are relative to the folder `base`."""
    from spec_kitty_orchestrator.views.report import documents, markdown, texts

    report, fit = found.report, texts.Texts(found.report, project.redactor, project.root, base)
    match form:
        case Format.HTML:
            # Loaded only when it is needed: the others need no templates.
            from spec_kitty_orchestrator.views.report.page import page

            return page(report, fit, __version__, str(found.journal))
        case Format.MARKDOWN:
            return markdown.markdown(report, fit)
        case Format.JSON:
            return documents.document(report, fit)
        case Format.CSV:
            return documents.rows(report, fit)
        case Format.TRACE:
            return documents.trace(report, fit)
        case Format.JUNIT:
            from spec_kitty_orchestrator.views.report.junit import junit

            return junit(report, fit)
        case Format.SARIF:
            from spec_kitty_orchestrator.views.report.sarif import sarif

            return sarif(report, fit, __version__)


@dataclass
class Written:
    """Where the report of a run is, None while it is not written."""

    path: Path | None = None


@asynccontextmanager
async def reported(
    project: Project,
    mission: str,
    say: Callable[[str], None],
    files: Mapping[Format, Path],
    deliver: Callable[[Found], None],
) -> AsyncIterator[Written]:
    """Write the report of a run when the context ends, however it ends.

    Where that fails, it is said, and nothing else changes. Of a run that breaks there is no summary, so it is
    said where its report is.

    Args:
        project: the user's; its settings say whether a page goes beside the journal.
        mission: the slug.
        say: tells people.
        files: what else is written, and where.
        deliver: hands the report on, in a thread; it may raise.
    """
    written, broken = Written(), True
    try:
        yield written
        broken = False
    finally:
        # Also of a run that a signal ends at once.
        with anyio.move_on_after(LONGEST_S, shield=True) as scope:
            written.path = await _write(project, mission, say, files, deliver)
        if broken and written.path is not None:
            say(f"the report of this run is in {written.path}")
        if scope.cancelled_caught:
            say(f"warning: the report took more than {LONGEST_S:.0f}s; `report` writes it")


async def _write(
    project: Project,
    mission: str,
    say: Callable[[str], None],
    files: Mapping[Format, Path],
    deliver: Callable[[Found], None],
) -> Path | None:
    def put(found: Found, form: Format, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, write_as(found, project, form, path.parent))
        return path

    def write() -> Path | None:
        found = anyio.run(partial(read_report, project, mission, active=False))
        page = None
        if project.settings.run.report:
            page = _tried("the report", say, lambda: put(found, Format.HTML, found.page))
        for form, path in files.items():
            _tried(str(path), say, partial(put, found, form, path))
        _tried("what CI is told", say, partial(deliver, found))
        return page

    return await to_thread.run_sync(_tried, "the report", say, write, abandon_on_cancel=True)


def _tried(what: str, say: Callable[[str], None], write: Callable[[], T]) -> T | None:
    try:
        return write()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a report, the run is over and stands
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        say(f"warning: {what} was not written: {reason}")
        return None
