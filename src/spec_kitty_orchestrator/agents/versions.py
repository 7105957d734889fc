"""The version of a CLI: read from whatever it prints, and compared with those that were tried."""

import re
from collections.abc import Iterable

_VERSION = re.compile(r"(?<![\w.])v?(\d{1,6}(?:\.\d{1,6}){1,3}(?:[-+][0-9A-Za-z.+-]{1,40})?)(?!\w|\.\d)")
_LONGEST_LINE = 400


def read_version(output: str) -> str:
    """Return the first version in the output of `--version`, "" if there is none."""
    for line in output.splitlines():
        found = _VERSION.search(line[:_LONGEST_LINE])
        if found:
            return found[1].rstrip(".-+")
    return ""


def major(version: str) -> str:
    """Return what a version promises to stay compatible within: `2` of 2.1.197, `0.169` of 0.169.0."""
    first, _, rest = version.partition(".")
    return f"{first}.{re.split(r'[.+-]', rest)[0]}" if int(first or 0) == 0 else first


def tried(version: str, versions: Iterable[str]) -> bool:
    """Tell whether one of the versions that were tried has the same major; what cannot be read has not."""
    return read_version(version) != "" and major(version) in {major(one) for one in versions}
