"""What we quote of the host's refusals is what the host says."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS, FORBIDDEN_WORDS, refusal
from spec_kitty_orchestrator.host.warm import WarmTransport

pytestmark = pytest.mark.real_host

LIMIT_S = 120


async def answer(
    transport: WarmTransport, host: str, env: Mapping[str, str], root: Path, **policy: object
) -> str:
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
    reply = await transport.call(argv, cwd=root, env=env, limit_s=LIMIT_S)
    told = json.loads(reply.stdout.splitlines()[-1])
    assert told["error_code"] == "POLICY_VALIDATION_FAILED", told
    return str(told["data"]["message"])


def test_the_words_that_we_forbid_and_our_reasons_are_the_hosts_own(
    real_host: str, host_env: dict[str, str], tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    async def ask() -> None:
        # One process answers all, as the host's own processes would (test_warm_host.py).
        transport = WarmTransport(required=True)
        try:
            for flag in BANNED_FLAGS:
                told = await answer(transport, real_host, host_env, tmp_path, dangerous_flags=[flag])
                assert told == refusal(flag)
            told = await answer(transport, real_host, host_env, tmp_path, agent_family="monkey")
            assert f"(matched pattern: {'|'.join(FORBIDDEN_WORDS)})" in told
        finally:
            await transport.close()

    anyio.run(ask)
