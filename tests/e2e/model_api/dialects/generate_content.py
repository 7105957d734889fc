"""Google's API for Gemini; its errors name their status in words too."""

import re
from collections.abc import Mapping
from typing import Any

from tests.e2e.model_api.dialects.spec import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    TOTAL_TOKENS,
    Call,
    Conversation,
    Dialect,
    Reply,
    Request,
    Turn,
    as_events,
    as_json,
)

_USED = {
    "promptTokenCount": INPUT_TOKENS,
    "candidatesTokenCount": OUTPUT_TOKENS,
    "totalTokenCount": TOTAL_TOKENS,
}


def _read(request: Request) -> Conversation:
    parts = [(content.get("role"), part) for content in request.body["contents"] for part in content["parts"]]
    sent = [part["text"] for role, part in parts if role == "user" and part.get("text")]
    results = sum("functionResponse" in part for _, part in parts)
    tools = request.body.get("tools") or ()
    offered = [one for group in tools for one in group.get("functionDeclarations") or ()]
    schemas = {one["name"]: one.get("parametersJsonSchema") or one.get("parameters") or {} for one in offered}
    return Conversation(sent, results, schemas)


def _write(turn: Turn, request: Request) -> Reply:
    if isinstance(turn, Call):
        part: dict[str, Any] = {"functionCall": {"name": turn.tool, "args": turn.arguments}}
    else:
        part = {"text": turn}
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
    answer = {"candidates": [candidate], "usageMetadata": _USED, "modelVersion": "stand-in"}
    return as_events([answer]) if request.path.endswith(":streamGenerateContent") else as_json(answer)


def _error(status: int, members: Mapping[str, object]) -> object:
    words = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "UNAVAILABLE")
    return {"error": {"code": status, "message": members.get("message", ""), "status": words}}


DIALECT = Dialect(re.compile(r"/v1beta/models/[^/]+:(stream)?[gG]enerateContent"), _read, _write, _error)
