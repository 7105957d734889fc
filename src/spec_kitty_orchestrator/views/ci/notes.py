"""What a person must know of a run that is over, as notes on lines of files, the most important first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spec_kitty_orchestrator.core import advice
from spec_kitty_orchestrator.core.findings import Open, Severity, last_verdict, still_open
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.report.words import EXITS, RESUMABLE, outcome

__all__ = ["Note", "figures", "notes"]

LONGEST_MESSAGE = 1500
LONGEST_TAIL = 800


@dataclass(frozen=True)
class Note:
    """One of them; `file` is relative to the repository, "" and 0 where it is about no file or line."""

    severity: Severity
    title: str
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """Return it in one line."""
        place = (
            f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " * bool(self.file)
        )
        return f"{self.severity}: {place}{self.title}: {' '.join(self.message.split())}"


def notes(report: Report, texts: Texts) -> list[Note]:
    """Return what stopped the run, who needs a person without a finding or a red gate, then what is open."""
    found = still_open(report)
    told = {one.wp.id for one in found if one.severity is Severity.ERROR}
    commands = advice.next_commands(report)
    first = []
    if not report.active and (ended := advice.why_ended(report)):
        following = advice.resume(report)
        message = "\n".join(filter(None, (texts.note(ended), following)))
        # Another job goes on where nobody is needed.
        resumable = bool(report.starts) and report.starts[-1].exit_code in RESUMABLE
        severity = Severity.WARNING if resumable else Severity.ERROR
        first.append(Note(severity, "the run ended before its work was done", message))
    for need in advice.needs(report):
        if told.isdisjoint(one.id for one in need.wps):
            steps = [texts.line(command, 1000) for _, command in need.steps]
            ids = texts.line(", ".join(one.id for one in need.wps), 120)
            message = "\n".join((texts.note(need.reason), *steps))
            first.append(Note(Severity.ERROR, f"{ids} {_needs(len(need.wps))} you", message))
    return [*first, *(_of(one, commands, texts) for one in found)]


def _needs(number: int) -> str:
    return "needs" if number == 1 else "need"


def _of(one: Open, commands: Mapping[str, str], texts: Texts) -> Note:
    wp, by = texts.line(one.wp.id, 60), texts.line(one.by, 60)
    title = f"{wp}: {'gate ' + by + ' is red' if one.gate else by + ' asks for changes'}"
    verdict = last_verdict(one.wp)
    if not one.gate and verdict is not None and verdict.ruling is Ruling.APPROVED:
        title = f"{wp}: {by} approved, and remarks"
    said = (
        texts.block(one.tail, LONGEST_TAIL) if one.gate else texts.line(one.finding.message, LONGEST_MESSAGE)
    )
    command = texts.line(commands.get(one.wp.id, ""), 1000)
    file = texts.file(one.finding.file)
    line = one.finding.line if file else 0
    return Note(one.severity, title, "\n".join(filter(None, (said.strip(), command))), file, line)


def figures(report: Report, texts: Texts, page: str) -> Iterator[tuple[str, str]]:
    """Yield what later steps of a job ask for, by name; `page` is where the report is, "" if it is not."""
    last = report.starts[-1] if report.starts else None
    code = last.exit_code if last is not None else None
    short, more = outcome(report)
    used = report.state.told
    yield "mission", texts.line(report.mission)
    yield "headline", texts.line(report.headline)
    yield "exit-code", "" if code is None else str(code)
    yield "reason", texts.note(advice.why_ended(report)) or EXITS.get(code or 0, more) or short
    yield "resumable", "true" if code is None or code in RESUMABLE else "false"
    yield "work-packages", str(len(report.wps))
    for status in Status:
        yield status.name.lower().replace("_", "-"), str(len(report.of(status)))
    yield "attempts", str(len(report.attempts))
    yield "tokens", str(used.tokens)
    yield "cost-usd", "" if used.cost_usd is None else f"{used.cost_usd:.4f}"
    yield "seconds", f"{report.took_s:.0f}"
    yield "report", page
    yield "next", "\n".join(texts.line(one, 1000) for one in _next(report))


def _next(report: Report) -> list[str]:
    """Return the commands that a person types next, what needs one first."""
    needed = [need.steps for need in advice.needs(report)]
    found = [steps[min(len(steps) - 1, 1)][1] if len(steps) > 2 else steps[0][1] for steps in needed]
    return [*found, *(command for _, command in advice.go_on(report))]
