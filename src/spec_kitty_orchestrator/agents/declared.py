"""Agents of one's own, declared in the settings: a command, and where its answer stands.

Without `ok`, the exit code 0 and a text are the only positive result there is; with it, the last JSON object
must meet it, whatever the exit code. A text is always needed: an empty answer is none.
"""

import json
import re
from collections.abc import Iterable, Iterator

from spec_kitty_orchestrator.agents.json_lines import (
    LONGEST_LINE,
    Event,
    Said,
    amount,
    count,
    events,
    message,
    text,
)
from spec_kitty_orchestrator.agents.spec import (
    PROMPT_FILE,
    PROMPT_WORD,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Step, StepKind, Told, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.settings.declaration import (
    Condition,
    Declaration,
    ValuePath,
    filled,
    placeholders,
)

__all__ = ["Declared"]

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,199}")
"""It goes back into a command, where it must not become an option."""

_CANNOT_RUN = (126, 127)
"""What a shell says of a program that is missing or not executable; to try again is pointless."""


class Declared:
    """An agent of one's own, as a module for a CLI would be.

    Attributes:
        declaration: what it was made of.
    """

    environment: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    install = ""
    login: Login = Login(how="do so as its own documentation says")
    shell_in_review: ShellInReview = "never"
    caps_cost = False

    def __init__(self, declaration: Declaration) -> None:
        self.declaration: Declaration = declaration
        self.name: str = declaration.name
        self.family: str = declaration.family
        self.executable: str = declaration.command[0]
        self.roles: frozenset[Role] = declaration.roles
        self.traces: tuple[str, ...] = declaration.traces
        self.state: tuple[str, ...] = declaration.state
        self.resumes: bool = bool(declaration.resume_args)
        self.reports_cost: bool = bool(declaration.cost)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Fill in the words; a prompt that no word names becomes the last one, unless it is on stdin."""
        own = self.declaration
        words = (*own.command[1:], *own.role_args.get(task.role, ()))
        if task.session:
            words += own.resume_args
        named = placeholders(words) & {"prompt", "prompt_file"}
        values = {
            "prompt": PROMPT_WORD,
            "prompt_file": str(task.directory / PROMPT_FILE),
            "model": settings.model or "",
            "session": task.session,
            "workspace": str(task.workspace),
            "attempt": task.attempt_id,
        }
        last = {"stdin": (), "file": (values["prompt_file"],), "argument": (PROMPT_WORD,)}[own.prompt]
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                *(filled(word, values) for word in words),
                *settings.extra_args,
                *(() if named else last),
            ),
            prompt=own.prompt,
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what is declared of the role."""
        own = self.declaration
        return Permissions(own.approval[role], own.sandbox[role], own.network[role])

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome; see above for what counts as a positive one."""
        if self.declaration.output.kind == "text":
            return _of_text(_end(stdout), stderr_tail, exit_code)
        return self._of_objects(stdout, stderr_tail, exit_code)

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output: plain text, or the texts and errors of its objects."""
        if self.declaration.output.kind == "text":
            return iter((Step(StepKind.SAYS, line),))
        return told_by(line, self._told)

    def _told(self, event: Event) -> Iterator[Told]:
        own = self.declaration
        if own.output.kind == "json" or _meets(event, own.output.where):
            yield Step(StepKind.SAYS, _text(event, own.output.path))
        if error := _text(event, own.error):
            yield failed(error)

    def _of_objects(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        own = self.declaration
        last: Event = {}
        final = session = ""
        told: dict[ValuePath, object] = {}
        single = own.output.kind == "json"
        for event in _objects(stdout) if single else events(stdout):
            last = event
            if single or _meets(event, own.output.where):
                final = _text(event, own.output.path) or ("" if self._answers(event) else final)
            session = _text(event, own.session) or session
            told |= {
                path: value
                for path in (own.cost, own.input_tokens, own.output_tokens)
                if path and (value := _at(event, path)) is not None
            }
        said = _meets(last, own.ok) if own.ok else exit_code == 0
        outcome = Outcome.OK if last and said and final.strip() else _failure(exit_code, bool(last))
        return AgentReport(
            outcome=outcome,
            text=final,
            detail=""
            if outcome is Outcome.OK
            else message(_text(last, own.error), stderr_tail, self._missing(last, final, said, exit_code)),
            session=session if _SESSION.fullmatch(session) else None,
            usage=Usage(
                count({"n": told.get(own.input_tokens)}, "n"),
                count({"n": told.get(own.output_tokens)}, "n"),
                amount({"n": told.get(own.cost)}, "n"),
            ),
            exit_code=exit_code,
            by_exit_code=outcome is Outcome.OK and not own.ok,
        )

    def _answers(self, event: Event) -> bool:
        """Tell whether what an object says is the answer even if it says nothing."""
        own = self.declaration
        named = bool(own.output.where) or _at(event, own.output.path) is not None
        return own.output.kind == "json" or (bool(own.ok) and named and _meets(event, own.ok))

    def _missing(self, last: Event, final: str, said: bool, exit_code: int | None) -> str:
        ended = f"exit code {exit_code}"
        if not last:
            return f"no JSON object on its output; {ended}"
        if not final.strip():
            return f"no text at {'.'.join(self.declaration.output.path)} of its output; {ended}"
        if self.declaration.ok and not said:
            wanted = ",".join(f"{'.'.join(one.path)}={one.value}" for one in self.declaration.ok)
            return f"the last object of its output does not say {wanted}; {ended}"
        return ended


def _of_text(final: str, stderr_tail: str, exit_code: int | None) -> AgentReport:
    good = exit_code == 0 and bool(final.strip())
    silent = f"it said nothing; exit code {exit_code}"
    return AgentReport(
        outcome=Outcome.OK if good else _failure(exit_code, ended=True),
        text=final,
        detail="" if good else message(stderr_tail, final, silent),
        exit_code=exit_code,
        by_exit_code=good,
    )


def _failure(exit_code: int | None, ended: bool) -> Outcome:
    if exit_code in _CANNOT_RUN:
        return Outcome.INVALID_REQUEST
    # A shell adds 128 to the number of a signal.
    by_signal = exit_code is None or exit_code < 0 or 128 < exit_code <= 128 + 64
    return Outcome.FAILED if ended and not by_signal else Outcome.CRASHED


def _end(lines: Iterable[str]) -> str:
    """Return the end of the output as text that is fit for files, without terminal codes.

    Lines may come with what ends them or without.
    """
    kept = Said()
    for line in lines:
        kept.add(line.removesuffix("\n") + "\n")
    return plain(str(kept)).removesuffix("\n")


def _objects(lines: Iterable[str]) -> Iterator[Event]:
    """Yield JSON objects that stand on a line, or begin and end at the beginning of lines."""
    parts: list[str] = []
    size = 0
    for line in lines:
        if line.startswith("{"):
            parts, size = [], 0
        whole = next(events((line,)), None) if not parts else None
        if whole is not None:
            yield whole
        elif parts or line.startswith("{"):
            parts.append(line)
            size += len(line)
            if size > LONGEST_LINE:
                parts = []
            elif line.startswith("}"):
                yield from events(("".join(parts),))
                parts = []


def _at(event: Event, path: ValuePath) -> object:
    found: object = event
    for step in path:
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and re.fullmatch(r"-?[0-9]{1,6}", step):
            at = int(step)
            found = found[at] if -len(found) <= at < len(found) else None
        else:
            return None
    return found


def _text(event: Event, path: ValuePath) -> str:
    return text({"text": _at(event, path)}, "text") if path else ""


def _meets(event: Event, conditions: Iterable[Condition]) -> bool:
    return all(_spelled(_at(event, one.path)) == one.value for one in conditions)


def _spelled(value: object) -> str | None:
    """Write a value as a condition does; what is no plain value equals nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return None
    return json.dumps(value)
