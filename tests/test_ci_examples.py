"""The action and the examples for CI: valid for their services, and calls of commands that there are."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema import main as check_jsonschema  # type: ignore[import-untyped]
from click.testing import CliRunner
from ruamel.yaml import YAML

from spec_kitty_orchestrator.cli import COMMANDS

ROOT = Path(__file__).parents[1]
KINDS = {
    "action.yml": "github-actions",
    "examples/ci/github.yml": "github-workflows",
    "examples/ci/gitlab.yml": "gitlab-ci",
    "examples/ci/buildkite.yml": "buildkite",
}
HOSTILE = 'a"; touch pwned; $(touch pwned) `touch pwned` -x'


def loaded(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


@cache
def help_of(command: str) -> str:
    asked = [sys.executable, "-m", "spec_kitty_orchestrator", command, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def valid(kind: str, file: Path) -> bool:
    done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{kind}", str(file)])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code == 0


@pytest.mark.parametrize("name", KINDS)
def test_each_file_is_what_its_service_reads(name: str, tmp_path: Path) -> None:
    assert valid(KINDS[name], ROOT / name)
    broken = tmp_path / "broken.yml"
    broken.write_text(
        (ROOT / name).read_text().replace("steps:", "stepz:").replace("script:", "skript: {}\nx:")
    )
    assert not valid(KINDS[name], broken)


def scripts(node: Any) -> list[str]:
    """Return all that shells run, of any of the files."""
    if isinstance(node, dict):
        own = [
            one
            for key in ("run", "command", "script", "before_script", "after_script")
            for one in (node.get(key, []) if isinstance(node.get(key), list) else [node.get(key)])
            if isinstance(one, str)
        ]
        return own + [one for value in node.values() for one in scripts(value)]
    return [one for value in node for one in scripts(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", KINDS)
def test_every_call_is_of_a_command_with_options_that_there_are(name: str) -> None:
    calls: set[tuple[str, ...]] = set()
    for script in scripts(loaded(name)):
        for line in script.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace('"$command"', "resume"), comments=True)
            if "spec-kitty-orchestrator" in words:
                call = words[words.index("spec-kitty-orchestrator") + 1 :]
                if call[0] == "|":  # it is the name of what is asked for
                    continue
                options = {one.partition("=")[0] for one in call if re.match(r"--\w", one)}
                calls.add((call[0], *sorted(options)))
    if name == "examples/ci/github.yml":
        (args,) = re.findall(r"args: \|\n((?: +--.*\n)+)", (ROOT / name).read_text())
        calls.add(("orchestrate", *sorted({one.partition("=")[0] for one in args.split()})))
    assert calls
    for command, *known in calls:
        assert command in COMMANDS
        assert [one for one in known if not re.search(rf"{one}\b", help_of(command))] == []


@pytest.mark.parametrize("name", ["action.yml", "examples/ci/github.yml"])
def test_actions_of_others_are_pinned_to_a_commit(name: str) -> None:
    used = re.findall(r"uses: (\S+)@(\S+)", (ROOT / name).read_text())
    assert used
    assert [
        one for one in used if one[0].split("/")[0] != "OWNER" and not re.fullmatch("[0-9a-f]{40}", one[1])
    ] == []


def test_no_job_of_the_workflow_may_write_to_the_repository() -> None:
    workflow = loaded("examples/ci/github.yml")
    assert workflow["permissions"] == {}
    allowed = {key: value for job in workflow["jobs"].values() for key, value in job["permissions"].items()}
    assert allowed == {"contents": "read", "security-events": "write"}


def test_no_input_is_a_part_of_a_script() -> None:
    assert [one for one in scripts(loaded("action.yml")) if "${{" in one] == []


def step(name: str) -> Any:
    return next(one for one in loaded("action.yml")["runs"]["steps"] if one.get("name") == name)


@pytest.fixture
def called(tmp_path: Path) -> Any:
    """Run a step of the action with what it gets in its environment; return the words of its call."""
    program = tmp_path / "bin" / "spec-kitty-orchestrator"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >"$CALLED"\necho $$ >>"$CALLED.pid"\n')
    program.chmod(0o755)

    def run(name: str, **env: str) -> list[str]:
        file = tmp_path / "called"
        own = {"PATH": f"{program.parent}:/usr/bin:/bin", "CALLED": str(file), "FOLDER": "/f", **env}
        # In a file, as there: of a text that it is given, bash runs the last command in its own process.
        script = tmp_path / "script"
        script.write_text(step(name)["run"])
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        started = subprocess.Popen(argv, cwd=tmp_path, env=own)
        assert started.wait(30) == 0
        # It is the very process that a canceled job is signaled with.
        assert int(Path(f"{file}.pid").read_text()) == started.pid
        assert not (tmp_path / "pwned").exists()
        return file.read_text().split("\0")[:-1]

    return run


def test_the_step_starts_the_mission_with_the_words_that_it_was_given(called: Any) -> None:
    words = called("Run the mission", MISSION=HOSTILE, ARGS=f"--max-duration\n5h\n\n{HOSTILE}\n", PACK="")
    assert words[:2] == ["orchestrate", f"--mission={HOSTILE}"]
    assert words[-3:] == ["--max-duration", "5h", HOSTILE]
    assert "--ci=github" in words


def test_with_a_pack_the_run_goes_on(called: Any) -> None:
    assert called("Take up the run of an earlier job", PACK=HOSTILE) == ["import", "--", HOSTILE]


def test_a_run_that_was_taken_up_is_resumed(called: Any) -> None:
    assert called("Run the mission", MISSION="m", ARGS="", PACK="p")[0] == "resume"


def test_the_run_is_exported_for_the_next_job(called: Any, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    report.write_text("page")
    words = called(
        "Hand on the report and the run", MISSION=HOSTILE, REPORT=str(report), FOLDER=str(tmp_path)
    )
    assert words == ["export", f"--mission={HOSTILE}", "--", f"{tmp_path}/run.pack"]
    assert (tmp_path / "report.html").read_text() == "page"


def test_outputs_of_the_action_are_those_of_a_run() -> None:
    made = (ROOT / "src/spec_kitty_orchestrator/views/ci/notes.py").read_text()
    states = {"done", "needs-you", "cut-off", "held-up", "waiting", "left-out", "running"}
    for name, value in re.findall(
        r"\n  ([\w-]+):\n    description: .*\n    value: \$\{\{ steps\.run\.outputs\.([\w-]+)",
        (ROOT / "action.yml").read_text(),
    ):
        assert name == value
        assert f'yield "{name}"' in made or name in states
