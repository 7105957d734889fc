"""Codex: asks the Responses API of a provider of its configuration."""

import json
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-codex-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Write its configuration, without retries."""
    provider = {
        "name": "stand-in",
        "base_url": f"{url}/v1",
        "env_key": "STAND_IN_KEY",
        "wire_api": "responses",
    }
    (home / "config.toml").write_text(
        'model = "stand-in"\nmodel_provider = "stand-in"\n[model_providers.stand-in]\n'
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in provider.items())
        + "request_max_retries = 0\nstream_max_retries = 0\n"
        # Test projects lie in the folder for temporary files, which its sandbox leaves open; people's do not.
        + "[sandbox_workspace_write]\nexclude_slash_tmp = true\nexclude_tmpdir_env_var = true\n"
    )
    # Where its home lies below the folder for temporary files, its sandbox can start no command.
    temporary = home / "tmp"
    temporary.mkdir()
    return {
        "HOME": str(home),
        "CODEX_HOME": str(home),
        "STAND_IN_KEY": KEY,
        "TMPDIR": str(temporary),
    }


CLI = Cli("codex", "codex", "@openai/codex@0.171.0", KEY, setup)
