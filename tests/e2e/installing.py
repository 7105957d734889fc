"""Finds the CLIs where somebody installed them, or installs each once for this checkout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path

from filelock import FileLock
from tests.e2e.clis.spec import Cli

FOLDERS = "SKO_TEST_AGENTS"
"""Names folders as PATH does, also by patterns; CLIs and a newer `node` are then looked for only there."""

NEWER_NODE = 22
INSTALL_LIMIT_S = 600.0
VERSION_LIMIT_S = 60.0
OFFLINE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
"""How npm names that it reached no registry."""

_QUIET = ("--no-audit", "--no-fund", "--no-progress", "--no-save", "--no-package-lock")


class NotThere(Exception):
    """A CLI is not there, for a reason that is no fault of its own: no npm, no network."""


class NotInstalled(Exception):
    """The registry has a package that cannot be installed; the message says why."""


def program_of(cli: Cli, cache: Path) -> str:
    """Return the absolute path of an agent's CLI, installed in `cache` unless `SKO_TEST_AGENTS` is set.

    What is returned runs on the Node.js that is on PATH: a CLI that needs a newer one is given that.

    Raises:
        NotThere: it cannot be found or installed here.
        NotInstalled: npm refuses.
    """
    newer = _major("node") < cli.node
    found = _find(cli.command, cache / cli.agent, [cli.package], newer_node_in=cache if newer else None)
    if not newer:
        return found
    node = _node(cache)
    launcher = cache / "launchers" / cli.command
    launcher.parent.mkdir(parents=True, exist_ok=True)
    words = f"PATH={shlex.quote(str(Path(node).parent))}:$PATH exec {shlex.quote(found)}"
    launcher.write_text(f'#!/bin/sh\n{words} "$@"\n')
    launcher.chmod(0o755)
    return str(launcher)


def version_of(program: str, env: Mapping[str, str] | None = None) -> str:
    """Return what a CLI says of its version, "" if it says nothing that looks like one."""
    try:
        # Some leave files of theirs wherever they are asked.
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [program, "--version"],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=VERSION_LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return ""
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else ""


def why_not(stderr: str) -> str:
    """Return the line with which npm says why it could not install a package."""
    lines = [re.sub(r"^(?:npm error )+(?:notarget )?", "", line) for line in stderr.splitlines()]
    noise = ("code ", "path ", "command ", "npm warn", "A complete log")
    return next(
        (line for line in lines if line.strip() and not line.startswith(noise)), "npm does not say why"
    )


def newest(package: str) -> tuple[str, int]:
    """Return the newest version of a package in npm's registry, and the oldest major of Node.js it takes.

    Raises:
        NotThere: the registry does not say.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NotThere("npm is not on PATH")
    done = subprocess.run(
        [npm, "view", f"{package}@latest", "version", "engines", "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=VERSION_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise NotThere(f"npm's registry does not tell the newest version: {why_not(done.stderr)}")
    told = json.loads(done.stdout)
    if isinstance(told, str):
        # Of a package without engines, the version stands alone.
        return told, 0
    engine = re.search(r"\d+", str(told["engines"].get("node", "")))
    return told["version"], int(engine[0]) if engine else 0


def _node(cache: Path) -> str:
    return _find("node", cache / "node", [f"node@{NEWER_NODE}"], None)


def _major(program: str) -> int:
    found = shutil.which(program)
    return int(version_of(found).partition(".")[0] or 0) if found else 0


def _find(command: str, folder: Path, packages: Sequence[str], newer_node_in: Path | None) -> str:
    named = os.environ.get(FOLDERS)
    if named:
        patterns = named.split(os.pathsep)
        folders = [one for pattern in patterns for one in sorted(glob(pattern))]  # noqa: PTH207 - absolute
        found = shutil.which(command, path=os.pathsep.join(folders))
        if found is None:
            raise NotThere(f"{FOLDERS} is set, and {command} is not in the folders that it names")
        return str(Path(found).absolute())
    _install(folder, packages, newer_node_in)
    found = shutil.which(command, path=str(folder / "node_modules" / ".bin"))
    assert found, f"npm installed {', '.join(packages)}, but no {command} is there"
    return str(Path(found).absolute())


def _install(folder: Path, packages: Sequence[str], newer_node_in: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted, stamp = "\n".join(packages), folder / "installed"
    with FileLock(folder / "installing.lock"):
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise NotThere("npm is not on PATH")
        stamp.unlink(missing_ok=True)
        path = os.environ.get("PATH", os.defpath)
        if newer_node_in is not None:
            # Scripts of a package that needs it are run when it is installed.
            path = os.pathsep.join([str(Path(_node(newer_node_in)).parent), path])
        done = subprocess.run(
            [npm, "install", "--prefix", str(folder), *_QUIET, *packages],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
        if done.returncode and any(word in done.stderr for word in OFFLINE):
            raise NotThere(f"npm reaches no registry: {done.stderr[-300:]}")
        if done.returncode:
            raise NotInstalled(why_not(done.stderr))
        stamp.write_text(wanted)
