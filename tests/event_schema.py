"""The JSON Schema of events and the part of docs/events.md that lists them, both made from the models.

`python -m tests.event_schema` writes both anew.
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
DOCS = ROOT / "docs" / "events.md"
BEGIN, END = "<!-- kinds: made from the models by `nox -s schema` -->", "<!-- end of kinds -->"

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


def kinds_of_docs() -> str:
    """Write the part of the docs that lists kinds, and what they are made of."""
    defs = schema()["$defs"]
    lines = [BEGIN, ""]
    for kind, made in KINDS.items():
        lines += _section(f"`{kind}`", defs[made.__name__])
    lines += ["## Parts", ""]
    parts = defs.keys() - {made.__name__ for made in KINDS.values()}
    for name in sorted(parts):
        lines += _section(name, defs[name])
    return "\n".join([*lines, END])


def _section(title: str, one: Schema) -> list[str]:
    lines = [f"### {title}", "", _cell(one["description"]), ""]
    if "enum" in one:
        return [*lines, ", ".join(f"`{value}`" for value in one["enum"]), ""]
    if one.get("properties", {}).keys() - {"took_s"}:
        lines += ["| field | type | meaning |", "|---|---|---|"]
        for name, field in one["properties"].items():
            if field is TOOK:
                continue
            lines.append(f"| `{name}` | {_type(field)} | {_cell(field.get('description', ''))} |")
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        kinds = {made.__name__: kind for kind, made in KINDS.items()}
        return f"[{name}](#{kinds.get(name, name.lower())})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    match field.get("type"):
        case "array":
            if "items" in field:
                return f"list of {_type(field['items'])}"
            return f"list of {len(field['prefixItems'])}, each {_type(field['prefixItems'][0])}"
        case "object":
            of = field.get("additionalProperties")
            return f"object of {_type(of)}" if isinstance(of, dict) and of else "object"
        case "string":
            return "time" if field.get("format") == "date-time" else "text"
        case None:
            return "anything"
        case name:
            return {"integer": "whole number", "boolean": "true or false"}.get(str(name), str(name))


def page() -> str:
    """Return docs/events.md with its kinds as they are now."""
    before, _, rest = DOCS.read_text().partition(BEGIN)
    return f"{before}{kinds_of_docs()}{rest.partition(END)[2]}"


if __name__ == "__main__":
    FILE.write_text(text_of_schema())
    DOCS.write_text(page())
