"""What we tell the host: always plain text, and never longer than the host and the kernel take."""

import json
from collections.abc import Callable, Mapping, Sequence

from spec_kitty_orchestrator.core.model import PolicyMetadata
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.ports import ReviewResult

__all__ = ["NOTE_BYTES", "arguments", "name", "note", "policy", "review"]

NOTE_BYTES = 16 * 1024
"""Longest note or summary, in bytes of UTF-8."""
NAME_BYTES = 512
"""Longest actor, reviewer or reference, in bytes of UTF-8."""
ARGUMENT_BYTES = 131_070
"""Longest argument that Linux takes, in bytes."""
_CUT = " … (cut)"

Redact = Callable[[str], str]
"""Takes out of a text what must not be seen."""


def bounded(text: str, limit_bytes: int) -> str:
    """Cut at a character boundary so that the result, mark included, has at most `limit_bytes`."""
    encoded = plain(text).encode()
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    kept = encoded[: limit_bytes - len(_CUT.encode())]
    return kept.decode("utf-8", "ignore") + _CUT


def note(text: str) -> str:
    """Make a note."""
    return bounded(text, NOTE_BYTES)


def name(text: str) -> str:
    """Make an actor, a reviewer or a reference."""
    return bounded(text, NAME_BYTES)


def policy(metadata: PolicyMetadata) -> str:
    """Write the policy under the host's names."""
    return _json(
        {
            "orchestrator_id": metadata.orchestrator_id,
            "orchestrator_version": metadata.orchestrator_version,
            "agent_family": metadata.agent_family,
            "approval_mode": metadata.approval_mode,
            "sandbox_mode": metadata.sandbox_mode,
            "network_mode": metadata.network_mode,
            "dangerous_flags": list(metadata.dangerous_flags),
        }
    )


def review(result: ReviewResult, redact: Redact = str) -> str:
    """Write a structured review outcome, its text without what `redact` takes out."""
    return _json(
        {
            "reviewer": name(result.reviewer),
            "verdict": result.verdict,
            "reference": name(redact(result.reference)),
            "summary": note(redact(result.summary)),
        }
    )


def arguments(args: Sequence[str]) -> list[str]:
    """Make plain text of every word of an argv.

    Raises:
        HostError: a word is longer than the kernel takes.
    """
    words = [plain(word) for word in args]
    if any(len(word.encode()) > ARGUMENT_BYTES for word in words):
        raise HostError(f"an argument for the host is longer than {ARGUMENT_BYTES} bytes")
    return words


def _json(value: Mapping[str, str | Sequence[str]]) -> str:
    words = {
        key: note(item) if isinstance(item, str) else [note(word) for word in item]
        for key, item in value.items()
    }
    return json.dumps(words, ensure_ascii=False)
