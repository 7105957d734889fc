"""What CI services read in the output of their jobs; nothing that others said may be read as a command.

GitHub takes a line that begins with `::`, and `##[` anywhere in one; Buildkite what begins with `---` and the
like; GitLab sections, whose control characters no text of ours holds.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

__all__ = ["Service", "inert", "inert_json", "service_around"]


class Service(StrEnum):
    """Whose job a run is a part of."""

    GITHUB = "github"
    GITLAB = "gitlab"
    BUILDKITE = "buildkite"


_VARIABLES = {
    "GITHUB_ACTIONS": Service.GITHUB,
    "GITLAB_CI": Service.GITLAB,
    "BUILDKITE": Service.BUILDKITE,
}

# What cannot be seen may be left out by whoever compares.
_BEFORE, _UNSEEN = r"[^\x21-\x7e\n]*", r"[^\x20-\x7e\n]*"
_COMMANDS = re.compile(
    rf"^(?P<colons>{_BEFORE}:)(?={_UNSEEN}:)"
    rf"|(?P<hash>\#)(?={_UNSEEN}\#{_UNSEEN}\[)"
    r"|^(?P<heading>(?:---|\+\+\+|~~~|\^\^\^))(?=\s|$)"
    r"|(?P<section>section_(?:start|end))(?=:)",
    re.MULTILINE,
)


def service_around(environ: Mapping[str, str]) -> Service | None:
    """Return the service that runs us, None elsewhere."""
    found = (one for name, one in _VARIABLES.items() if environ.get(name, "").lower() == "true")
    return next(found, None)


def inert(text: str) -> str:
    """Return text in which no service finds a command: a blank parts what would be one."""
    return _COMMANDS.sub(_parted, text)


def inert_json(text: str) -> str:
    """Return JSON in ASCII, which stays the same for its readers and holds no command for GitHub."""
    return text.replace("##[", "#\\u0023[")


def _parted(found: "re.Match[str]") -> str:
    return f" {found[0]}" if found["heading"] else f"{found[0]} "
