"""The records in an attempt's directory: `command.json` says what runs, `result.json` how it ended.

A record that cannot be read counts as missing: it was torn by a power failure or written by somebody else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from spec_kitty_orchestrator.agents.fit import bounded, report_misfits
from spec_kitty_orchestrator.agents.spec import USAGE_FILE, Agent, AgentCommand
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role
from spec_kitty_orchestrator.machine import files
from spec_kitty_orchestrator.machine.redaction import REDACTED, Redactor
from spec_kitty_orchestrator.machine.secret_names import is_secret_name

STDERR_TAIL_BYTES = 16 * 1024
"""Enough for an error and its trace; agents read no more of stderr than that."""


MOST_USAGE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class CommandRecord:
    """What runs, where and for which attempt; `argv` and the additions in `env` are without secrets."""

    attempt: str
    agent: str
    role: Role
    cwd: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stop_signal: Literal["INT", "TERM"]


@dataclass(frozen=True)
class ResultRecord:
    """What a finished attempt was reported as."""

    attempt: str
    report: AgentReport


_COMMAND = TypeAdapter(CommandRecord)
_RESULT = TypeAdapter(ResultRecord)


def write_command(
    directory: Path,
    attempt: str,
    agent: str,
    role: Role,
    cwd: Path,
    command: AgentCommand,
    redactor: Redactor,
) -> None:
    """Write `command.json`, which is for people: what is started is always built anew. Raises `OSError`."""
    env = {
        name: REDACTED if is_secret_name(name) else redactor.text(value)
        for name, value in command.env.items()
    }
    argv = tuple(map(redactor.text, command.argv))
    record = CommandRecord(attempt, agent, role, str(cwd), argv, env, command.stop_signal)
    files.write_record(directory / "command.json", asdict(record))


def read_command(directory: Path, attempt: str) -> CommandRecord | None:
    """Return what `command.json` says of this attempt, None if there is no such record."""
    try:
        record = _COMMAND.validate_json(files.read_record(directory / "command.json"))
    except (OSError, ValueError):
        return None
    return record if record.attempt == attempt else None


def write_result(directory: Path, attempt: str, report: AgentReport) -> None:
    """Write `result.json`. Raises `OSError`."""
    files.write_record(directory / "result.json", asdict(ResultRecord(attempt, report)))


def read_result(directory: Path, attempt: str) -> AgentReport | None:
    """Return the report that was made of this attempt, None if there is none."""
    try:
        record = _RESULT.validate_json(files.read_record(directory / "result.json"))
    except (OSError, ValueError):
        return None
    return bounded(record.report) if record.attempt == attempt else None


def read_report(directory: Path, agent: Agent, exit_code: int | None, redactor: Redactor) -> AgentReport:
    """Let the agent's module read the output, and redact what comes of it; huge output costs no memory."""
    tail = files.read_tail(directory / "stderr.log", STDERR_TAIL_BYTES)
    try:
        lines = chain(files.read_lines(directory / "stdout.log"), _usage(directory))
        report = agent.report(lines, tail, exit_code)
        wrong = report_misfits(report)
        if wrong:
            detail = redactor.text(f"the agent's report cannot be used: {'; '.join(wrong)}")
            return AgentReport(Outcome.CRASHED, detail=detail)
        return bounded(replace(report, text=redactor.text(report.text), detail=redactor.text(report.detail)))
    except Exception as error:  # noqa: BLE001 - agents can be plug-ins; their bugs must not end the run
        detail = redactor.text(f"the output could not be read: {error!r}")
        return AgentReport(Outcome.CRASHED, detail=detail)


def _usage(directory: Path) -> Iterator[str]:
    """Yield what the CLI wrote of its usage as one line, so that it reads as one more event."""
    told = files.read_tail(directory / USAGE_FILE, MOST_USAGE_BYTES)
    if told:
        yield " ".join(told.splitlines())
