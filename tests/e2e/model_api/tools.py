"""What the CLIs call their tools and the arguments of these, so that a step can be put into a call."""

import shlex
from collections.abc import Mapping
from typing import Any

from tests.e2e.model_api.dialects.spec import Call, Schema
from tests.e2e.model_api.tasks import Write, by_shell

WRITES = ("Write", "write", "write_file", "save-file", "create")
"""Tools that write a whole file."""

NEEDS_FOLDER = ("create",)
"""Those of them that do not make the folder of the file."""

SHELLS = ("Bash", "bash", "exec_command", "run_shell_command", "launch-process")
"""Tools that run a command."""

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "path": ("file_path", "filePath", "path"),
    "content": ("content", "file_content", "file_text"),
    "command": ("command", "cmd"),
}
"""How the tools name what we know."""

USUAL: Mapping[str, object] = {"cwd": ".", "wait": True, "max_wait_seconds": 60}
"""What some tools ask for besides, where anything else would not do."""


def prepared(step: Write | str, tools: Mapping[str, Schema]) -> list[Write | str]:
    """Return the step, and before it what its tool needs."""
    if isinstance(step, Write) and _write_tool(tools) in NEEDS_FOLDER:
        return [f"mkdir -p {shlex.quote(step.path.rpartition('/')[0])}", step]
    return [step]


def _write_tool(tools: Mapping[str, Schema]) -> str | None:
    return next((one for one in WRITES if one in tools), None)


def as_call(number: int, step: Write | str, tools: Mapping[str, Schema]) -> Call | None:
    """Express a step by a tool that is offered; None if none can do it."""
    name = f"call_{number}"
    if isinstance(step, Write):
        tool = _write_tool(tools)
        if tool:
            return Call(name, tool, arguments(tools[tool], path=step.path, content=step.content))
        step = by_shell(step)
    tool = next((one for one in SHELLS if one in tools), None)
    return Call(name, tool, arguments(tools[tool], command=step)) if tool else None


def arguments(schema: Schema, **known: str) -> dict[str, Any]:
    """Fill in what a tool asks for: what is known under its name for it, and anything for the rest."""
    properties = schema.get("properties", {})
    filled: dict[str, Any] = {}
    for meaning, value in known.items():
        name = next((one for one in ARGUMENTS[meaning] if one in properties), None)
        assert name, f"no {meaning} among {', '.join(properties)}"
        filled[name] = value
    for name in schema.get("required", ()):
        filled.setdefault(name, USUAL.get(name, _anything(properties.get(name, {}))))
    return filled


def _anything(schema: Schema) -> object:
    if schema.get("enum"):
        return schema["enum"][0]
    kinds = schema.get("type", "string")
    kind = str(kinds if isinstance(kinds, str) else kinds[0]).lower()
    empty: Mapping[str, object] = {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}
    return empty.get(kind, "one step")
