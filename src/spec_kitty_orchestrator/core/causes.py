"""What is the same in several reasons: so a run tells one cause once, whatever it stopped."""

import re

_CHANGES = re.compile(r"\S*[\d/\\]\S*")
"""Words with digits or slashes: numbers, times, ids, versions, paths, addresses."""


def likeness(text: str) -> str:
    """Reduce a reason to what is the same whenever it occurs again, whatever it is about."""
    words = " ".join(re.findall(r"[^\W_]+|\*", _CHANGES.sub("*", text.lower())))
    return re.sub(r"\*(?: \*)+", "*", words)
