"""The demo mission: six work packages on the real host, implemented and reviewed by scripted agents.

WP02, WP03 and WP04 depend on WP01 and run in parallel; WP05 follows WP04 in the same worktree; WP06 needs
them all. The scenario has the reviewer send WP03 back once. Nothing is written outside the demo's folder.
"""

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path

from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.testing.missions import demo, make_mission

SCENARIO = """\
[defaults.implement]
sleep = 2.0

[defaults.review]
sleep = 1.0

# The first review of WP03 sends it back, the second approves the rework.
[[WP03.review]]
verdict = "changes_requested"
summary = "The module does not say its version."
findings = [{ severity = "major", file = "", line = 0, message = "State the version." }]

[[WP03.review]]
verdict = "approved"
"""

SETTINGS = """\
[agents.scripted]
scenario = ".kittify/scenario.toml"
"""


def main() -> int:
    """Run the demo; 0 if every work package ended in `done`."""
    options = parse_arguments()
    host = find_host(options.host)
    keep: Path | None = options.keep
    directory = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="spec-kitty-demo-"))
    try:
        return run(directory / "project", host)
    except OrchestratorError as error:
        say(str(error))
        return error.exit_code
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)
            say("the project is removed again; --keep DIR keeps it")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the demo mission on the real host.")
    parser.add_argument("--host", type=Path, help="the `spec-kitty` to use (default: SKO_TEST_HOST or PATH)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the project in DIR, and keep it")
    return parser.parse_args()


def find_host(given: Path | None) -> Path:
    # Taken out of the environment, where the orchestrator would take it for a setting of its own.
    named = os.environ.pop("SKO_TEST_HOST", None)
    found = given or named or shutil.which("spec-kitty")
    if not found or not shutil.which(str(found)):
        sys.exit(f"the demo needs the host: `spec-kitty` is not at {found or 'any folder of PATH'}")
    return Path(found).absolute()


def run(project: Path, host: Path) -> int:
    # What the host keeps per user, and what it writes for every agent below HOME when that is new to it,
    # goes beside the project. Python's own folder of the user stays where it is.
    home = project.parent / "home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONUSERBASE"] = site.getuserbase()
    os.environ["HOME"] = str(home)
    # The repository, and all that its settings name, is the demo's own.
    os.environ["SKO_TRUST_SETTINGS"] = "1"
    os.environ["SPEC_KITTY_HOME"] = str(home / ".kittify")
    os.environ["SPEC_KITTY_NO_UPGRADE_CHECK"] = "1"
    os.environ["SPEC_KITTY_ENABLE_SAAS_SYNC"] = "0"
    os.environ["PATH"] = os.pathsep.join([str(host.parent), os.environ.get("PATH", os.defpath)])

    say(f"making a project with a mission of six work packages in {project}")
    mission = make_mission(project, demo(), str(host))
    configure(project)

    command = Path(sys.executable).with_name("spec-kitty-orchestrator")
    words = ["orchestrate", "--mission", mission, "--impl-agent", "scripted", "--review-agent", "scripted"]
    words += ["--max-concurrent", "4"]
    say(f"running {command.name} {' '.join(words)}")
    code = subprocess.run([command, *words], cwd=project, check=False).returncode
    say(f"it ended with exit code {code}; each attempt's prompt and logs:")
    for directory in sorted(project.glob(".kittify/logs/*/WP*/*")):
        print(f"  {directory}")

    lanes = read_lanes(project, mission, host)
    say("the host says: " + ", ".join(f"{wp} {lane}" for wp, lane in lanes.items()))
    done = bool(lanes) and set(lanes.values()) == {"done"}
    say("every work package is done" if done else "NOT every work package is done")
    return code if code or done else 1


def configure(project: Path) -> None:
    """Commit the scenario and the setting that names it, as a team would."""
    folder = project / ".kittify"
    (folder / "scenario.toml").write_text(SCENARIO)
    (folder / "orchestrator.toml").write_text(SETTINGS)
    for words in (
        ["add", "--force", "--", ".kittify/scenario.toml", ".kittify/orchestrator.toml"],
        ["commit", "--quiet", "--message", "chore: rehearse"],
    ):
        subprocess.run(["git", *words], cwd=project, check=True)


def read_lanes(project: Path, mission: str, host: Path) -> dict[str, str]:
    """Ask the host, which alone knows, for the lane of each work package."""
    words = [str(host), "orchestrator-api", "mission-state", "--mission", mission]
    answer = subprocess.run(words, cwd=project, check=True, capture_output=True, text=True).stdout
    packages = json.loads(answer.splitlines()[-1])["data"]["work_packages"]
    return {package["wp_id"]: package["lane"] for package in packages}


def say(message: str) -> None:
    print(f"demo: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
