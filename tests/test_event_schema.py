"""The contract of the events: the schema that is shipped, and that it breaks nobody who reads."""

import copy
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from tests import event_schema

from spec_kitty_orchestrator.core.documents import KINDS

SAMPLE = Path(__file__).parent / "data" / "events-1.jsonl"
"""One document of each kind, as they were when `schema` 1 began: lines are added, and never changed."""


def sample() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLE.read_text().splitlines()]


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Let no part have a field that the schema does not name."""
    made = copy.deepcopy(schema)
    for one in made["$defs"].values():
        if "properties" in one:
            one["additionalProperties"] = False
    return made


def test_the_shipped_schema_is_made_from_the_models_as_they_are() -> None:
    shipped = json.loads(event_schema.FILE.read_text())
    assert shipped == event_schema.schema(), "`nox -s schema` writes it anew"
    Draft202012Validator.check_schema(shipped)


def test_documents_of_the_first_version_stay_readable_and_no_field_of_theirs_is_gone() -> None:
    check = Draft202012Validator(closed(event_schema.schema()))
    for document in sample():
        assert [one.message for one in check.iter_errors(document)] == []


def test_there_is_a_sample_of_each_kind() -> None:
    assert {one["kind"] for one in sample()} == set(KINDS)


def test_the_schema_refuses_another_schema_and_what_is_no_event() -> None:
    check = Draft202012Validator(event_schema.schema())
    good = next(one for one in sample() if one["kind"] == "host_refused")
    assert check.is_valid(good)
    for wrong in (
        {**good, "schema": 2},
        {**good, "seq": 0},
        {**good, "wp": 1},
        {**good, "kind": "of another version"},
        {**good, "data": {**good["data"], "lane": "nowhere"}},
        {name: one for name, one in good.items() if name != "at"},
    ):
        assert not check.is_valid(wrong)
