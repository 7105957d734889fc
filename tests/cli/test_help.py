"""What the command says of itself, and how little it loads for that."""

import subprocess
import sys

import pytest

from spec_kitty_orchestrator.cli import COMMANDS

FEW = {"spec_kitty_orchestrator", "spec_kitty_orchestrator.cli", "spec_kitty_orchestrator.errors"}


def shown(*args: str, columns: int = 80) -> str:
    env = {"COLUMNS": str(columns), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "spec_kitty_orchestrator", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_what_needs_no_command_loads_none(flag: str) -> None:
    text = (
        "import sys; from spec_kitty_orchestrator.cli import main\n"
        f"sys.argv[1:] = [{flag!r}]\n"
        "try: main()\nexcept SystemExit: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert {one for one in loaded if one.startswith("spec_kitty_orchestrator")} == FEW
    assert {"anyio", "pydantic", "rich"}.isdisjoint(loaded)


def test_every_command_is_listed_with_the_first_line_of_its_own_help() -> None:
    listed = shown("--help")
    for name, place in COMMANDS.items():
        assert f"  {name}  ".ljust(15) + place.line in listed
        assert place.line in shown(name, "--help")


def test_a_mistyped_command_gets_the_nearest_one() -> None:
    command = [sys.executable, "-m", "spec_kitty_orchestrator", "statsu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'status'?" in done.stderr
