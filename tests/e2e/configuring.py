"""Points installed CLIs to the stand-in of the models, in a HOME of their own."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.clis import CLIS

from spec_kitty_orchestrator.agents import BUILT_IN

_PERSONAL = (
    *(name.rstrip("*") for agent in BUILT_IN.values() for name in agent.environment),
    *("SKO_", "XDG_", "GIT_"),
)
"""How variables begin that would send a CLI to the account, model or folders of whoever runs the tests."""


def impersonal(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without accounts, folders and proxies of the person who runs the tests."""
    return {
        name: value
        for name, value in env.items()
        if not name.startswith(_PERSONAL) and not name.lower().endswith("_proxy")
    }


def environments(clis: Mapping[str, str], url: str, home: Path) -> dict[str, dict[str, str]]:
    """Write the settings of each CLI into a folder of `home`, and return its variables.

    `clis` and what is returned are by agent; `clis` holds paths.
    """
    made = {}
    for agent, program in clis.items():
        own = home / agent
        own.mkdir(parents=True)
        made[agent] = CLIS[agent].setup(url, own, program)
    return made


def configuration(clis: Mapping[str, str], env: Mapping[str, Mapping[str, str]], *writable: Path) -> str:
    """Write our own settings for agents with these programs and variables, and what they may write."""
    # An agent that hangs ends as `timeout`, well before the test's own limit.
    lines = ["[run]", 'timeout = "3m"', 'review_timeout = "3m"']
    lines += ["[confine]", f"writable = {json.dumps([str(one) for one in writable])}"]
    for agent, program in clis.items():
        pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env[agent].items())
        lines += [f"[agents.{agent}]", f"executable = {json.dumps(program)}", f"env = {{ {pairs} }}"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in CLIS[agent].settings.items()]
    return "\n".join([*lines, ""])
