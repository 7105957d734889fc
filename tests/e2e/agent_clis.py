"""Finds the agents' real CLIs, or installs them once for this checkout, and points them to a stand-in."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGES = {
    "claude": "@anthropic-ai/claude-code@2.1.197",
    "codex": "@openai/codex@0.169.0",
    "opencode": "opencode-ai@1.18.33",
}
"""The CLIs and the packages that they come in; newer ones can be tested with `SKO_TEST_AGENTS`."""

KEYS = {"claude-code": "key-of-claude-1", "codex": "key-of-codex-1", "opencode": "key-of-opencode-1"}
"""The API key that each agent sends."""

COMMANDS = {"claude-code": "claude", "codex": "codex", "opencode": "opencode"}
"""The CLI of each agent."""

INSTALL_LIMIT_S = 600.0
OFFLINE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
"""How npm names that it reached no registry."""


def find_clis(cache: Path) -> dict[str, str]:
    """Return the absolute path of each CLI; skip the test where they can be neither found nor installed.

    They come from the folder that `SKO_TEST_AGENTS` names, else from PATH, else from npm into `cache`.
    """
    named = os.environ.get("SKO_TEST_AGENTS")
    found = _look(named or os.environ.get("PATH", os.defpath))
    if found is None and named:
        pytest.fail(f"SKO_TEST_AGENTS: {', '.join(PACKAGES)} are not all in {named}")
    return found or _install(cache)


def _look(path: str) -> dict[str, str] | None:
    found = {cli: shutil.which(cli, path=path) for cli in PACKAGES}
    return (
        {cli: str(Path(where).absolute()) for cli, where in found.items() if where}
        if all(found.values())
        else None
    )


def _install(cache: Path) -> dict[str, str]:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm is missing, and {', '.join(PACKAGES)} are not all on PATH")
    cache.mkdir(parents=True, exist_ok=True)
    wanted, stamp = "\n".join(PACKAGES.values()), cache / "installed"
    with FileLock(cache / "installing.lock"):
        if not stamp.is_file() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            quiet = ("--no-audit", "--no-fund", "--no-progress", "--no-save", "--no-package-lock")
            done = subprocess.run(
                [npm, "install", "--prefix", str(cache), *quiet, *PACKAGES.values()],
                cwd=cache,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_LIMIT_S,
                check=False,
            )
            if done.returncode and any(word in done.stderr for word in OFFLINE):
                pytest.skip(f"npm reaches no registry: {done.stderr[-300:]}")
            assert done.returncode == 0, f"npm install failed:\n{done.stderr[-3000:]}"
            stamp.write_text(wanted)
    found = _look(str(cache / "node_modules" / ".bin"))
    assert found, f"npm installed {', '.join(PACKAGES.values())}, but not every command is there"
    return found


def configuration(clis: Mapping[str, str], url: str, home: Path) -> str:
    """Return our settings, and write those of the CLIs into `home`: they ask `url` and keep to `home`."""
    env = environments(url, home)
    # An agent that hangs ends as `timeout`, well before the test's own limit.
    lines = ["[run]", 'timeout = "3m"', 'review_timeout = "3m"']
    for agent, cli in COMMANDS.items():
        pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env[agent].items())
        lines += [f"[agents.{agent}]", f"executable = {json.dumps(clis[cli])}", f"env = {{ {pairs} }}"]
    return "\n".join([*lines, ""])


def environments(url: str, home: Path) -> dict[str, dict[str, str]]:
    """Write the settings of the CLIs into `home`, and return each one's variables for using them."""
    home.mkdir()
    (home / "config.toml").write_text(_codex_config(url), encoding="utf-8")
    (home / "opencode.json").write_text(json.dumps(_opencode_config(url)), encoding="utf-8")
    return {
        "claude-code": claude_env(url, home),
        "codex": {"HOME": str(home), "CODEX_HOME": str(home), "STAND_IN_KEY": KEYS["codex"]},
        "opencode": {
            "HOME": str(home),
            **{f"XDG_{kind}_HOME": str(home / kind) for kind in ("CONFIG", "DATA", "CACHE", "STATE")},
            "OPENCODE_CONFIG": str(home / "opencode.json"),
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        },
    }


def claude_env(url: str, home: Path) -> dict[str, str]:
    """Return the variables that do the same for claude alone."""
    return {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEYS["claude-code"],
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def _codex_config(url: str) -> str:
    provider = {
        "name": "stand-in",
        "base_url": f"{url}/v1",
        "env_key": "STAND_IN_KEY",
        "wire_api": "responses",
    }
    return (
        'model = "stand-in"\nmodel_provider = "stand-in"\n[model_providers.stand-in]\n'
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in provider.items())
        + "request_max_retries = 0\nstream_max_retries = 0\n"
        # Test projects lie in the folder for temporary files, which its sandbox leaves open; people's do not.
        + "[sandbox_workspace_write]\nexclude_slash_tmp = true\nexclude_tmpdir_env_var = true\n"
    )


def _opencode_config(url: str) -> dict[str, object]:
    cost, limit = {"input": 2, "output": 8}, {"context": 100_000, "output": 8_000}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEYS["opencode"]},
        "models": {"m": {"name": "stand-in", "cost": cost, "limit": limit}},
    }
    return {"provider": {"stand-in": provider}, "model": "stand-in/m"}
