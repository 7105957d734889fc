"""Gemini CLI: asks Google's API, wherever its environment says, if its settings choose a key."""

import json
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-gemini-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Write its settings: without them, an address of one's own means another kind of login."""
    (home / ".gemini").mkdir()
    chosen = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    (home / ".gemini" / "settings.json").write_text(json.dumps(chosen))
    return {"HOME": str(home), "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": KEY}


# With a model named, it asks none which one to ask.
CLI = Cli("gemini", "gemini", "@google/gemini-cli@0.61.0", KEY, setup, settings={"model": "gemini-3.8-flash"})
