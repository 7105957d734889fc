"""The files of an attempt: `command.json` says what runs, `result.json` what became of it and its output.

A record that cannot be read counts as missing: it was torn by a power failure or written by somebody else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import anyio.to_thread
from pydantic import TypeAdapter

from spec_kitty_orchestrator.agents.fit import report_misfits
from spec_kitty_orchestrator.agents.spec import USAGE_FILE, Agent, AgentCommand, GoesOn
from spec_kitty_orchestrator.core.bounds import LONGEST_DETAIL, LONGEST_TEXT, within_bounds
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Outcome,
    Role,
)
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import files
from spec_kitty_orchestrator.machine.process import signal_name
from spec_kitty_orchestrator.machine.redaction import LONGEST_BYTES, REDACTED, Redactor, is_secret_name
from spec_kitty_orchestrator.machine.scrub import scrub_directory

__all__ = [
    "CommandRecord",
    "harvest",
    "has_result",
    "is_result",
    "keep",
    "read_command",
    "read_report",
    "read_result",
    "report_now",
    "save",
    "scrub",
    "write_command",
    "write_result",
]

STDERR_TAIL_BYTES = 16 * 1024
"""Enough for an error and its trace; agents read no more of stderr than that."""

RESULT_TAIL_BYTES = 1024 * 1024
"""Holds the longest line that agents read."""

MOST_USAGE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class CommandRecord:
    """What runs, where and for which attempt; `argv` and the additions in `env` are without secrets.

    `sandbox` stands before `argv` where the attempt is confined. Of a `function`, `argv` is the name.
    """

    attempt: str
    agent: str
    role: Role
    cwd: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stop_signal: Literal["INT", "TERM"]
    sandbox: tuple[str, ...] = ()
    function: bool = False


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
    sandbox: Sequence[str] = (),
) -> None:
    """Write `command.json`, which is for people: what is started is always built anew. Raises `OSError`."""
    env = {
        name: REDACTED if is_secret_name(name) else redactor.text(value)
        for name, value in command.env.items()
    }
    argv, before = (tuple(map(redactor.text, words)) for words in (command.argv, sandbox))
    record = CommandRecord(
        attempt, agent, role, str(cwd), argv, env, command.stop_signal, before, command.function
    )
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
    return within_bounds(record.report) if record.attempt == attempt else None


def has_result(directory: Path, agent: Agent) -> bool:
    """Tell whether the output of a process that still runs ends with a positive result that is its last."""
    log = directory / "stdout.log"
    lines = files.read_tail(log, RESULT_TAIL_BYTES).splitlines()
    try:
        report = agent.report(iter(lines), "", None)
        if report_misfits(report) or not is_result(report):
            return False
        return not (isinstance(agent, GoesOn) and agent.goes_on(files.read_lines(log)))
    except Exception:  # noqa: BLE001 - agents can be plug-ins; their bugs must not end the run
        return False


def is_result(report: AgentReport) -> bool:
    """Tell whether it says `ok` in words; an exit code does not: programs end with 0 on a signal, too."""
    return report.outcome is Outcome.OK and not report.by_exit_code


def read_report(directory: Path, agent: Agent, exit_code: int | None, redactor: Redactor) -> AgentReport:
    """Let the agent's module read the output, and redact what comes of it; huge output costs no memory."""
    # Redacted before anything is cut: of a secret that lies across a cut, a part would be left.
    tail = files.read_tail(directory / "stderr.log", STDERR_TAIL_BYTES + LONGEST_BYTES)
    tail = redactor.tail(tail, STDERR_TAIL_BYTES)
    try:
        lines = chain(files.read_lines(directory / "stdout.log"), _usage(directory))
        report = agent.report(lines, tail, exit_code)
        wrong = report_misfits(report)
        if wrong:
            detail = f"the agent's report cannot be used: {'; '.join(wrong)}"
            return AgentReport(Outcome.CRASHED, detail=redactor.tail(detail, LONGEST_DETAIL))
        return _redacted(report, redactor)
    except Exception as error:  # noqa: BLE001 - agents can be plug-ins; their bugs must not end the run
        detail = redactor.head(f"the output could not be read: {error!r}", LONGEST_DETAIL)
        return AgentReport(Outcome.CRASHED, detail=detail)


def _redacted(report: AgentReport, redactor: Redactor) -> AgentReport:
    said, detail = redactor.tail(report.text, LONGEST_TEXT), redactor.tail(report.detail, LONGEST_DETAIL)
    return within_bounds(replace(report, text=said, detail=detail))


def _usage(directory: Path) -> Iterator[str]:
    """Yield what the CLI wrote of its usage as one line, so that it reads as one more event."""
    told = files.read_tail(directory / USAGE_FILE, MOST_USAGE_BYTES)
    if told:
        yield " ".join(told.splitlines())


