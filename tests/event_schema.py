"""The JSON Schema of events, made from the models; the docs list the kinds of events from it.

`python -m tests.event_schema` writes it anew.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from spec_kitty_orchestrator.core.documents import ENVELOPE, KINDS, SCHEMA
from spec_kitty_orchestrator.core.run_events import RunAborted, RunEnded, RunStarted

ROOT = Path(__file__).parents[1]
FILE = ROOT / "src" / "spec_kitty_orchestrator" / "events.schema.json"

TOOK = {
    "type": "number",
    "description": "how long what led to it took, in seconds; 0 if nothing was waited for",
}
ABOUT = (
    "One event of a run of spec-kitty-orchestrator. Within this `schema` documents only grow: kinds, fields "
    "and values of enumerations are added, and nothing changes its meaning. Pass over what you do not know. "
    "Each field is written; one that is not required may be missing where an older version wrote."
)

Schema = dict[str, Any]


@cache
def schema() -> Schema:
    """Make the whole schema."""
    inputs: list[Any] = [(kind, "validation", TypeAdapter(made)) for kind, made in KINDS.items()]
    found, shared = TypeAdapter.json_schemas(inputs)
    defs = shared["$defs"]
    makers = {made.__name__: made for made in _all_models()}
    for name, one in defs.items():
        _describe(one, makers.get(name))
    for made in KINDS.values():
        one = defs[made.__name__]
        for name in ENVELOPE:
            one["properties"].pop(name, None)
        one["required"] = [name for name in one.get("required", ()) if name not in ENVELOPE]
        if made not in (RunStarted, RunEnded, RunAborted):
            one["properties"]["took_s"] = TOOK
    kinds = [
        {"properties": {"kind": {"const": kind}, "data": {"$ref": f"#/$defs/{made.__name__}"}}}
        for kind, made in KINDS.items()
    ]
    assert {key for key, _ in found} == set(KINDS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:spec-kitty-orchestrator:events:{SCHEMA}",
        "title": "Event",
        "description": ABOUT,
        "type": "object",
        "properties": {
            "schema": {"const": SCHEMA},
            "seq": {
                "type": "integer",
                "minimum": 1,
                "description": "ascends over all runs of a mission",
            },
            "at": {"type": "string", "format": "date-time", "description": "when it happened, in UTC"},
            "mission": {"type": "string", "description": "the slug of the mission"},
            "wp": {
                "type": ["string", "null"],
                "description": "the id of the work package; null if it concerns the whole run",
            },
            "kind": {"type": "string"},
            "data": {"type": "object", "description": "the fields of the kind"},
        },
        "required": ["schema", "seq", "at", "mission", "wp", "kind", "data"],
        "oneOf": kinds,
        "$defs": dict(sorted(defs.items())),
    }


def _all_models() -> Iterator[type]:
    from spec_kitty_orchestrator.core import events, model, policy, run_events, verdict

    for module in (events, model, policy, run_events, verdict):
        yield from (one for one in vars(module).values() if inspect.isclass(one))


def _describe(one: Schema, made: type | None) -> None:
    """Take the titles out, and put into each field what its class says of it."""
    about, fields = described(inspect.getdoc(made) or "" if made else "")
    one.pop("title", None)
    one["description"] = _in_json(about)
    for name, field in one.get("properties", {}).items():
        field.pop("title", None)
        # As older versions of pydantic write it, and as newer ones do.
        for alone in field.pop("allOf", ()):
            field.update(alone)
        if field.get("additionalProperties") is True:
            del field["additionalProperties"]
        if name in fields:
            field["description"] = _in_json(fields[name])


def described(text: str) -> tuple[str, Mapping[str, str]]:
    """Split a docstring into what it says of the whole, and of each field."""
    about, _, attributes = text.partition("\n\nAttributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        begun = re.match(r"    (\w+): (.*)", line)
        if begun:
            name = begun[1]
            found[name] = begun[2]
        elif line.strip() and name:
            found[name] += f" {line.strip()}"
    return " ".join(about.split()), found


def _in_json(text: str) -> str:
    for ours, theirs in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text


def text_of_schema() -> str:
    return json.dumps(schema(), indent=2) + "\n"


@cache
def validator(kind: str) -> Draft202012Validator:
    """Make what checks the documents of one kind, which is quicker than the whole."""
    whole = schema()
    one = {name: whole[name] for name in ("$schema", "type", "required", "$defs")}
    data = {"$ref": f"#/$defs/{KINDS[kind].__name__}"}
    return Draft202012Validator({**one, "properties": {**whole["properties"], "data": data}})


_VALID: set[object] = set()


def assert_valid(document: Mapping[str, Any]) -> None:
    """Check a document by the schema of its kind, once for each shape."""
    shape = (document["kind"], _shape(document["data"]))
    if shape in _VALID:
        return
    found = [f"{one.json_path}: {one.message}" for one in validator(document["kind"]).iter_errors(document)]
    assert found == [], document
    _VALID.add(shape)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return tuple((name, _shape(one)) for name, one in value.items())
    if isinstance(value, list):
        return frozenset(map(_shape, value))
    return type(value)


if __name__ == "__main__":
    FILE.write_text(text_of_schema())
