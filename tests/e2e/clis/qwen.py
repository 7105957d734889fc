"""Qwen Code: asks the Chat Completions API, wherever its environment says."""

from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-qwen-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Return the variables; there are no files."""
    return {
        "HOME": str(home),
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": KEY,
        "OPENAI_MODEL": "stand-in",
    }


CLI = Cli("qwen", "qwen", "@qwen-code/qwen-code@0.24.4", KEY, setup, node=22, blanks_before="@")
