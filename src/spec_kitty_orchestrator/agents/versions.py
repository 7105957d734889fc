"""The version of a CLI: read from whatever it prints, and compared with the range that was tested."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from packaging.version import Version

__all__ = ["compare", "read_version", "spelled_range"]

_VERSION = re.compile(r"(?<![\w.])v?(\d{1,6}(?:\.\d{1,6}){1,3}(?:[-+][0-9A-Za-z.+-]{1,40})?)(?!\w|\.\d)")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_LONGEST_LINE = 400

Compared = Literal["older", "tested", "newer"]


def read_version(output: str) -> str:
    """Return the first version in the output of `--version`, "" if there is none."""
    for line in output.splitlines():
        found = _VERSION.search(line[:_LONGEST_LINE])
        if found:
            return found[1].rstrip(".-+")
    return ""


def compare(version: str, tested: Sequence[str]) -> Compared:
    """Tell where a version lies that `read_version` gave; the range is from the first tested to the last.

    Preliminary versions count as the ones that they precede.
    """
    found = _release(version)
    if found < _release(tested[0]):
        return "older"
    return "newer" if found > _release(tested[-1]) else "tested"


def spelled_range(tested: Sequence[str]) -> str:
    """Write the range for people, as in `0.169.0 to 0.171.0`."""
    return tested[0] if len(tested) == 1 else f"{tested[0]} to {tested[-1]}"


def _release(version: str) -> "Version":
    # Whoever only reads what agents print needs no comparison.
    from packaging.version import Version

    digits = _RELEASE.match(version)
    return Version(digits[0] if digits else "0")
