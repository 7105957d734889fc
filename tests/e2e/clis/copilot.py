"""Copilot: asks the Chat Completions API of a provider of one's own, without a GitHub account."""

from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-copilot-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Return the variables; there are no files."""
    return {
        "HOME": str(home),
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_MODEL": "stand-in",
        "COPILOT_OFFLINE": "true",
        # Of a model that it does not know it believes that a long prompt nearly fills it, and shortens that.
        "COPILOT_PROVIDER_MAX_PROMPT_TOKENS": "1000000",
    }


CLI = Cli("copilot", "copilot", "@github/copilot@1.0.102", KEY, setup)
