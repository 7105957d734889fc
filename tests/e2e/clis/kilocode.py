"""Kilo Code: asks the Chat Completions API of a provider of its configuration."""

import json
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-kilocode-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Write its configuration, with a model that costs something."""
    cost, limit = {"input": 2, "output": 8}, {"context": 100_000, "output": 8_000}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": {"m": {"name": "stand-in", "cost": cost, "limit": limit}},
    }
    configuration = {"provider": {"stand-in": provider}, "model": "stand-in/m"}
    (home / "kilo.json").write_text(json.dumps(configuration))
    return {
        "HOME": str(home),
        **{f"XDG_{kind}_HOME": str(home / kind) for kind in ("CONFIG", "DATA", "CACHE", "STATE")},
        "KILO_CONFIG": str(home / "kilo.json"),
        "KILO_DISABLE_AUTOUPDATE": "1",
        "KILO_DISABLE_MODELS_FETCH": "1",
    }


CLI = Cli("kilocode", "kilocode", "@kilocode/cli@7.7.7", KEY, setup)
