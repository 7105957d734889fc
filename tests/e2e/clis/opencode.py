"""opencode: asks the Chat Completions API of a provider of its configuration."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-opencode-1"


def configured_as(name: str, key: str) -> Callable[[str, Path, str], dict[str, str]]:
    """Return what sets up opencode, or a program made from it: its file and variables have its own name."""

    def setup(url: str, home: Path, program: str) -> dict[str, str]:
        """Write its configuration, with a model that costs something."""
        cost, limit = {"input": 2, "output": 8}, {"context": 100_000, "output": 8_000}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{url}/v1", "apiKey": key},
            "models": {"m": {"name": "stand-in", "cost": cost, "limit": limit}},
        }
        file = home / f"{name}.json"
        file.write_text(json.dumps({"provider": {"stand-in": provider}, "model": "stand-in/m"}))
        return {
            "HOME": str(home),
            **{f"XDG_{kind}_HOME": str(home / kind) for kind in ("CONFIG", "DATA", "CACHE", "STATE")},
            f"{name.upper()}_CONFIG": str(file),
            f"{name.upper()}_DISABLE_AUTOUPDATE": "1",
            f"{name.upper()}_DISABLE_MODELS_FETCH": "1",
        }

    return setup


CLI = Cli("opencode", "opencode", "opencode-ai@1.18.33", KEY, configured_as("opencode", KEY))
