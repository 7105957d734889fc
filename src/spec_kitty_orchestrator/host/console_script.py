"""Finds the Python program behind the host's executable: its interpreter, its script, its environment.

An executable may be the script itself, a link to it, or a wrapper that sets an environment and starts it. All
of them are asked in the same way: they are run with a `sitecustomize` that reports how Python was started and
ends it there.
"""

import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from spec_kitty_orchestrator.host.transport import SpawnTransport

PROBE_ARGV = ("orchestrator-api", "contract-version")
"""What the executable is run with: should it not be stopped by the probe, it changes nothing."""

_REPORT = "SPEC_KITTY_ORCHESTRATOR_PROBE"
_PROBE = f"""\
import json, os, sys
if sys.orig_argv[-2:] == {list(PROBE_ARGV)!r} and "{_REPORT}" in os.environ:
    report = {{"python": sys.executable, "argv": sys.orig_argv, "env": dict(os.environ)}}
    with open(os.environ["{_REPORT}"], "x") as file:
        json.dump(report, file)
    os._exit(0)
"""
_NO_SITE_PATH = frozenset("IE")
"""Options of Python that make it ignore PYTHONPATH, and the probe with it."""


@dataclass(frozen=True)
class ConsoleScript:
    """How to run the host's program without its executable.

    Attributes:
        python: the interpreter and its options.
        script: path of the script, "" for a module.
        module: what stands after `-m`, "" for a script.
        env: the whole environment that the program gets.
    """

    python: tuple[str, ...]
    script: str
    module: str
    env: Mapping[str, str]


async def resolve(executable: str, cwd: Path, env: Mapping[str, str], limit_s: float) -> ConsoleScript | None:
    """Return the Python program behind `executable`, None if there is none that we understand.

    Raises:
        OSError: it cannot be started, or not within `limit_s` seconds (`TimeoutError`).
    """
    found = await anyio.to_thread.run_sync(_from_shebang, executable, env)
    return found or await _ask(executable, cwd, env, limit_s)


def _from_shebang(executable: str, env: Mapping[str, str]) -> ConsoleScript | None:
    """Read the first line where it names an interpreter that the probe would not reach."""
    with Path(executable).open("rb") as file:
        first = file.readline(4096)
    if not first.startswith(b"#!"):
        return None
    try:
        words = shlex.split(first[2:].decode())
    except (UnicodeDecodeError, ValueError):
        return None
    python = words[:1] and Path(words[0]).is_absolute() and Path(words[0]).name.startswith("python")
    flags = "".join(word[1:] for word in words[1:] if word[:1] == "-" and word[1:].isalpha())
    if not python or not _NO_SITE_PATH & set(flags):
        return None
    return ConsoleScript(tuple(words), executable, "", dict(env))


async def _ask(executable: str, cwd: Path, env: Mapping[str, str], limit_s: float) -> ConsoleScript | None:
    with tempfile.TemporaryDirectory(prefix="spec-kitty-orchestrator-") as name:
        folder = Path(name)
        report = folder / "report.json"
        await anyio.to_thread.run_sync((folder / "sitecustomize.py").write_text, _PROBE)
        path = os.pathsep.join(part for part in (name, env.get("PYTHONPATH", "")) if part)
        await SpawnTransport().call(
            [executable, *PROBE_ARGV],
            cwd=cwd,
            env={**env, "PYTHONPATH": path, _REPORT: str(report)},
            limit_s=limit_s,
        )
        try:
            told = json.loads(await anyio.to_thread.run_sync(report.read_bytes))
        except (OSError, ValueError):
            return None
    return _read(told["python"], told["argv"], _without_probe(told["env"], name))


def _read(python: str, argv: Sequence[str], env: Mapping[str, str]) -> ConsoleScript | None:
    before = list(argv[1 : -len(PROBE_ARGV)])
    if len(before) >= 2 and before[-2] == "-m":
        return ConsoleScript((python, *before[:-2]), "", before[-1], env)
    if not before or before[-1].startswith("-") or "-c" in before or not Path(before[-1]).is_file():
        return None
    return ConsoleScript((python, *before[:-1]), str(Path(before[-1]).absolute()), "", env)


def _without_probe(env: Mapping[str, str], folder: str) -> dict[str, str]:
    kept = {name: value for name, value in env.items() if name != _REPORT}
    path = [part for part in kept.pop("PYTHONPATH", "").split(os.pathsep) if part and part != folder]
    if path:
        kept["PYTHONPATH"] = os.pathsep.join(path)
    return kept
