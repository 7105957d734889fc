"""What a dialect does: it reads requests for the model's next turn, and writes that turn."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INPUT_TOKENS, OUTPUT_TOKENS = 1000, 40
"""What every turn is said to have used."""

TOTAL_TOKENS = INPUT_TOKENS + OUTPUT_TOKENS
Schema = Mapping[str, Any]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """What the model says when it calls a tool; CLIs take a repeated id for the same call."""

    id: str
    tool: str
    arguments: Mapping[str, Any]


Turn = Call | str


@dataclass(frozen=True)
class Request:
    """What a CLI asks: the path without its query, and the JSON."""

    path: str
    body: Body


@dataclass(frozen=True)
class Conversation:
    """What a request tells the model.

    Attributes:
        user: the texts of the user's messages, part by part, oldest first.
        results: how many results of tools there are.
        tools: what is offered, each with the JSON schema of its arguments.
    """

    user: Sequence[str]
    results: int
    tools: Mapping[str, Schema]


@dataclass(frozen=True)
class Reply:
    """An answer as it is sent."""

    content: bytes
    kind: str = "application/json"


def combined_error(status: int, members: Mapping[str, object]) -> object:
    """Build an error that several vendors' clients understand; `members` are those of the error object."""
    return {"type": "error", "error": dict(members)}


@dataclass(frozen=True)
class Dialect:
    """One API.

    Attributes:
        path: of the requests for a turn.
        read: what a request says.
        write: the answer to it.
        error: the JSON of a failure, from the status and the members of the error.
        others: the JSON that is answered on other paths of the API.
    """

    path: re.Pattern[str]
    read: Callable[[Request], Conversation]
    write: Callable[[Turn, Request], Reply]
    error: Callable[[int, Mapping[str, object]], object] = combined_error
    others: Mapping[str, object] = field(default_factory=dict)


def texts(content: object) -> list[str]:
    """Return the texts of a message's content, which is one text or a list of parts."""
    parts = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def as_json(value: object) -> Reply:
    """Answer with one object."""
    return Reply(json.dumps(value).encode())


def as_events(events: Iterable[Mapping[str, Any]], end: str = "") -> Reply:
    """Answer with server-sent events, named by their `type` if they have one; `end` is sent last."""
    lines = [
        (f"event: {one['type']}\n" if "type" in one else "") + f"data: {json.dumps(one)}\n\n"
        for one in events
    ]
    return Reply("".join([*lines, end]).encode(), "text/event-stream")
