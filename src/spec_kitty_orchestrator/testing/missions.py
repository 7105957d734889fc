"""Builds real missions with the real host, for tests, the demo and the documentation."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.machine.child import run_now
from spec_kitty_orchestrator.machine.environment import without_git
from spec_kitty_orchestrator.testing.mission_files import MissionSpec, WorkPackageSpec, write_plan

__all__ = [
    "TOPOLOGIES",
    "MissionError",
    "MissionSpec",
    "WorkPackageSpec",
    "add_mission",
    "chain",
    "demo",
    "diamond",
    "make_legacy",
    "make_mission",
    "make_project",
    "restore_mission",
    "snapshot_mission",
]

TOPOLOGIES = ("single_branch", "lanes", "coord", "lanes_with_coord")
"""What the host's `--topology` takes."""
STEP_LIMIT_S = 300.0
"""Longest single step of making a mission, in seconds."""

_POLICY = {
    "orchestrator_id": "spec-kitty-orchestrator",
    "orchestrator_version": "0",
    "agent_family": "scripted",
    "approval_mode": "full_auto",
    "sandbox_mode": "workspace_write",
    "network_mode": "none",
    "dangerous_flags": [],
}


class MissionError(OrchestratorError):
    """A mission could not be made; the message holds the step and the end of what it printed."""


def diamond(count: int) -> MissionSpec:
    """Plan a first work package, a last one, and `count` - 2 parallel ones between them, one subtask each."""
    between = tuple(range(2, count))
    edges = {1: (), **dict.fromkeys(between, (1,)), count: between}
    return MissionSpec(tuple(_module(number, edges[number], (number,)) for number in sorted(edges)))


def chain(count: int, *, shared_workspace: bool = True) -> MissionSpec:
    """Plan work packages that each depend on the one before, in one worktree or one each."""
    folder = "src/shared" if shared_workspace else ""
    return MissionSpec(
        tuple(_module(n, (n - 1,) if n > 1 else (), (n,), folder=folder) for n in range(1, count + 1))
    )


def demo() -> MissionSpec:
    """Plan six work packages: three in parallel between the first and the last, one in two steps.

    WP04 and WP05 share a worktree.
    """
    return MissionSpec(
        (
            _module(1, (), (1, 2), title="Core"),
            _module(2, (1,), (3, 4), title="Reader"),
            _module(3, (1,), (5,), title="Writer"),
            _module(4, (1,), (6,), title="Report", folder="src/report"),
            _module(5, (4,), (7, 8), title="Report summary", folder="src/report"),
            _module(6, (2, 3, 5), (9,), title="Command"),
        )
    )


def make_mission(
    directory: Path, spec: MissionSpec, host: str = "spec-kitty", env: Mapping[str, str] | None = None
) -> str:
    """Make a repository with a mission that is ready to be run, in half a minute.

    Args:
        directory: must not exist or be empty.
        spec: what to plan.
        host: name or path of the host's executable.
        env: the whole environment of git and the host; None for this process's own.

    Returns:
        The mission's slug.

    Raises:
        MissionError: a step failed.
    """
    make_project(directory, host, env)
    return add_mission(directory, spec, host, env)


def make_project(directory: Path, host: str = "spec-kitty", env: Mapping[str, str] | None = None) -> None:
    """Make a repository as `make_mission` does, without a mission: what the host takes longest for.

    Raises:
        MissionError: a step failed.
    """
    steps = _Steps(directory, host, env)
    directory.mkdir(parents=True, exist_ok=True)
    steps.git("init", "-q", "-b", "main", ".")
    steps.git("config", "user.name", "Demo")
    steps.git("config", "user.email", "demo@example.invalid")
    steps.host("init", "--ai", "claude,codex", "--non-interactive")
    (directory / "README.md").write_text("# Demo\n", encoding="utf-8")
    steps.commit("chore: set the project up")


