"""What an agent does, told as steps for people, from the lines that its CLI prints.

A step is one printable, bounded line. What nobody can make sense of is no step, and never an error.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Protocol, runtime_checkable

from spec_kitty_orchestrator.agents.json_lines import Event, events, message, number, text
from spec_kitty_orchestrator.agents.tools import told_call
from spec_kitty_orchestrator.core.plain_text import MARGIN, begun, plain
from spec_kitty_orchestrator.core.records import dataclass, replace

__all__ = [
    "LONGEST_STEP",
    "Count",
    "Part",
    "Step",
    "StepKind",
    "StepReader",
    "TellsSteps",
    "Told",
    "called",
    "ended",
    "failed",
    "failed_command",
    "told_by",
]

LONGEST_STEP = 400
"""Characters of a step's text."""

_READ = LONGEST_STEP + MARGIN

_ASKED_FOR = re.compile(r"""(?:```\w*\s*)?\{\s*"attempt"\s*:.*""", re.DOTALL)
"""The JSON object that we ask for as the last word: programs read it, and what it says is told elsewhere."""


class StepKind(StrEnum):
    """The verb of a step; its subject is the agent, or for `FAILS` what it last tried."""

    SAYS = "says"
    RUNS = "runs"
    EDITS = "edits"
    READS = "reads"
    THINKS = "thinks"
    USES = "uses"
    FAILS = "fails"
    ENDS = "ends"


@dataclass(frozen=True)
class Step:
    """One thing that an agent did.

    Attributes:
        text: what it said, ran, edited and so on.
        at: when, None if its CLI does not tell.
        tokens: sent and received, that the CLI has counted since the step before; in all they are those of
            the attempt's report.
        ok: whether it went well, None if that is not known yet or never will be.
    """

    kind: StepKind
    text: str
    at: datetime | None = None
    tokens: int = 0
    ok: bool | None = None


@dataclass(frozen=True)
class Part:
    """A piece of a text; those of one kind and one `name` that follow each other become one step."""

    kind: StepKind
    text: str
    name: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Count:
    """Tokens of one answer of the model; a later count under the same `name` takes its place."""

    tokens: int
    name: str = ""


Told = Step | Part | Count


@runtime_checkable
class TellsSteps(Protocol):
    """An agent whose output is more than plain text for people.

    Without this, each line of its output is something that it says.
    """

    def steps(self, line: str) -> Iterable[Told]:
        """Return what one line of its standard output tells; nothing of a line without a meaning for people.

        It is pure: what is longer than a line is told in several `Part`. A step that ends the attempt has the
        tokens of the whole attempt. Texts may be as long as they like and hold anything.
        """
        ...


def called(tool: str, given: Event) -> Step:
    """Return the step for a call of a tool with these arguments."""
    kind, what = told_call(tool, given)
    return Step(StepKind(kind), what)


def failed(*candidates: str) -> Step:
    """Return the step for a failure, told in the first of these texts that says something."""
    return Step(StepKind.FAILS, message(*candidates, "without a word"), ok=False)


def failed_command(exit_code: float | None, output: str) -> Step:
    """Return the step for a command that failed, with the end of its output."""
    code = "without an exit code" if exit_code is None else f"exit code {exit_code:g}"
    last = next((one for one in reversed(plain(output[-_READ:]).splitlines()) if one.strip()), "")
    return failed(f"{code}: {last}" if last else code)


def ended(ok: bool, *why: str, tokens: int = 0) -> Step:
    """Return the step for the end of the work; `why` is why it failed, as in `failed`."""
    said = "finished" if ok else message(*why, "without a result")
    return Step(StepKind.ENDS, said, tokens=tokens, ok=ok)


def told_by(line: str, tell: Callable[[Event], Iterable[Told]]) -> Iterator[Told]:
    """Decode a line and return what its event tells, with the time in it; of other lines, nothing."""
    for event in events((line,)):
        at = _time(event)
        for one in tell(event):
            yield replace(one, at=at) if at and not isinstance(one, Count) and one.at is None else one


def _time(event: Event) -> datetime | None:
    for told in (event, event.get("message")):
        if not isinstance(told, dict):
            continue
        seconds = number(told, "timestamp") or number(told, "timestamp_ms")
        try:
            if seconds is not None:
                return datetime.fromtimestamp(seconds / 1000, UTC)
            if written := text(told, "timestamp"):
                at = datetime.fromisoformat(written[:64])
                return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError, OSError):
            continue
    return None


class StepReader:
    """Turns the output of one attempt into steps, a line at a time; it remembers no more than one text."""

    def __init__(
        self, agent: object = None, places: Sequence[str] = (), redact: Callable[[str], str] = str
    ) -> None:
        """Take the agent; without one that tells steps, lines are plain text.

        Args:
            agent: its module.
            places: folders whose paths are left out of texts: the worktree, the repository.
            redact: takes out what must not be shown; it sees every text before that is cut.
        """
        self._tell = agent.steps if isinstance(agent, TellsSteps) else _plain
        self._redact = redact
        self._places = sorted({one.rstrip("/") for one in places} - {""}, key=len, reverse=True)
        self._part: Part | None = None
        self._counted = self._given = 0
        self._count = Count(0)

    def read(self, line: str) -> list[Step]:
        """Return the steps that are complete with this line; it may come with what ends it or without."""
        try:
            told = list(self._tell(line))
        except Exception:  # noqa: BLE001 - agents can be plug-ins; a bug in one must not hide the others
            return []
        return [step for one in told for step in self._take(one)]

    def rest(self) -> list[Step]:
        """Return the text that may still go on as a step, if there is one: where nothing more comes."""
        part, self._part = self._part, None
        return self._step(Step(part.kind, part.text, part.at)) if part else []

    def _take(self, one: Told) -> list[Step]:
        match one:
            case Part():
                before = self._part
                if before is None or (before.kind, before.name) != (one.kind, one.name):
                    steps = self.rest()
                    self._part = replace(one, text=one.text[:_READ])
                    return steps
                self._part = replace(before, text=(before.text + one.text[:_READ])[:_READ])
                return []
            case Count():
                again = self._count.tokens if one.name and one.name == self._count.name else 0
                self._counted += max(0, one.tokens - again)
                self._count = one
                return []
            case Step():
                return [*self.rest(), *self._step(one)]
        return []

    def _step(self, step: Step) -> list[Step]:
        said = step.text[:_READ]
        shown = self._shown(_ASKED_FOR.sub("", said) if step.kind is StepKind.SAYS else said)
        if not shown:
            return []
        total = max(self._counted, step.tokens)
        tokens, self._given, self._counted = total - self._given, total, total
        return [replace(step, text=shown, tokens=tokens)]

    def _shown(self, told: str) -> str:
        said = self._redact(plain(told))
        if any(one in said for one in self._places):
            said = self._below.sub(lambda found: "" if found[1] else ".", said)
        return begun(" ".join(said.split()), LONGEST_STEP)

    @cached_property
    def _below(self) -> re.Pattern[str]:
        either = "|".join(map(re.escape, self._places))
        goes_on = r"""(/)(?=[^\s/'"`,;:)}\]>])"""
        return re.compile(rf"(?<![\w./-])(?:{either})(?:{goes_on}|/?(?![\w/-]))")


def _plain(line: str) -> Iterator[Told]:
    yield Step(StepKind.SAYS, line)
