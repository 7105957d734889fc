"""Makes and keeps the report of an attempt whose processes are gone, and takes secrets out of its files."""

from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import attempt_files, files
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.scrub import scrub_directory

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
_log = get_logger()


async def harvest(
    attempt: Attempt,
    agent: Agent,
    redactor: Redactor,
    exit_code: int | None,
    *,
    leftovers: int = 0,
    otherwise: tuple[Outcome, str] | None = None,
) -> AgentReport:
    """Read the output, keep the report, scrub the files.

    Args:
        attempt: none of its processes runs any more.
        agent: its module.
        redactor: finds what the report and the files must not hold.
        exit_code: of the process, None if it is unknown.
        leftovers: processes that outlived it and were killed.
        otherwise: what to report with which reason, unless the output shows a result, or why there is none.
    """
    report = await anyio.to_thread.run_sync(
        attempt_files.read_report, Path(attempt.directory), agent, exit_code, _sparing(attempt, redactor)
    )
    # A positive result was paid for and counts, even if the process had to be stopped after it. An exit code
    # is none then: programs end with 0 on a signal, too.
    if otherwise is not None and (report.outcome is not Outcome.OK or report.by_exit_code):
        outcome, reason = otherwise
        if report.outcome in _TOLD and outcome is not Outcome.CANCELED:
            outcome = report.outcome
        detail = f"{reason}; {report.detail}" if report.detail else reason
        report = replace(report, outcome=outcome, detail=detail)
    # What was said before a failure is no answer; the logs keep it.
    said = report.text if report.outcome is Outcome.OK else ""
    report = replace(report, text=said, exit_code=exit_code, leftovers=leftovers)
    await save(attempt, report)
    await scrub(attempt, redactor)
    _log.info("attempt ended", attempt=attempt.id, outcome=report.outcome.value, exit_code=exit_code)
    return report


async def save(attempt: Attempt, report: AgentReport) -> None:
    """Keep the report, and a review as a file for people.

    Without the record the same report is made again of the attempt's other files.
    """
    try:
        await anyio.to_thread.run_sync(
            attempt_files.write_result, Path(attempt.directory), attempt.id, report
        )
        if attempt.role is Role.REVIEW and report.text:
            review = Path(attempt.directory) / "review.md"
            await anyio.to_thread.run_sync(files.write_private, review, report.text)
    except OSError as error:
        _log.error("the result could not be saved", attempt=attempt.id, error=str(error))


async def scrub(attempt: Attempt, redactor: Redactor) -> None:
    """Take the secrets out of the attempt's files; after the report, which this could make unreadable."""
    try:
        await anyio.to_thread.run_sync(scrub_directory, Path(attempt.directory), _sparing(attempt, redactor))
    except OSError as error:
        _log.error("secrets may be left in the logs", attempt=attempt.id, error=str(error))


def _sparing(attempt: Attempt, redactor: Redactor) -> Redactor:
    # A verdict must name them, whatever a variable of ours happens to hold.
    return redactor.sparing(attempt.id, attempt.head)
