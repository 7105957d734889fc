"""Letta Code: asks the Chat Completions API by its local backend, without an account."""

from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-letta-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Return the variables; there are no files."""
    return {
        "HOME": str(home),
        "LETTA_LOCAL_BACKEND_EXPERIMENTAL": "1",
        "LLAMA_CPP_BASE_URL": f"{url}/v1",
        "LLAMA_CPP_API_KEY": KEY,
    }


CLI = Cli("letta", "letta", "@letta-ai/letta-code@0.25.9", KEY, setup, settings={"model": "llama-cpp/m"})
