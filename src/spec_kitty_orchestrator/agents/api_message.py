"""What the errors of the JavaScript SDKs of the models' APIs say: an HTTP status, then the API's own words.

`401 Incorrect API key provided: …`, `401: {"message": …`, `got status: 503 …`, or the API's JSON in the place
of the words, also without a status where an answer had begun. Several CLIs pass them on as they are, and have
no other field for the status.
"""

import re
from collections.abc import Mapping

from spec_kitty_orchestrator.agents.api_status import outcome_of_status
from spec_kitty_orchestrator.agents.json_lines import Event, events, number, part, text
from spec_kitty_orchestrator.core.model import Outcome

__all__ = ["outcome_of_message"]

_STATUS = re.compile(r"(\d{3}):?(?: status code \(no body\)| |$)")
_GOOGLES = re.compile(r"got status: (?:(\d{3})\b|[A-Z_]+\.)[^{]{0,80}")
_TYPES: Mapping[str, Outcome] = {
    "overloaded_error": Outcome.OVERLOADED,
    "api_error": Outcome.OVERLOADED,
    "server_error": Outcome.OVERLOADED,
    "timeout_error": Outcome.OVERLOADED,
    "rate_limit_error": Outcome.RATE_LIMITED,
    "rate_limit_exceeded": Outcome.RATE_LIMITED,
    "authentication_error": Outcome.AUTH,
    "permission_error": Outcome.AUTH,
    "billing_error": Outcome.BUDGET,
    "invalid_request_error": Outcome.INVALID_REQUEST,
    "not_found_error": Outcome.INVALID_REQUEST,
    "request_too_large": Outcome.INVALID_REQUEST,
}
"""The class that the API gives its error itself."""

_OUT_OF_CREDIT = ("You exceeded your current quota", "Your credit balance is too low")
_NO_ANSWER = (
    "Connection error",
    "Request timed out",
    "Request was aborted",
    "fetch failed",
    "terminated",
    "network error",
    "socket hang up",
    "Stream ended without finish_reason",
)


def outcome_of_message(told: str) -> Outcome | None:
    """Return the outcome for an SDK's error message, None where it decides nothing."""
    told = told.strip().removeprefix("Error: ")
    googles = _GOOGLES.match(told)
    status = googles or _STATUS.match(told)
    words = told[status.end() :] if status else told
    body = _body(words)
    plain = text(body, "message") or words
    # Google says the same of a limit that ends with the minute.
    no_credit = not googles and plain.startswith(_OUT_OF_CREDIT)
    if no_credit or text(body, "code") == "insufficient_quota":
        return Outcome.BUDGET
    if status or body:
        code = float(status[1]) if status and status[1] else number(body, "code")
        return outcome_of_status(code) or _TYPES.get(text(body, "type")) or _TYPES.get(text(body, "code"))
    return Outcome.OVERLOADED if words.startswith(_NO_ANSWER) else None


def _body(words: str) -> Event:
    whole = next(events((words,)), {})
    return part(whole, "error") or whole
