"""OpenAI's Chat Completions API, which many vendors' models are asked by."""

import json
import re
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
    texts,
)

_USED = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": TOTAL_TOKENS}


def _read(request: Request) -> Conversation:
    messages = request.body["messages"]
    sent = [text for one in messages if one["role"] == "user" for text in texts(one["content"])]
    results = sum(one["role"] == "tool" for one in messages)
    offered = [one["function"] for one in request.body.get("tools") or ()]
    return Conversation(sent, results, {one["name"]: one.get("parameters") or {} for one in offered})


def _write(turn: Turn, request: Request) -> Reply:
    if isinstance(turn, Call):
        function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
        call = {"id": turn.id, "type": "function", "function": function}
        said: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
    else:
        said = {"role": "assistant", "content": turn}
    end = "tool_calls" if isinstance(turn, Call) else "stop"
    head = {"id": "chatcmpl-1", "created": 1, "model": "stand-in"}
    if not request.body.get("stream"):
        choice = {"index": 0, "message": said, "finish_reason": end}
        return as_json({**head, "object": "chat.completion", "choices": [choice], "usage": _USED})
    delta = {name: value for name, value in said.items() if value is not None}
    if isinstance(turn, Call):
        delta["tool_calls"] = [{"index": 0, **call}]
    head["object"] = "chat.completion.chunk"
    events = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end}]},
        {**head, "choices": [], "usage": _USED},
    ]
    return as_events(events, "data: [DONE]\n\n")


DIALECT = Dialect(re.compile(r"(/v1)?/chat/completions"), _read, _write)