_TOLD = frozenset(
    {
        Outcome.RATE_LIMITED,
        Outcome.OVERLOADED,
        Outcome.AUTH,
        Outcome.INVALID_REQUEST,
        Outcome.BUDGET,
    }
)
"""Classes of failure that only the output shows; they say more than that we had to stop the process."""


async def harvest(
    attempt: Attempt,
    agent: Agent,
    redactor: Redactor,
    exit_code: int | None,
    *,
    leftovers: int = 0,
    otherwise: tuple[Outcome, str] | None = None,
    told: AgentReport | None = None,
) -> AgentReport:
    """Read the output, keep the report, scrub the files.

    Args:
        attempt: none of its processes runs any more.
        agent: its module.
        redactor: finds what the report and the files must not hold.
        exit_code: of the process, None if it is unknown.
        leftovers: processes that outlived it and were killed.
        otherwise: what to report with which reason, unless the output shows a result, or why there is none.
        told: what the output said before the process was stopped, None to read it now.
    """
    report = told or await report_now(attempt, agent, redactor, exit_code)
    if attempt.role is Role.REVIEW and otherwise is None:
        otherwise = _ended_from_outside(exit_code)
    # A positive result was paid for and counts, even if the process had to be stopped after it.
    believed = is_result(report)
    if believed and attempt.role is Role.REVIEW:
        believed = told is not None and await anyio.to_thread.run_sync(_alone, attempt, agent)
    if otherwise is not None and not believed:
        outcome, reason = otherwise
        if report.outcome in _TOLD and outcome is not Outcome.CANCELED:
            outcome = report.outcome
        detail = f"{reason}; {report.detail}" if report.detail else reason
        report = replace(report, outcome=outcome, detail=detail)
    return await keep(attempt, replace(report, exit_code=exit_code, leftovers=leftovers), redactor)


async def keep(attempt: Attempt, report: AgentReport, redactor: Redactor) -> AgentReport:
    """Keep the report of an attempt that ended, scrub its files, and return what counts of it."""
    if attempt.role is Role.IMPLEMENT and report.outcome is Outcome.OK and report.refused:
        # It has done nothing, and would do no more the next time.
        report = replace(report, outcome=Outcome.INVALID_REQUEST)
    # What was said before a failure is no answer; the logs keep it.
    said = report.text if report.outcome is Outcome.OK else ""
    report = _redacted(replace(report, text=said), _sparing(attempt, redactor))
    await save(attempt, report)
    await scrub(attempt, redactor)
    outcome, code = report.outcome.value, report.exit_code
    get_logger().info("attempt ended", attempt=attempt.id, outcome=outcome, exit_code=code)
    return report


async def report_now(
    attempt: Attempt, agent: Agent, redactor: Redactor, exit_code: int | None
) -> AgentReport:
    """Read the output as it is, without what the redactor finds."""
    return await anyio.to_thread.run_sync(
        read_report, Path(attempt.directory), agent, exit_code, _sparing(attempt, redactor)
    )


def _alone(attempt: Attempt, agent: Agent) -> bool:
    """Tell whether nobody else can have written what a reviewer said before we stopped it.

    Unconfined, any process can write into its log; and so can a command that it runs, which then holds it up.
    """
    record = read_command(Path(attempt.directory), attempt.id)
    return record is not None and bool(record.sandbox) and agent.shell_in_review == "never"


def _ended_from_outside(exit_code: int | None) -> tuple[Outcome, str] | None:
    if exit_code is None:
        return Outcome.CRASHED, "it was ended from outside: how it ended was not recorded"
    name = signal_name(exit_code)
    return (Outcome.CRASHED, f"it was ended from outside, by {name}") if name else None


async def save(attempt: Attempt, report: AgentReport) -> None:
    """Keep the report, and a review as a file for people.

    Without the record the same report is made again of the attempt's other files.
    """
    try:
        await anyio.to_thread.run_sync(write_result, Path(attempt.directory), attempt.id, report)
        if attempt.role is Role.REVIEW and report.text:
            review = Path(attempt.directory) / "review.md"
            await anyio.to_thread.run_sync(files.write_private, review, report.text)
    except OSError as error:
        get_logger().error("the result could not be saved", attempt=attempt.id, error=str(error))


async def scrub(attempt: Attempt, redactor: Redactor) -> None:
    """Take the secrets out of the attempt's files; after the report, which this could make unreadable."""
    try:
        await anyio.to_thread.run_sync(scrub_directory, Path(attempt.directory), _sparing(attempt, redactor))
    except OSError as error:
        get_logger().error("secrets may be left in the logs", attempt=attempt.id, error=str(error))


def _sparing(attempt: Attempt, redactor: Redactor) -> Redactor:
    # A verdict must name them, whatever a variable of ours happens to hold.
    return redactor.sparing(attempt.id, attempt.head)
