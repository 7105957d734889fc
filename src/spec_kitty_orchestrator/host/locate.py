"""Finds the host's executable and makes the environment in which it is called."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from spec_kitty_orchestrator.errors import HostMissing
from spec_kitty_orchestrator.machine.environment import search_path, without_git

__all__ = ["HOST_NAME", "call_env", "cores", "find_host"]

HOST_NAME = "spec-kitty"
_HOW_TO_INSTALL = "install it with: pipx install spec-kitty-cli, or put its folder on PATH"


def find_host(executable: str | None, env: Mapping[str, str]) -> str:
    """Return the absolute path of the host.

    Raises:
        HostMissing: says where it was looked for and how to install it.
    """
    wanted = executable or HOST_NAME
    found = shutil.which(wanted, path=search_path(env))
    if found is None:
        where = "is not an executable file" if os.sep in wanted else "was not found on PATH"
        raise HostMissing(f"the host {wanted!r} {where}; {_HOW_TO_INSTALL}")
    return str(Path(found).absolute())


def call_env(env: Mapping[str, str], executable: str) -> dict[str, str]:
    """Return the environment of calls: the host leads PATH, for one, and no outer git redirects its own."""
    # Git runs `spec-kitty` by that name as a merge driver, so the folder must be on PATH.
    path = os.pathsep.join(part for part in (str(Path(executable).parent), search_path(env)) if part)
    ours = {
        "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        # Objects that an agent has replaced would be checked out and merged in the place of the real ones.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": "/dev/null/none",
        # A hook that an agent has written would run with our rights and keys when the host commits or merges.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": os.devnull,
    }
    return {**without_git(env), **ours, "PATH": path}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
