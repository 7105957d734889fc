"""Finds the Python program behind the host's executable: its interpreter, its script, its environment.

An executable may be the script itself, a link to it, or a wrapper that sets an environment and starts it. All
of them are asked in the same way: they are run with a `sitecustomize` that reports how Python was started and
ends it there.
"""

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from spec_kitty_orchestrator.host.transport import SpawnTransport

__all__ = ["PROBE_ARGV", "ConsoleScript", "resolve"]

PROBE_ARGV = ("orchestrator-api", "contract-version")
"""What the executable is run with: should it not be stopped by the probe, it changes nothing."""

_REPORT_FILE = "report.json"
_REPORT = "SPEC_KITTY_ORCHESTRATOR_PROBE"
_PROBE = f"""\
import json, os, sys
if sys.orig_argv[-2:] == {list(PROBE_ARGV)!r} and "{_REPORT}" in os.environ:
    report = {{"python": sys.executable, "argv": sys.orig_argv, "env": dict(os.environ), "cwd": os.getcwd()}}
    with open(os.environ["{_REPORT}"], "x") as file:
        json.dump(report, file)
    os._exit(0)
"""
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
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
        plain: whether the executable is the script itself, run by the interpreter that its first line names,
            so that nothing else happens when it is run.
    """

    python: tuple[str, ...]
    script: str
    module: str
    env: Mapping[str, str]
    plain: bool = False


async def resolve(executable: str, cwd: Path, env: Mapping[str, str], limit_s: float) -> ConsoleScript | None:
    """Return the Python program behind `executable`, None if there is none that we understand.

    Raises:
        OSError: it cannot be started, or not within `limit_s` seconds (`TimeoutError`).
    """
    words = await anyio.to_thread.run_sync(_interpreter, executable)
    # The system hands everything behind the interpreter over as one word.
    plain = 1 <= len(words) <= 2
    flags = "".join(word[1:] for word in words[1:] if word[:1] == "-" and word[1:].isalpha())
    if _NO_SITE_PATH & set(flags):
        # The probe would not reach it.
        return ConsoleScript(tuple(words), executable, "", dict(env), plain)
    script = await _ask(executable, cwd, env, limit_s)
    if script is None or script.script != executable or script.env != env:
        return script
    return replace(script, plain=plain)


def _interpreter(executable: str) -> list[str]:
    """Return the words of a first line that names a Python by its path, [] if it does not."""
    with Path(executable).open("rb") as file:
        first = file.readline(4096)
    with suppress(UnicodeDecodeError, ValueError):
        words = shlex.split(first[2:].decode()) if first.startswith(b"#!") else []
        if words and Path(words[0]).is_absolute() and Path(words[0]).name.startswith("python"):
            return words
    return []


async def _ask(executable: str, cwd: Path, env: Mapping[str, str], limit_s: float) -> ConsoleScript | None:
    folder = await anyio.to_thread.run_sync(_make_probe)
    path = os.pathsep.join(part for part in (str(folder), env.get("PYTHONPATH", "")) if part)
    try:
        await SpawnTransport().call(
            [executable, *PROBE_ARGV],
            cwd=cwd,
            env={**env, "PYTHONPATH": path, _REPORT: str(folder / _REPORT_FILE)},
            limit_s=limit_s,
        )
        told = await anyio.to_thread.run_sync(_told, folder / _REPORT_FILE)
        if told is None:
            return None
        started_with = _without_probe(told["env"], path, env)
        return await anyio.to_thread.run_sync(_read, told, cwd, started_with)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _make_probe() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spec-kitty-orchestrator-"))
    (folder / "sitecustomize.py").write_text(_PROBE)
    return folder


def _told(report: Path) -> Any:
    with suppress(OSError, ValueError):
        return json.loads(report.read_bytes())
    return None


def _read(told: Mapping[str, Any], cwd: Path, env: Mapping[str, str]) -> ConsoleScript | None:
    python, before = told["python"], told["argv"][1 : -len(PROBE_ARGV)]
    if not before or not cwd.samefile(told["cwd"]):
        # Whoever changes the folder means something by it that a copy would not know.
        return None
    if len(before) >= 2 and before[-2] == "-m":
        return ConsoleScript((python, *before[:-2]), "", before[-1], env)
    script = cwd / before[-1]
    if before[-1].startswith("-") or "-c" in before or not script.is_file():
        return None
    return ConsoleScript((python, *before[:-1]), str(script), "", env)


def _without_probe(told: Mapping[str, str], path: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the program would have got without the probe."""
    kept = {name: value for name, value in told.items() if name != _REPORT}
    # A wrapper may have put folders before ours or behind it.
    kept["PYTHONPATH"] = kept.get("PYTHONPATH", "").replace(path, env.get("PYTHONPATH", ""))
    if not kept["PYTHONPATH"]:
        del kept["PYTHONPATH"]
    # In the C locale Python sets it, and is not told of that locale again if it is set already.
    if kept.get("LC_CTYPE") in _COERCED and "LC_CTYPE" not in env:
        del kept["LC_CTYPE"]
    return kept
