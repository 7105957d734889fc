"""What is made of a report that a plug-in's agent gives in a shape of its own."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Usage
from spec_kitty_orchestrator.machine.attempt_files import read_report
from spec_kitty_orchestrator.machine.redaction import Redactor


class Odd(Scripted):
    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        return self.given  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "report() returned NoneType, not an AgentReport"),
        (AgentReport("ok", "x"), "its outcome is not an Outcome: 'ok'"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, None), "its text is not text: None"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "\ud800"), "its text must be valid UTF-8"),
        (AgentReport(Outcome.OK, "x", usage=None), "its usage is not a Usage: None"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "x", usage=Usage(0, 0, float("nan"))), "must be finite and not negative"),
        (AgentReport(Outcome.OK, "x", retry_after_s="1"), "must be finite"),  # type: ignore[arg-type]
        (AgentReport(Outcome.OK, "x", by_exit_code=None), "its by_exit_code is neither"),  # type: ignore[arg-type]
    ],
)
def test_a_report_that_is_none_is_a_crash_that_says_why(tmp_path: Path, given: object, told: str) -> None:
    for name in ("stdout.log", "stderr.log"):
        (tmp_path / name).touch()
    found = read_report(tmp_path, Odd(given), 0, Redactor())
    assert found.outcome is Outcome.CRASHED
    assert told in found.detail


def test_a_proper_report_is_kept(tmp_path: Path) -> None:
    given = AgentReport(Outcome.OK, "x", session="s", usage=Usage(1, 2, 0.5), retry_after_s=1.0)
    for name in ("stdout.log", "stderr.log"):
        (tmp_path / name).touch()
    assert read_report(tmp_path, Odd(given), 0, Redactor()) == given
