"""What the errors of the JavaScript SDKs of the models' APIs say: an HTTP status, then the API's own words.

`401 Incorrect API key provided: …`, or the API's JSON in the place of the words. Several CLIs pass them on as
they are, and have no other field for the status.
"""

import re

from spec_kitty_orchestrator.agents.api_status import outcome_of_status
from spec_kitty_orchestrator.agents.json_lines import Event, events, number, part, text
from spec_kitty_orchestrator.core.model import Outcome

_STATUS = re.compile(r"(?:Error: )?(\d{3})(?: status code \(no body\)| |$)")
_OUT_OF_CREDIT = ("You exceeded your current quota", "Your credit balance is too low")
_NO_ANSWER = (
    "Connection error",
    "Request timed out",
    "Request was aborted",
    "fetch failed",
    "terminated",
    "network error",
    "socket hang up",
)


def outcome_of_message(told: str) -> Outcome | None:
    """Return the outcome for an SDK's error message, None where it decides nothing."""
    told = told.strip()
    status = _STATUS.match(told)
    words = told[status.end() :] if status else told
    body = _body(words)
    plain = text(body, "message") or words
    if plain.startswith(_OUT_OF_CREDIT) or text(body, "code") == "insufficient_quota":
        return Outcome.BUDGET
    if status or body:
        return outcome_of_status(float(status[1]) if status else number(body, "code"))
    return Outcome.OVERLOADED if words.startswith(_NO_ANSWER) else None


def _body(words: str) -> Event:
    whole = next(events((words,)), {})
    return part(whole, "error") or whole
