"""The command as a copy of a process that has it imported: a tenth of the time that a new interpreter takes.

What serves it is our own warm host, which does the same for the program `spec-kitty`.
"""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path

import anyio

from spec_kitty_orchestrator.host.console_script import ConsoleScript
from spec_kitty_orchestrator.host.forked import Forked, NotTaken
from spec_kitty_orchestrator.host.warm_process import WarmProcess
from spec_kitty_orchestrator.machine.child import conduct

LIMIT_S = 120

_SCRIPT = """\
import sys
# Those of the process that was started know what its descriptors were then.
sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
from importlib import import_module
from spec_kitty_orchestrator import cli
for module in {"dry_run", "running", *(module for module, _ in cli.COMMANDS.values())}:
    import_module("spec_kitty_orchestrator.cli." + module)
# What these load while they are at work; each copy would load it anew.
for module in ("anyio._backends._asyncio", "anyio.streams.tls", "structlog", "typer._adapters"):
    import_module(module)
for module in ("details", "documents", "page", "timeline"):
    import_module("spec_kitty_orchestrator.views.report." + module)
cli.main()
"""
_AT_START = ("LANG", "LC_", "PYTHON", "TZ")
"""How variables begin that an interpreter reads when it starts."""

Completed = subprocess.CompletedProcess[str]


class WarmCommand:
    """Runs the command, as a process of its own each time; to be closed."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        script = folder / "command.py"
        script.write_text(_SCRIPT)
        self._env = dict(env)
        started_as = ConsoleScript((sys.executable,), str(script), "", self._env)
        self._process = WarmProcess(started_as, sys.executable, folder, memoize=False, merge_drivers=False)
        self._serves = self._process.first_answer() is not None

    def run(self, args: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> Completed:
        """Run it to its end; by an interpreter of its own if that would start otherwise."""
        if self._serves and _at_start(env) == _at_start(self._env):
            asked = copy(self._process)
            asked.env = dict(env)
            with suppress(NotTaken):
                reply = anyio.run(conduct, lambda: Forked(asked, args, cwd), LIMIT_S)
                return Completed(args, reply.rc, reply.stdout.decode(), reply.stderr.decode())
        return subprocess.run(
            [sys.executable, "-m", "spec_kitty_orchestrator", *args],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def close(self) -> None:
        """End what serves."""
        self._process.end()


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}
