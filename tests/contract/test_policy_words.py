"""What we quote of the host's refusals is what the host says."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS, FORBIDDEN_WORDS, refusal

pytestmark = pytest.mark.real_host

LIMIT_S = 120


def answer(host: str, env: Mapping[str, str], root: Path, **policy: object) -> str:
    """Return the host's reason to refuse a policy."""
    plain = {
        "orchestrator_id": "us",
        "orchestrator_version": "1",
        "agent_family": "acme",
        "approval_mode": "never_ask",
        "sandbox_mode": "none",
        "network_mode": "full",
        "dangerous_flags": [],
    }
    argv = [host, "orchestrator-api", "start-implementation", "--mission", "none", "--wp", "WP01"]
    argv += ["--actor", "us", "--policy", json.dumps(plain | policy)]
    done = subprocess.run(
        argv, cwd=root, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["error_code"] == "POLICY_VALIDATION_FAILED", told
    return str(told["data"]["message"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.parametrize("flag", BANNED_FLAGS)
def test_the_reason_against_full_permissions_is_the_hosts_own(
    real_host: str, host_env: dict[str, str], root: Path, flag: str
) -> None:
    assert answer(real_host, host_env, root, dangerous_flags=[flag]) == refusal(flag)


def test_the_words_that_we_forbid_are_those_that_the_host_names(
    real_host: str, host_env: dict[str, str], root: Path
) -> None:
    told = answer(real_host, host_env, root, agent_family="monkey")
    assert f"(matched pattern: {'|'.join(FORBIDDEN_WORDS)})" in told
