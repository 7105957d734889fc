"""Augment's API, as far as its CLI shows what it sends and takes: one JSON object a line."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.e2e.model_api.dialects.spec import Call, Conversation, Dialect, Reply, Request, Turn

_TEXT, _TOOL_USE = 0, 5
_END, _USES_A_TOOL = 1, 3

_MODEL = {
    "name": "stand-in",
    "suggested_prefix_char_count": 8000,
    "suggested_suffix_char_count": 8000,
    "max_memorize_size_bytes": 131_072,
}


def _read(request: Request) -> Conversation:
    body = request.body
    nodes: list[Mapping[str, Any]] = []
    sent: list[str] = []
    for said in (*(body.get("chat_history") or ()), body):
        # What was asked is in nodes, or else in the one message.
        own = said.get("request_nodes") or said.get("nodes") or ()
        message = said.get("request_message") or said.get("message")
        nodes += own
        sent += [*_texts(own), *([message] if message else [])]
    results = sum("tool_result_node" in one for one in nodes)
    offered = body.get("tool_definitions") or ()
    return Conversation(sent, results, {one["name"]: json.loads(one["input_schema_json"]) for one in offered})


def _texts(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    return [one["text_node"]["content"] for one in nodes if "text_node" in one]


def _write(turn: Turn, request: Request) -> Reply:
    if isinstance(turn, Call):
        use = {"tool_use_id": turn.id, "tool_name": turn.tool, "input_json": json.dumps(turn.arguments)}
        node = {"id": 1, "type": _TOOL_USE, "content": "", "tool_use": use}
        said: list[object] = [{"text": "", "nodes": [node], "stop_reason": _USES_A_TOOL}]
    else:
        node = {"id": 1, "type": _TEXT, "content": turn}
        said = [{"text": turn, "nodes": [node]}, {"text": "", "nodes": [], "stop_reason": _END}]
    return Reply("".join(f"{json.dumps(one)}\n" for one in said).encode())


DIALECT = Dialect(
    re.compile(r"/chat-stream"),
    _read,
    _write,
    others={
        "/get-models": {
            "default_model": "stand-in",
            "models": [_MODEL],
            "languages": [],
            "feature_flags": {},
            "user": {"id": "u", "email": "u@example.com"},
            "user_tier": "PROFESSIONAL_TIER",
        }
    },
)
