"""Small words that several views share; whatever an agent or the host wrote passes `clean`."""

import re

from spec_kitty_orchestrator.core.describe import SHA_LENGTH as SHA_LENGTH
from spec_kitty_orchestrator.core.describe import clean as clean
from spec_kitty_orchestrator.core.describe import count as count
from spec_kitty_orchestrator.core.describe import duration as duration
from spec_kitty_orchestrator.core.describe import short as short

LONGEST_LINE = 4000
"""Characters of a line that a person asked for, or has to act on."""

_SHA = re.compile(r"\b[0-9a-f]{40}\b")


def note(text: str) -> str:
    """Make one line of a note, with the names of commits shortened."""
    return clean(_SHA.sub(lambda found: short(found.group()), text))
