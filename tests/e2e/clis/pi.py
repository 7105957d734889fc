"""pi: asks the Chat Completions API of a provider of its list of models."""

import json
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-pi-12345"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Write its list of models, with one that costs something."""
    model = {
        "id": "m",
        "name": "stand-in",
        "reasoning": False,
        "input": ["text"],
        "cost": {"input": 2, "output": 8, "cacheRead": 0, "cacheWrite": 0},
        "contextWindow": 1_000_000,
        "maxTokens": 8_000,
    }
    provider = {"baseUrl": f"{url}/v1", "apiKey": KEY, "api": "openai-completions", "models": [model]}
    folder = home / "agent"
    folder.mkdir()
    (folder / "models.json").write_text(json.dumps({"providers": {"stand-in": provider}}))
    return {"HOME": str(home), "PI_CODING_AGENT_DIR": str(folder), "PI_OFFLINE": "1"}


CLI = Cli(
    "pi",
    "pi",
    "@earendil-works/pi-coding-agent@1.6.0",
    KEY,
    setup,
    node=22,
    settings={"model": "stand-in/m"},
)
