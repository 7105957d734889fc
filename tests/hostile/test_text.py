"""What others say is read in a time and a memory that their words cannot stretch."""

import json

import pytest

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.core.verdict import Ruling, read_verdict

RUNAWAY = {
    "digits without an end": "try again in " + "1" * 300_000 + ". d",
    "fields of a log": "timestamp=1 level=ERROR " + "message=failed " * 400 + 'error="A: ' * 800,
    "openings": "{" * 300_000,
    "escape sequences that never end": "\x1b[" + "0;" * 150_000,
    "parentheses": "Reconnecting... 1/5 (" + "(" * 150_000 + ")" * 150_000,
    "blanks": "Error: " + " " * 300_000,
}
"""A pattern that goes back on its steps would take minutes or years for each of them."""


@pytest.mark.parametrize("words", RUNAWAY.values(), ids=RUNAWAY)
@pytest.mark.parametrize("agent", BUILT_IN)
def test_no_words_of_a_failure_stop_the_clock(agent: str, words: str) -> None:
    events = (
        {"type": "error", "message": words, "error": {"message": words, "data": {"message": words}}},
        {"type": "turn.failed", "error": {"message": words}},
        {"type": "result", "is_error": True, "result": words, "error": {"message": words}},
        {
            "type": "message_end",
            "message": {"role": "assistant", "stopReason": "error", "errorMessage": words},
        },
    )
    for event in events:
        found = BUILT_IN[agent].report([json.dumps(event)], words[-16_384:], 1)
        assert found.outcome is not Outcome.OK


def test_a_review_that_never_comes_to_its_verdict_is_read_at_once() -> None:
    text = "x " + '{"' * 900 + "\n" * 1_000 + " " * 97_000 + "x"
    assert read_verdict(text, attempt_id="a", head="h", reviewer="r").ruling is Ruling.UNUSABLE
