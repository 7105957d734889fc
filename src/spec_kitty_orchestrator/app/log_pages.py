"""Shows parts of a mission's log: in words or as they are, what was asked, changed, tested and judged."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import anyio.to_thread

from spec_kitty_orchestrator.agents.spec import PROMPT_FILE
from spec_kitty_orchestrator.agents.steps import Step, StepKind
from spec_kitty_orchestrator.app.logs import BETWEEN, AttemptOutput, Part, folder, is_good
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.events import AgentExited, GateFailed, GatesPassed
from spec_kitty_orchestrator.core.report import Told
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.diff import stat_and_changes
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.output import STDOUT, Clock, read_lines, tail_lines
from spec_kitty_orchestrator.views.log import LogView

__all__ = ["ANY", "FOUND", "LogPages", "Page"]

LONGEST_DIFF = 4_000_000
FAILED_STEPS = 15
FAILED_LINES = 15
"""Of what failed: last steps, and last lines of the error output or of a gate."""

STDERR = "stderr.log"
_TOOLS = frozenset({StepKind.RUNS, StepKind.EDITS, StepKind.READS, StepKind.USES, StepKind.FAILS})


class Page(StrEnum):
    """What of an attempt is shown."""

    WORDS = "words"
    TOOLS = "tools"
    RAW = "raw"
    PROMPT = "prompt"
    DIFF = "diff"
    GATE = "gate"
    VERDICT = "verdict"


@dataclass(frozen=True)
class Found:
    """Which attempts have a page, and what that is called."""

    has: Callable[[Part], bool]
    what: str


FOUND = {
    Page.DIFF: Found(lambda part: part.commits is not None, "a commit"),
    Page.GATE: Found(lambda part: bool(part.gates), "a gate"),
    Page.VERDICT: Found(
        lambda part: part.exited is not None and part.exited.verdict is not None, "a verdict"
    ),
}
ANY = Found(lambda _: True, "a log")


class LogPages:
    """The pages of a mission's log.

    Args:
        project: the repository.
        view: prints them.
        since: what was before that is left out; None for nothing.
    """

    def __init__(self, project: Project, view: LogView, since: datetime | None = None) -> None:
        self.project = project
        self.view = view
        self._since = since

    async def show(self, page: Page, part: Part) -> None:
        """Show a page of an attempt.

        Raises:
            UsageError: there is no such page.
            WorkspaceError: git does not know its commits any more.
        """
        if page is Page.DIFF:
            await self._diff(part)
        else:
            await anyio.to_thread.run_sync(self._show, page, part)

    def _show(self, page: Page, part: Part) -> None:
        match page:
            case Page.WORDS | Page.TOOLS:
                self.words(part, page)
            case Page.RAW:
                self._raw(part)
            case Page.PROMPT:
                self._file(part, PROMPT_FILE, "what it was asked")
            case Page.GATE:
                self._gates(part)
            case Page.VERDICT:
                self._verdict(part)

    def words(self, part: Part, page: Page = Page.WORDS, who: str = "") -> None:
        """Tell what an agent did and what became of it."""
        self.view.rule(part.title, part.at, who)
        output = AttemptOutput(self.project, part.attempt)
        self._where(output.directory)
        for step in output.steps():
            self.step(step, page, who)
            if self.view.over:
                return
        self.results(part.after, who)

    def step(self, step: Step, page: Page, who: str = "") -> None:
        """Show a step that belongs to a page; that it ended well is told by what became of it."""
        if self.wanted(step.at) and not step.ok and (page is Page.WORDS or step.kind in _TOOLS):
            self.view.step(step, who)

    def results(self, events: Iterable[Told], who: str = "") -> None:
        """Show what stands between two attempts."""
        for one in events:
            if isinstance(one.event, BETWEEN) and self.wanted(one.at):
                self.view.result(is_good(one.event), one.text, one.at, who)

    def wanted(self, at: datetime | None) -> bool:
        """Tell whether something is not too old; what has no time is not."""
        return self._since is None or at is None or at >= self._since

    def _raw(self, part: Part) -> None:
        directory = AttemptOutput(self.project, part.attempt).directory
        clock = Clock(directory)
        self.view.rule(part.title, part.at)
        self._where(directory)
        for line in read_lines(directory / STDOUT):
            if self._since is None or self.wanted(clock.at(line.end)):
                self.view.text(line.text)
        self._text(directory / STDERR, "what it wrote to stderr")

    def _where(self, directory: Path) -> None:
        """Say so where a log is not here."""
        if not directory.is_dir():
            self.view.text("(its output is not here: it was removed, or the run was imported without it)")

    def _text(self, path: Path, title: str) -> None:
        for number, line in enumerate(read_lines(path)):
            if number == 0:
                self.view.rule(title)
            self.view.text(line.text)

    def _file(self, part: Part, name: str, title: str) -> None:
        path = AttemptOutput(self.project, part.attempt).directory / name
        if not path.exists():
            raise UsageError(f"attempt {part.attempt.number} of {part.wp} has no {name} any more")
        self._text(path, f"{part.title}: {title}")

    async def _diff(self, part: Part) -> None:
        if part.commits is None:
            raise UsageError(f"attempt {part.attempt.number} of {part.wp} committed nothing")
        base, head = part.commits
        summed, changes = await stat_and_changes(Git(self.project.root), base, head, LONGEST_DIFF)
        self.view.rule(f"{part.title}: {short(base)}..{short(head)}", part.at)
        for line in (*summed.splitlines(), "", *changes.split("\n")):
            self.view.diff(line)

    def _gates(self, part: Part) -> None:
        if not part.gates:
            raise UsageError(f"no gate ran after attempt {part.attempt.number} of {part.wp}")
        for gate in part.gates:
            self.view.rule(f"gate {gate.name} on {short(gate.head)}, after attempt {part.attempt.number}")
            if place := folder(self.project, gate.log):
                self._where(place)
                for name in (STDOUT, STDERR):
                    for line in read_lines(place / name):
                        self.view.text(line.text)
        self.results(one for one in part.after if isinstance(one.event, GatesPassed | GateFailed))

    def _verdict(self, part: Part) -> None:
        verdict = part.exited.verdict if part.exited else None
        if verdict is None:
            raise UsageError(f"attempt {part.attempt.number} of {part.wp} has no verdict")
        self.view.rule(part.title, part.at)
        self.results(one for one in part.after if isinstance(one.event, AgentExited))
        for line in verdict.summary.splitlines():
            self.view.text(line)
        for one in verdict.findings:
            severity = f"[{one.severity}]" if one.severity else ""
            self.view.text(" ".join(filter(None, (severity, one.place, one.message))))

    def failed(self, parts: Iterable[Part]) -> bool:
        """Show the ends of attempts that failed and of red gates, and tell whether there were any."""
        found = False
        for part in parts:
            if part.failed and self.wanted(part.at):
                found = True
                self._failed_attempt(part)
            for one in part.after:
                if isinstance(one.event, GateFailed) and self.wanted(one.at):
                    found = True
                    self._red(part, one, one.event)
        return found

    def _failed_attempt(self, part: Part) -> None:
        output = AttemptOutput(self.project, part.attempt)
        self.view.rule(f"{part.wp} {part.title}", part.at)
        for step in output.last(FAILED_STEPS):
            self.view.step(step)
        for line in tail_lines(output.directory / STDERR, FAILED_LINES)[0]:
            self.view.text(line.text)
        self.results(one for one in part.after if isinstance(one.event, AgentExited))

    def _red(self, part: Part, told: Told, event: GateFailed) -> None:
        self.view.rule(f"{part.wp} gate {event.result.name}, after attempt {part.attempt.number}", told.at)
        for line in event.tail.splitlines()[-FAILED_LINES:]:
            self.view.text(line)
        self.results((told,))

    def paths(self, page: Page, parts: Iterable[Part]) -> Iterator[Path]:
        """Yield the files or folders in which a page of attempts is. Raises `UsageError` if it is in none."""
        if page is Page.DIFF:
            raise UsageError("a diff is no file: leave out --path")
        name = {Page.PROMPT: PROMPT_FILE, Page.VERDICT: "review.md"}.get(page, STDOUT)
        for part in parts:
            if page is not Page.GATE:
                yield AttemptOutput(self.project, part.attempt).directory / name
                continue
            for gate in part.gates:
                if place := folder(self.project, gate.log):
                    yield place
