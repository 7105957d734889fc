"""The log of work packages in words: who begins, what they do step by step, and what became of it."""

from datetime import datetime

from rich.text import Text

from spec_kitty_orchestrator.agents.steps import Step, StepKind
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.views.console import LONGEST_LINE, SteadyConsole

__all__ = ["LogView"]

VERB_WIDTH = max(len(kind) for kind in StepKind)
_STYLES = {
    StepKind.SAYS: "bold",
    StepKind.RUNS: "cyan",
    StepKind.EDITS: "green",
    StepKind.READS: "blue",
    StepKind.THINKS: "dim",
    StepKind.USES: "magenta",
    StepKind.FAILS: "red",
    StepKind.ENDS: "yellow",
}
_WHO_STYLES = ("cyan", "magenta", "yellow", "green", "blue", "bright_red", "bright_cyan", "bright_magenta")
_MARKS = {True: ("✓", "green"), False: ("✕", "red"), None: ("·", "dim")}
_DIFF = (("+++", "bold"), ("---", "bold"), ("+", "green"), ("-", "red"), ("@@", "cyan"))
_NARROW = 20
"""Columns for a text, below which it is not wrapped."""
_NO_TIME = " " * len("00:00:00")


class LogView:
    """Prints a log; all clocks are in UTC. `who` stands before each line where several speak."""

    def __init__(self, console: SteadyConsole) -> None:
        self._console = console
        self._styles: dict[str, str] = {}

    def rule(self, title: str, at: datetime | None = None, who: str = "") -> None:
        """Begin something new."""
        when = f"{at:%H:%M:%S} " if at else ""
        self._line(Text(f"── {when}{clean(title)} ──", "bold"), who)

    def step(self, step: Step, who: str = "") -> None:
        """Print what an agent does, behind its verb."""
        style = _STYLES[step.kind]
        verb = Text(f"{step.kind:<{VERB_WIDTH}}", style)
        said = Text(clean(step.text), style if step.kind in (StepKind.THINKS, StepKind.FAILS) else "")
        self._column(step.at, verb, said, who)

    def result(self, good: bool | None, told: str, at: datetime | None, who: str = "") -> None:
        """Print what became of it, and whether that is good."""
        mark, style = _MARKS[good]
        said = Text(clean(told, LONGEST_LINE), "red" if good is False else "")
        self._column(at, Text(f"{mark:<{VERB_WIDTH}}", style), said, who)

    def text(self, line: str, who: str = "", style: str = "") -> None:
        """Print a line of text with all its blanks, but without what acts on a terminal."""
        self._line(Text(plain(line).replace("\n", " "), style), who)

    def diff(self, line: str) -> None:
        """Print a line of a diff."""
        self.text(line, style=next((style for mark, style in _DIFF if line.startswith(mark)), ""))

    @property
    def over(self) -> bool:
        """Whether nobody reads it any more."""
        return self._console.quiet

    def _column(self, at: datetime | None, verb: Text, said: Text, who: str) -> None:
        """Print a text in its own column; only a terminal has a width, to which it is wrapped."""
        before = Text.assemble((f"{at:%H:%M:%S}" if at else _NO_TIME, "dim"), " ", verb, " ")
        room = self._console.width - len(before) - (len(who) + 2 if who else 0)
        lines = [said]
        if self._console.is_terminal and room >= _NARROW:
            lines = list(said.wrap(self._console, room))
        for line in lines:
            line.rstrip()
            self._line(before + line, who)
            before = Text(" " * len(before))

    def _line(self, line: Text, who: str) -> None:
        if who:
            style = self._styles.setdefault(who, _WHO_STYLES[len(self._styles) % len(_WHO_STYLES)])
            line = Text.assemble((f"{clean(who):<5}", style), " ", line)
        self._console.print(line, soft_wrap=True)
