"""The kinds of events and what they are made of, from the JSON Schema that is shipped."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

__all__ = ["lines"]

WHOLE = json.loads(files("spec_kitty_orchestrator").joinpath("events.schema.json").read_text())
DEFS = WHOLE["$defs"]
KINDS = {
    one["properties"]["data"]["$ref"].rpartition("/")[2]: one["properties"]["kind"]["const"]
    for one in WHOLE["oneOf"]
}
"""The kind of each definition that is one."""
WORDS = {"integer": "whole number", "boolean": "true or false"}


def lines(_: str) -> Iterator[str]:
    """Yield the Markdown of all kinds, and of their parts."""
    yield from ("", "## Kinds", "")
    for name, kind in KINDS.items():
        yield from _section(f"`{kind}`", DEFS[name])
    yield from ("## Parts", "")
    for name in sorted(DEFS.keys() - KINDS.keys()):
        yield from _section(name, DEFS[name])


def _section(title: str, one: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {title}", "", one["description"], "")
    if "enum" in one:
        yield from (", ".join(f"`{value}`" for value in one["enum"]), "")
    # That each event has `took_s` is said once, for all.
    if fields := {name: field for name, field in one.get("properties", {}).items() if name != "took_s"}:
        yield from ("| field | type | meaning |", "|---|---|---|")
        for name, field in fields.items():
            about = field.get("description", "").replace("|", "\\|")
            yield f"| `{name}` | {_type(field)} | {about} |"
        yield ""


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{KINDS.get(name, name.lower())})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    match field.get("type"):
        case "array" if "items" in field:
            return f"list of {_type(field['items'])}"
        case "array":
            return f"list of {len(field['prefixItems'])}, each {_type(field['prefixItems'][0])}"
        case "object":
            of = field.get("additionalProperties")
            return f"object of {_type(of)}" if isinstance(of, dict) and of else "object"
        case "string":
            return "time" if field.get("format") == "date-time" else "text"
        case None:
            return "anything"
        case name:
            return WORDS.get(name, name)