def add_mission(
    directory: Path, spec: MissionSpec, host: str = "spec-kitty", env: Mapping[str, str] | None = None
) -> str:
    """Add the mission to a repository that `make_project` made, and return its slug.

    Raises:
        MissionError: a step failed.
    """
    steps = _Steps(directory, host, env)
    steps.git("checkout", "-q", "-b", spec.branch)
    slug = steps.specify(spec)
    write_plan(directory / "kitty-specs" / slug, spec)
    steps.commit("docs: plan the mission")
    if spec.finalize:
        steps.host("agent", "mission", "finalize-tasks", "--mission", slug, "--json")
    return slug


def make_legacy(directory: Path) -> None:
    """Remove lanes.json from the only mission in a repository, as the host's older versions made them.

    Raises:
        MissionError: there is none, or git refuses.
    """
    steps = _Steps(directory, "spec-kitty", None)
    found = list(directory.glob("kitty-specs/*/lanes.json"))
    if not found:
        raise MissionError(f"no lanes.json under {directory / 'kitty-specs'}")
    for path in found:
        path.unlink()
    steps.commit("chore: forget the lanes")


def snapshot_mission(directory: Path, snapshot: Path) -> None:
    """Copy a repository with all its worktrees to `snapshot`, which must not exist."""
    shutil.copytree(directory, snapshot, symlinks=True)


def restore_mission(snapshot: Path, directory: Path) -> None:
    """Put a snapshot at `directory`, replacing what is there; it may be another place than it was taken at.

    The links between the repository and its worktrees, which are absolute, are made anew.
    """
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(snapshot, directory, symlinks=True)
    root = directory.absolute()
    for link in root.glob(".worktrees/*/.git"):
        administration = root / ".git" / "worktrees" / Path(link.read_text(encoding="utf-8").strip()).name
        link.write_text(f"gitdir: {administration}\n", encoding="utf-8")
        (administration / "gitdir").write_text(f"{link}\n", encoding="utf-8")


class _Steps:
    """Runs the steps of making a mission in one folder."""

    def __init__(self, directory: Path, host: str, env: Mapping[str, str] | None) -> None:
        self._directory = directory
        environment = without_git(os.environ if env is None else env)
        found = shutil.which(host, path=environment.get("PATH", os.defpath))
        self._host = str(Path(found).absolute()) if found else host
        # Git runs the host by name as a merge driver.
        path = os.pathsep.join((str(Path(self._host).parent), environment.get("PATH", os.defpath)))
        self._env = {
            "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
            **environment,
            "PATH": path,
            "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        }

    def git(self, *args: str) -> None:
        self._run(["git", *args])

    def host(self, *args: str) -> str:
        return self._run([self._host, *args])

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def specify(self, spec: MissionSpec) -> str:
        args = ["--mission", spec.slug, "--mission-type", "software-dev", "--topology", spec.topology]
        out = self.host("orchestrator-api", "specify", *args, "--policy", json.dumps(_POLICY))
        try:
            return str(json.loads(out.splitlines()[-1])["data"]["mission_slug"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise MissionError(f"the host's answer to specify is not usable: {out[-500:]}") from None

    def _run(self, argv: Sequence[str]) -> str:
        step = " ".join(argv[:4])
        try:
            reply = run_now(argv, cwd=self._directory, env=self._env, limit_s=STEP_LIMIT_S)
        except OSError as error:
            raise MissionError(f"{step}: {error}") from error
        out, err = (data.decode("utf-8", "replace") for data in (reply.stdout, reply.stderr))
        if reply.rc:
            said = f"{out[-1500:]}\n{err[-1500:]}".strip()
            raise MissionError(f"{step} ended with exit code {reply.rc}:\n{said}")
        return out


def _module(
    number: int,
    dependencies: Sequence[int],
    subtasks: Sequence[int],
    *,
    title: str = "",
    folder: str = "",
) -> WorkPackageSpec:
    """Plan a work package that creates one Python module."""
    folder = folder or f"src/mod{number:02d}"
    file = f"{folder}/m{number:02d}.py"
    return WorkPackageSpec(
        id=f"WP{number:02d}",
        title=title or f"Module {number}",
        dependencies=tuple(f"WP{needed:02d}" for needed in dependencies),
        owned_files=f"{folder}/**",
        create_intent=file,
        subtasks=tuple(f"T{task:03d}" for task in subtasks),
        text=f"Create `{file}` with a function `status() -> str` that returns the module's name.\n",
    )
