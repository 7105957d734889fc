"""Claude Code: asks the Messages API, wherever its environment says."""

from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-claude-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Return the variables; there are no files."""
    return {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


CLI = Cli("claude-code", "claude", "@anthropic-ai/claude-code@2.1.332", KEY, setup)
