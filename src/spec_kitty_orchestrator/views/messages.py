"""A notice as what each kind of place takes: CloudEvents 1.0 as JSON, a message of Slack's, one of ntfy's.

What agents, the host and titles say is in it: where a place knows markup, it gets plain text.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from spec_kitty_orchestrator.core.notices import Notice
from spec_kitty_orchestrator.core.plain_text import begun

__all__ = ["as_json", "cloudevent", "ntfy", "posted", "slack"]

SOURCE = "spec-kitty-orchestrator"

MOST_OF_A_BLOCK = 2900
"""Characters; Slack refuses a block with more than 3000."""
MOST_OF_NTFY = 3500
"""Bytes; ntfy makes a file of a message with more than 4096."""

_TAGS = {
    "needs_person": "raised_hand",
    "ended": "checkered_flag",
    "budget": "moneybag",
    "quota": "hourglass",
    "slow": "snail",
    "test": "test_tube",
}
_HIGH, _USUAL = 4, 3


def headline(notice: Notice, mission: str) -> str:
    """Return its first line."""
    return f"{mission or SOURCE}: {notice.title}"


def cloudevent(notice: Notice, mission: str) -> dict[str, Any]:
    """Return it as an event; `id` is the same each time that it is sent, and differs for each cause."""
    return {
        "specversion": "1.0",
        "id": quote(notice.about[0], safe=":@+"),
        "source": quote(f"/{SOURCE}/{mission}" if mission else f"/{SOURCE}"),
        "type": f"{SOURCE}.{notice.on}",
        **({"subject": mission} if mission else {}),
        "time": _time(notice.at),
        "datacontenttype": "application/json",
        "data": {
            "mission": mission or None,
            "on": notice.on,
            "title": notice.title,
            "text": notice.text,
            "wps": list(notice.wps),
            "commands": [{"what": what, "command": command} for what, command in notice.steps],
        },
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def slack(notice: Notice, mission: str) -> dict[str, Any]:
    """Return it as an incoming webhook takes it: nothing in it names a person or a channel, or links."""
    title = headline(notice, mission)
    blocks: list[dict[str, Any]] = [_block("plain_text", title)]
    if notice.text:
        blocks.append(_block("plain_text", notice.text))
    for what, command in notice.steps:
        words = _escaped(what).replace("*", "").replace("`", "'")
        # What would end the code would also change the command: then it is text.
        shown = f"```{_escaped(command)}```" if "`" not in command else _escaped(command)
        blocks.append(_block("mrkdwn", f"{words}:\n{shown}"))
    return {"text": begun(_escaped(title), MOST_OF_A_BLOCK), "blocks": blocks}


def _block(kind: str, text: str) -> dict[str, Any]:
    told: dict[str, Any] = {"type": kind, "text": begun(text, MOST_OF_A_BLOCK)}
    return {"type": "section", "text": told | ({"emoji": False} if kind == "plain_text" else {})}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def ntfy(notice: Notice, mission: str, topic: str) -> dict[str, Any]:
    """Return it as a message for a topic."""
    lines = (notice.text, *(f"{what}:\n{command}" for what, command in notice.steps))
    text = "\n\n".join(filter(None, lines))
    while len(text.encode()) > MOST_OF_NTFY:
        text = begun(text, len(text) * 9 // 10)
    urgent = notice.on in ("needs_person", "ended")
    return {
        "topic": topic,
        "title": begun(headline(notice, mission), 250),
        "message": text,
        "priority": _HIGH if urgent else _USUAL,
        "tags": [_TAGS[notice.on]],
    }


def posted(
    notice: Notice, mission: str, kind: str, url: str, token: str = ""
) -> tuple[str, Mapping[str, str], dict[str, Any]]:
    """Return where a message is posted, with which headers, and the document.

    Args:
        notice: what it tells.
        mission: the slug, "" for none.
        kind: the format of the settings.
        url: as it was named; ntfy's topic is the end of its path.
        token: "" for none.
    """
    headers = {"Content-Type": "application/json", "User-Agent": SOURCE}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if kind == "slack":
        return url, headers, slack(notice, mission)
    if kind == "ntfy":
        parts = urlsplit(url)
        path, _, topic = parts.path.rstrip("/").rpartition("/")
        return urlunsplit(parts._replace(path=f"{path}/")), headers, ntfy(notice, mission, topic)
    headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
    return url, headers, cloudevent(notice, mission)


def as_json(document: Mapping[str, Any]) -> str:
    """Write a document in one line of ASCII."""
    return json.dumps(document)
