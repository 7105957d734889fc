"""What the host refuses in the policy that goes with each call, so that we know it before we ask."""

import re
from collections.abc import Mapping

__all__ = [
    "BANNED_FLAGS",
    "FORBIDDEN_WORDS",
    "banned_part",
    "forbidden_word",
    "is_path",
    "other_name",
    "refusal",
]

BANNED_FLAGS = (
    "--yolo",
    "--full-auto",
    "--dangerously-bypass-approvals-and-sandbox",
    "--dangerously-skip-permissions",
)
"""The host refuses a policy that declares one of these, and we declare what is used."""

SAME_AS_BANNED = ("yolo", "full-auto", "bypasspermissions", "danger-full-access", "dangerously")
"""Parts of other words that allow the same, which would make the policy that we declare untrue."""

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "copilot": ("--allow-all", "--allow-all-tools"),
    "cursor": ("--force", "-f", "-pf", "-fp"),
    "letta": ("unrestricted", "fullAccess"),
}
"""By agent, flags of its CLI, or values of them, that are other names of a banned one."""

_Y = re.compile(r"--y\b|-[^-]?\w*y", re.ASCII)
_SHORT_NAMES: Mapping[str, re.Pattern[str]] = {"gemini": _Y, "qwen": _Y}
"""Short names of a banned flag, of CLIs that take one wherever it stands among letters behind one dash."""

FORBIDDEN_WORDS = ("token", "secret", "key", "password", "credential")
"""The host refuses a policy in which a value contains one of these."""


def forbidden_word(value: str) -> str:
    """Return the forbidden word that `value` contains, "" if there is none."""
    return next((word for word in FORBIDDEN_WORDS if word in value.lower()), "")


def banned_part(word: str) -> str:
    """Return what the host bans in one word of a command or of an environment, "" if nothing is."""
    return next((part for part in SAME_AS_BANNED if part in word.lower()), "")


def other_name(agent: str, word: str) -> bool:
    """Tell whether a word of a command is another name of a banned flag for the CLI of this agent."""
    short = _SHORT_NAMES.get(agent)
    if short and short.match(word):
        return True
    return not set(OTHER_NAMES.get(agent, ())).isdisjoint(word.split("=", 1))


def is_path(word: str) -> bool:
    """Tell whether a word is a path; people name their folders as they like."""
    return word.startswith(("/", "~/", "./", "../"))


def refusal(flag: str) -> str:
    """Return the words in which the host refuses a policy with a banned flag."""
    return (
        f"--policy.dangerous_flags contains a banned flag: '{flag}'. "
        "Banned flags must never appear in orchestrator policy payloads."
    )
