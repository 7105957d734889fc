"""Anthropic's Messages API."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.e2e.model_api.dialects.spec import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
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

_USED = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
_HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in"}


def _read(request: Request) -> Conversation:
    sent = [one["content"] for one in request.body["messages"] if one["role"] == "user"]
    blocks = [block for content in sent if isinstance(content, list) for block in content]
    results = sum(block["type"] == "tool_result" for block in blocks)
    tools = {one["name"]: one.get("input_schema", {}) for one in request.body.get("tools", ())}
    return Conversation([text for content in sent for text in texts(content)], results, tools)


def _write(turn: Turn, request: Request) -> Reply:
    if isinstance(turn, Call):
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": turn.id,
            "name": turn.tool,
            "input": turn.arguments,
        }
    else:
        block = {"type": "text", "text": turn}
    end = {"stop_reason": "tool_use" if isinstance(turn, Call) else "end_turn", "stop_sequence": None}
    if request.body.get("stream"):
        return as_events(_events(block, end))
    return as_json({**_HEAD, "content": [block], **end, "usage": _USED})


def _events(block: dict[str, Any], end: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "tool_use":
        begun = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        begun, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    message: dict[str, Any] = {**_HEAD, "content": [], "stop_reason": None, "usage": _USED}
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": begun}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": end, "usage": _USED}
    yield {"type": "message_stop"}


DIALECT = Dialect(re.compile(r"(/v1)?/messages"), _read, _write)
