"""What the command says of itself, and how little it loads for that."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import kept
from tests.cli.warm_command import WarmCommand

from spec_kitty_orchestrator.cli import COMMANDS, SECTIONS
from spec_kitty_orchestrator.settings import RunSettings, flag_of, named_fields

FEW = {"spec_kitty_orchestrator", "spec_kitty_orchestrator.cli", "spec_kitty_orchestrator.errors"}


def shown(*args: str, columns: int = 80) -> str:
    env = {"COLUMNS": str(columns), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "spec_kitty_orchestrator", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_what_needs_no_command_loads_none(flag: str) -> None:
    text = (
        "import sys, typer; before = set(sys.modules); from spec_kitty_orchestrator.cli import main\n"
        f"sys.argv[1:] = [{flag!r}]\n"
        "try: main()\nexcept SystemExit: print(*sys.modules.keys() - before)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert {one for one in loaded if one.startswith("spec_kitty_orchestrator")} == FEW
    assert {"anyio", "pydantic", "rich"}.isdisjoint(loaded)


def test_every_command_is_listed_with_the_first_line_of_its_own_help(
    warm_command: WarmCommand, tmp_path: Path
) -> None:
    listed = shown("--help")
    assert sorted(" ".join(SECTIONS.values()).split()) == sorted(COMMANDS)
    for name, (_, line) in COMMANDS.items():
        assert f"  {name}  ".ljust(15) + line in listed
        assert line in warm_command.run((name, "--help"), tmp_path, kept()).stdout


@pytest.mark.parametrize("command", ["orchestrate", "resume"])
def test_every_setting_of_a_run_is_an_option_that_is_shown_whole_on_80_columns(command: str) -> None:
    text = shown(command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        f"{one}:"
        for one in (
            "This start",
            "Agents",
            "Limits",
            "Commits",
            "Review",
            "Budget",
            "Waiting",
            "Cluster",
            "Host",
            "Output",
        )
    ]
    shown_names = {word.strip(",") for word in text.split() if word.startswith("--")}
    settings = {flag_of(name) for name in RunSettings.model_fields}
    switches = {
        f"--no-{flag_of(name)[2:]}"
        for name, (_, _, field) in named_fields().items()
        if name in RunSettings.model_fields and field.annotation is bool
    }
    assert shown_names >= settings | switches | {"--gate", "--host-transport", "--on-interrupt"}


def test_an_option_says_what_it_takes_and_its_default_with_the_unit() -> None:
    text = " ".join(shown("orchestrate", "--help").split())
    for part in (
        "--max-wait DURATION How long to wait for nothing but quotas. [default: 6h]",
        "with less of the disk free; 0 for no floor. [default: 512 MB]",
        "--max-cost USD What the mission may cost in all, in US dollars, over all its runs. [default: none]",
        "--max-concurrent N Work packages in work at once, 1 to 256. [default: 4]",
        "--session-resume / --no-session-resume Rework",
        "--finish-lane done|approved Where an approved work package goes. [default: done]",
        "--impl-agent AGENT,AGENT Who implements; a,b is an order of fallback. [default: claude-code]",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("re", {"report", "resume", "retry"}),
        ("resume --budget", {"--budget-hard"}),
        ("orchestrate --on-rate-limit ", {"wait", "fallback", "stop"}),
        ("orchestrate --review-agent co", {"codex", "copilot"}),
    ],
)
def test_a_shell_can_complete_commands_options_and_values(line: str, expected: set[str]) -> None:
    words = f"spec-kitty-orchestrator {line}"
    env = {"_SPEC_KITTY_ORCHESTRATOR_COMPLETE": "complete_bash", "COMP_WORDS": words, "PATH": "/usr/bin:/bin"}
    env["COMP_CWORD"] = str(words.count(" "))
    command = [sys.executable, "-m", "spec_kitty_orchestrator"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert set(done.stdout.split()) == expected


def test_a_mistyped_command_gets_the_nearest_one() -> None:
    command = [sys.executable, "-m", "spec_kitty_orchestrator", "statsu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'status'?" in done.stderr
