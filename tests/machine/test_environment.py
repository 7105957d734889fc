"""What of our environment reaches an agent: the usual, its own, what a person lets through, and no more."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.process import MARKER

LIMIT_S = 20

KEYS = {
    "ANTHROPIC_API_KEY": "claude-code",
    "OPENAI_API_KEY": "codex",
    "AWS_SECRET_ACCESS_KEY": "claude-code",
    "GEMINI_API_KEY": "",
    "GITHUB_TOKEN": "",
    "STRIPE_SECRET_KEY": "",
    "DATABASE_URL": "",
}
"""Secrets of a person's shell, and the one agent of claude-code and codex that may see each."""


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "x")


def names(passed: Sequence[str] = ()) -> set[str]:
    return set(environment({}, "m", passed=passed))


@pytest.mark.parametrize("agent", ["claude-code", "codex", "scripted"])
def test_an_agent_gets_the_keys_of_its_own_vendor_and_no_others(agent: str) -> None:
    own = {name for name, owner in KEYS.items() if owner == agent}

    assert names(BUILT_IN[agent].environment) & set(KEYS) == own


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "LC_TIME", "XDG_CONFIG_HOME", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSH_AUTH_SOCK"),
        *("GIT_AUTHOR_NAME", "GIT_SSH_COMMAND", "VIRTUAL_ENV", "CARGO_HOME", "CI", "SPEC_KITTY_HOME"),
    ],
)
def test_what_programs_usually_need_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")

    assert name in names()


@pytest.mark.parametrize(
    "name", ["UV_PUBLISH_TOKEN", "npm_config_//registry.example.com/:_authToken", "SPEC_KITTY_SAAS_TOKEN"]
)
def test_a_secret_does_not_pass_because_its_prefix_is_harmless(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")

    assert name not in names()


def test_what_a_person_names_passes_by_its_name_or_by_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_APP_TOKEN", "x")
    monkeypatch.setenv("MY_OTHER", "x")

    assert {"MY_APP_TOKEN", "DATABASE_URL"} <= names(["MY_APP_*", "DATABASE_URL"])
    assert "MY_OTHER" not in names(["MY_APP_*", "MY_OTHE", "Y_OTHER", "MY.OTHER"])


def test_our_settings_and_gits_redirections_never_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    unwanted = {"SKO_AGENT", "GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_COUNT", "GIT_CONFIG_VALUE_0"}
    for name in unwanted:
        monkeypatch.setenv(name, "x")

    assert not unwanted & names(["SKO_*", "GIT_*", *unwanted])


def test_additions_win_over_what_is_inherited_and_the_marker_over_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/ours")

    made = environment({"HOME": "/its-own", "ADDED": "1", MARKER: "no"}, "the-id")

    assert (made["HOME"], made["ADDED"], made[MARKER]) == ("/its-own", "1", "the-id")


def test_extra_folders_come_before_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")

    assert environment({}, "m", [Path("/a"), Path("/b")])["PATH"] == "/a:/b:/usr/bin"


@pytest.mark.asyncio
async def test_a_child_sees_that_environment_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "prompt.md").touch()
    dump = "import json, os; print(json.dumps(dict(os.environ)))"
    env = environment({"ADDED": "1"}, uuid4().hex)

    child = await process.spawn([sys.executable, "-I", "-c", dump], tmp_path, env, tmp_path)
    with anyio.fail_after(LIMIT_S):
        await process.wait(child)

    seen: dict[str, Any] = json.loads((tmp_path / "stdout.log").read_text())
    added_by_the_shell = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert {name: seen[name] for name in env} == env
    assert set(seen) - set(env) <= added_by_the_shell
