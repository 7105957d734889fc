"""OpenAI's Responses API."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.e2e.model_api.dialects.spec import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    TOTAL_TOKENS,
    Body,
    Call,
    Conversation,
    Dialect,
    Reply,
    Request,
    Turn,
    as_events,
    as_json,
    texts,
)

_USED = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": TOTAL_TOKENS}
_HEAD = {"id": "resp_1", "object": "response"}


def _read(request: Request) -> Conversation:
    items: Sequence[Body] = request.body["input"]
    sent = [one.get("content") for one in items if one.get("role") == "user"]
    results = sum(one.get("type") == "function_call_output" for one in items)
    tools = {
        one["name"]: one.get("parameters") or {} for one in request.body.get("tools", ()) if "name" in one
    }
    return Conversation([text for content in sent for text in texts(content)], results, tools)


def _write(turn: Turn, request: Request) -> Reply:
    if isinstance(turn, Call):
        item: dict[str, Any] = {"type": "function_call", "id": turn.id, "call_id": turn.id, "name": turn.tool}
        item["arguments"] = json.dumps(turn.arguments)
    else:
        item = {"type": "message", "id": "msg_1", "role": "assistant"}
        item["content"] = [{"type": "output_text", "text": turn, "annotations": []}]
    done = {**_HEAD, "status": "completed", "output": [item], "usage": _USED}
    return as_events(_events(item, done)) if request.body.get("stream") else as_json(done)


def _events(item: dict[str, Any], done: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": {**_HEAD, "status": "in_progress", "output": []}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": done}


DIALECT = Dialect(re.compile(r"(/v1)?/responses"), _read, _write)
