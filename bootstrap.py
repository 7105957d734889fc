#!/usr/bin/env python3
"""Sets up this checkout and runs one chore in it. Needs Python 3.11 or newer and git, nothing else.

::

    python3 bootstrap.py demo [OPTIONS]      run the demo mission (--keep DIR keeps its repository)
    python3 bootstrap.py test [ARGUMENTS]    run every check; with arguments, pytest with those arguments
    python3 bootstrap.py nox [ARGUMENTS]     run any session of noxfile.py (-l lists them)
    python3 bootstrap.py host                install the host only, and print the path of its `spec-kitty`

The package goes into `.venv`, the host into an environment of its own, as users have it from pipx. An
environment is made again only when what it was made from has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

if sys.version_info < (3, 11):
    sys.exit(
        "bootstrap.py needs Python 3.11 or newer, and this is {}.{}: "
        "run it with a newer one, for example `python3.12 bootstrap.py`".format(*sys.version_info)
    )

import tomllib

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / ".venv"
HOST = ROOT / ".cache" / "host"
# Only the host's command, so that putting it on PATH does not bring its Python and pip along.
HOST_BIN = ROOT / ".cache" / "bin"
TESTS = "tests-{}.{}".format(*sys.version_info)


def main(argv: list[str]) -> int:
    """Run one chore and return its exit code."""
    chore, arguments = (argv[0], argv[1:]) if argv else ("", [])
    if chore not in ("demo", "test", "nox", "host"):
        print(__doc__)
        return 0 if chore in ("-h", "--help") else 2
    if not shutil.which("git"):
        sys.exit("bootstrap.py needs git, which is not on PATH")
    if chore == "host":
        print(install_host())
        return 0
    install_package()
    python = PACKAGE / "bin" / "python"
    if chore == "demo":
        return run([python, ROOT / "examples" / "demo.py", "--host", install_host(), *arguments])
    if chore == "test":
        # Without arguments: the sessions that noxfile.py runs by default.
        arguments = ["-s", TESTS, "--", *arguments] if arguments else []
    return run([python, "-m", "nox", "-f", ROOT / "noxfile.py", *arguments])


def install_package() -> None:
    """Install this package, editable, with what the chores need."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    chores = tables["dependency-groups"]["chores"]
    made_from = repr([tables["build-system"], tables["project"]])
    make_environment(PACKAGE, ["--editable", str(ROOT), *chores], made_from)


def install_host() -> Path:
    """Install the host and return its executable; `SKO_TEST_HOST` names one that is installed already."""
    mine = os.environ.get("SKO_TEST_HOST")
    if mine:
        return Path(mine)
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["host"]
    make_environment(HOST, requirements)
    command = HOST_BIN / "spec-kitty"
    HOST_BIN.mkdir(exist_ok=True)
    command.unlink(missing_ok=True)
    command.symlink_to(HOST / "bin" / "spec-kitty")
    return command


def make_environment(directory: Path, requirements: list[str], made_from: str = "") -> None:
    """Make a virtual environment with `requirements`, unless the one that is there was made from the same."""
    recipe = "\n".join([sys.version, sys.base_prefix, str(directory), *requirements, made_from])
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    stamp = directory / "made-from"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    say(f"making {directory.relative_to(ROOT)} for {' '.join(requirements)}; this takes a minute")
    # Not `sys.executable`: that may be the environment's own Python, which `--clear` takes away.
    python = getattr(sys, "_base_executable", sys.executable)
    if run([python, "-m", "venv", "--clear", directory], stdout=sys.stderr):
        sys.exit("Python could not make a virtual environment: on Debian and Ubuntu, install python3-venv")
    if run([directory / "bin" / "python", "-m", "pip", "install", "-qq", *requirements], stdout=sys.stderr):
        sys.exit("pip could not install what is needed: its message stands above")
    stamp.write_text(digest)


def run(argv: list[str | Path], stdout: TextIO | None = None) -> int:
    """Run a command in this checkout and return its exit code."""
    environment = dict(os.environ)
    # nox looks `python3.x` up on PATH; this one must be found even if the user named it by its path.
    environment["PATH"] = os.pathsep.join([str(PACKAGE / "bin"), environment.get("PATH", os.defpath)])
    words = [str(word) for word in argv]
    return subprocess.run(words, cwd=ROOT, env=environment, stdout=stdout, check=False).returncode


def say(message: str) -> None:
    """Print progress, away from standard output, which belongs to the chore."""
    print(f"bootstrap: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
