"""What the errors of the SDKs of the models' APIs mean."""

import json

import pytest

from spec_kitty_orchestrator.agents.api_message import outcome_of_message
from spec_kitty_orchestrator.core.model import Outcome


def anthropic(kind: str, message: str = "Overloaded") -> str:
    return json.dumps({"type": "error", "error": {"details": None, "type": kind, "message": message}})


def google(code: int, message: str = "The model is overloaded.") -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": "X"}})


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (anthropic("overloaded_error"), Outcome.OVERLOADED),
        (anthropic("api_error"), Outcome.OVERLOADED),
        (anthropic("rate_limit_error"), Outcome.RATE_LIMITED),
        (anthropic("authentication_error"), Outcome.AUTH),
        (anthropic("permission_error"), Outcome.AUTH),
        (anthropic("billing_error"), Outcome.BUDGET),
        (anthropic("invalid_request_error", "Your credit balance is too low"), Outcome.BUDGET),
        (anthropic("invalid_request_error", "prompt is too long"), Outcome.INVALID_REQUEST),
        (f"Error: {anthropic('overloaded_error')}", Outcome.OVERLOADED),
        ('{"error": {"type": "requests", "code": "rate_limit_exceeded"}}', Outcome.RATE_LIMITED),
        (anthropic("something_new"), None),
    ],
)
def test_an_error_without_a_status_is_named_by_the_class_that_the_api_gives_it(
    told: str, outcome: Outcome | None
) -> None:
    assert outcome_of_message(told) is outcome


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (f"got status: 503 Service Unavailable. {google(503)}", Outcome.OVERLOADED),
        ("got status: 503 Service Unavailable", Outcome.OVERLOADED),
        (f"Error: got status: 400 Bad Request. {google(400)}", Outcome.INVALID_REQUEST),
        (f"got status: UNAVAILABLE. {google(503)}", Outcome.OVERLOADED),
        (f"got status: 429 . {google(429, 'You exceeded your current quota')}", Outcome.RATE_LIMITED),
        ("got status: fine, said the model", None),
    ],
)
def test_the_form_of_googles_sdk_is_known(told: str, outcome: Outcome | None) -> None:
    assert outcome_of_message(told) is outcome


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (f"529 {anthropic('something_new')}", Outcome.OVERLOADED),
        ("401 Incorrect API key provided", Outcome.AUTH),
        ("Error: 503 status code (no body)", Outcome.OVERLOADED),
        ("429 You exceeded your current quota", Outcome.BUDGET),
        ("Connection error.", Outcome.OVERLOADED),
        ("I got status: 503", None),
        ("5030 is a number", None),
    ],
)
def test_a_status_at_the_beginning_decides_and_words_in_the_middle_do_not(
    told: str, outcome: Outcome | None
) -> None:
    assert outcome_of_message(told) is outcome
