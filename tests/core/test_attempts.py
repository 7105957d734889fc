"""What attempts used, where a CLI counts over a whole session."""

from dataclasses import replace

import pytest
from tests.core.builders import IMPLEMENTING, attempt, drive

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Event
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Usage


def used_by(*reports: AgentReport) -> Usage:
    """Drive failing attempts that end with these reports, and return the sum of what they used."""
    events: list[Event] = [*IMPLEMENTING]
    for number, report in enumerate(reports):
        opened = replace(attempt(f"i{number}"), session=report.session or "")
        events += [AttemptOpened(opened), AgentExited(opened.id, report)]
    return drive(events)[0].usage


def told(
    input_tokens: int, output_tokens: int, session: str | None = "s", cost: float | None = None
) -> AgentReport:
    used = Usage(input_tokens, output_tokens, cost)
    return AgentReport(Outcome.CRASHED, session=session, usage=used, usage_is_cumulative=True)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ((told(10, 1), told(25, 4)), Usage(25, 4)),
        ((told(10, 1, cost=0.5), told(25, 4, cost=0.75)), Usage(25, 4, 0.75)),
        ((told(10, 1), told(25, 4, session="other")), Usage(35, 5)),
        ((told(10, 1), told(25, 4, session=None)), Usage(35, 5)),
        ((told(10, 1), told(8, 4)), Usage(18, 5)),
        ((told(10, 1), told(0, 0), told(30, 6)), Usage(30, 6)),
        ((told(10, 1), replace(told(25, 4), usage_is_cumulative=False)), Usage(35, 5)),
    ],
    ids=[
        "resumed",
        "with cost",
        "another session",
        "no session",
        "counter went back",
        "silent end",
        "per run",
    ],
)
def test_what_a_session_used_is_counted_once(reports: tuple[AgentReport, ...], expected: Usage) -> None:
    assert used_by(*reports) == expected
