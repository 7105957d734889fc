"""Messages keep to the formats of the places that take them, whatever agents said."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from spec_kitty_orchestrator.core.notices import Notice, trial
from spec_kitty_orchestrator.views.messages import as_json, cloudevent, ntfy, posted, slack

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOTICE = Notice(
    "needs_person",
    "WP03 needs you: <!channel> & co",
    ("WP03@2026-05-01T12:00:00+00:00", "WP04"),
    NOON,
    "Rejected 3 times: *no* <https://evil.test|click> @here.",
    ("WP03",),
    (
        ("Put it back", "spec-kitty-orchestrator retry WP03 --note '<x> & `y`'"),
        ("Or *leave* it", "skip WP03"),
    ),
)
LONG = Notice("ended", "é" * 9000, ("ended@x",), NOON, "ü" * 90_000, (), (("go on", "x" * 9000),))

EVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    # Names of attributes are small letters and digits.
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    "additionalProperties": False,
}
"""What CloudEvents 1.0 asks of an event in JSON, for what we use of it."""


@pytest.mark.parametrize("notice", [NOTICE, LONG, trial("", NOON), trial("034-x", NOON)])
@pytest.mark.parametrize("mission", ["034-my-feature", "a mission/ü", ""])
def test_an_event_is_one_of_cloudevents(notice: Notice, mission: str) -> None:
    document = cloudevent(notice, mission)
    check = Draft202012Validator(EVENT, format_checker=FormatChecker())
    assert [one.message for one in check.iter_errors(document)] == []
    for name in ("id", "source"):
        assert re.fullmatch(r"[!-~]+", document[name])
    assert re.fullmatch(r"2026-05-01T12:00:00Z", document["time"])
    assert json.loads(as_json(document)) == document


def test_an_event_says_all_that_there_is_to_say() -> None:
    document = cloudevent(NOTICE, "034-x")
    assert (document["id"], document["source"]) == (
        "WP03@2026-05-01T12:00:00+00:00",
        "/spec-kitty-orchestrator/034-x",
    )
    assert document["type"] == "spec-kitty-orchestrator.needs_person"
    assert document["data"] == {
        "mission": "034-x",
        "on": "needs_person",
        "title": NOTICE.title,
        "text": NOTICE.text,
        "wps": ["WP03"],
        "commands": [
            {"what": "Put it back", "command": NOTICE.steps[0][1]},
            {"what": "Or *leave* it", "command": "skip WP03"},
        ],
    }


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [one for each in value.values() for one in texts(each)]
    return [one for each in value for one in texts(each)] if isinstance(value, list) else []


@pytest.mark.parametrize("notice", [NOTICE, LONG])
def test_nothing_in_a_message_of_slacks_mentions_anybody_or_links(notice: Notice) -> None:
    document = slack(notice, "034-x")
    assert set(document) == {"text", "blocks"}
    assert len(document["blocks"]) <= 50
    assert not re.search("[<>]", document["text"])
    for block in document["blocks"]:
        assert block["type"] == "section"
        told = block["text"]
        assert 0 < len(told["text"]) <= 3000
        assert told["type"] == "plain_text" or not re.search("[<>]", told["text"])
    shown = [one["text"]["text"] for one in slack(NOTICE, "034-x")["blocks"]]
    assert shown[0] == "034-x: WP03 needs you: <!channel> & co"
    assert shown[-1] == "Or leave it:\n```skip WP03```"


def test_a_message_of_ntfys_has_a_topic_and_fits() -> None:
    document = ntfy(NOTICE, "034-x", "mine")
    assert (document["topic"], document["priority"], document["tags"]) == ("mine", 4, ["raised_hand"])
    assert document["title"].startswith("034-x: WP03 needs you")
    assert document["message"].endswith("Or *leave* it:\nskip WP03")
    assert len(ntfy(LONG, "034-x", "mine")["message"].encode()) <= 4096
    assert ntfy(Notice("slow", "t", ("a",), NOON), "", "mine")["priority"] == 3


def test_each_format_goes_where_it_is_taken() -> None:
    url, headers, document = posted(NOTICE, "034-x", "ntfy", "https://ntfy.test/mine?a=b", "tk")
    assert (url, document["topic"]) == ("https://ntfy.test/?a=b", "mine")
    assert headers["Authorization"] == "Bearer tk"
    url, headers, document = posted(NOTICE, "034-x", "cloudevents", "https://a.test/hook")
    assert (url, "Authorization" in headers) == ("https://a.test/hook", False)
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    url, headers, document = posted(NOTICE, "034-x", "slack", "https://hooks.test/services/T")
    assert (url, headers["Content-Type"]) == ("https://hooks.test/services/T", "application/json")
