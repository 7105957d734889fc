"""Makes a real mission with the real host, so that both orchestrators can be measured on the same one.

A plan says which WPs each WP depends on; each owns one module. A mission embeds absolute paths, so
`Mission.save` packs it and `Mission.reset` unpacks it to where it was made.
"""

import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY = {
    "orchestrator_id": "benchmark",
    "orchestrator_version": "1.0.0",
    "agent_family": "claude",
    "approval_mode": "full_auto",
    "sandbox_mode": "workspace_write",
    "network_mode": "none",
    "dangerous_flags": [],
}
TOPOLOGIES = ("single_branch", "lanes", "coord", "lanes_with_coord")


@dataclass(frozen=True, slots=True)
class Mission:
    """A prepared mission: its repository, its slug, who depends on whom, and the subtask ids of each WP."""

    root: Path
    slug: str
    dependencies: dict[str, list[str]]
    subtasks: dict[str, list[str]]

    @property
    def archive(self) -> Path:
        """Where the prepared repository is packed."""
        return self.root.with_suffix(".tar")

    def save(self) -> None:
        """Pack the repository as it is now."""
        with tarfile.open(self.archive, "w") as archive:
            archive.add(self.root, arcname=self.root.name)

    def reset(self) -> None:
        """Bring the repository back to the state that `save` packed."""
        shutil.rmtree(self.root, ignore_errors=True)
        with tarfile.open(self.archive) as archive:
            archive.extractall(self.root.parent, filter="fully_trusted")

    def lanes(self, host: str, env: dict[str, str]) -> dict[str, str]:
        """Ask the host for the lane of each WP."""
        command = [host, "orchestrator-api", "mission-state", "--mission", self.slug]
        state = last_json(run(command, self.root, env))
        return {wp["wp_id"]: wp["lane"] for wp in state["data"]["work_packages"]}


def run(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """Return the stdout of one preparing command; a failure ends the benchmark in the command's own words."""
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed in {cwd}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def last_json(stdout: str) -> Any:
    """Parse the last line: the host may print warnings before its envelope."""
    return json.loads(stdout.strip().splitlines()[-1])


def names(first: int, last: int) -> list[str]:
    """Return the ids of work packages `first` … `last`, both included."""
    return [f"WP{number:02d}" for number in range(first, last + 1)]


def diamond(count: int) -> dict[str, list[str]]:
    """Plan WP01, then WP02 … WP(n-1) side by side, then WPn."""
    wps = names(1, count)
    middle = wps[1:-1]
    edges: dict[str, list[str]] = {wps[0]: []}
    edges.update(dict.fromkeys(middle, wps[:1]))
    if count > 1:
        edges[wps[-1]] = middle or wps[:1]
    return edges


def side_by_side(count: int) -> dict[str, list[str]]:
    """Plan WPs that do not depend on each other."""
    return {wp: [] for wp in names(1, count)}


def make_mission(
    root: Path,
    host: str,
    env: dict[str, str],
    *,
    edges: dict[str, list[str]],
    topology: str,
    subtasks: int = 0,
) -> Mission:
    """Make, finalize and pack a mission; about 20 s.

    Args:
        root: the repository to make.
        host: the host's command.
        env: the environment of its calls.
        edges: the plan: each WP in the order of the numbers, and what it needs.
        topology: one of `TOPOLOGIES`.
        subtasks: per WP.
    """
    root.mkdir(parents=True)
    run(["git", "init", "-q", "-b", "main", "."], root, env)
    run(["git", "config", "user.name", "Benchmark"], root, env)
    run(["git", "config", "user.email", "benchmark@example.test"], root, env)
    run([host, "init", "--ai", "claude,codex", "--non-interactive"], root, env)
    (root / "README.md").write_text("# Benchmark\n", encoding="utf-8")
    commit(root, env, "chore: begin")
    run(["git", "checkout", "-qb", "feature/benchmark"], root, env)
    specify = [
        host,
        "orchestrator-api",
        "specify",
        "--mission",
        "benchmark",
        "--mission-type",
        "software-dev",
    ]
    envelope = last_json(run([*specify, "--topology", topology, "--policy", json.dumps(POLICY)], root, env))
    slug = envelope["data"]["mission_slug"]
    ids = {wp: [f"T{at * subtasks + k + 1:03d}" for k in range(subtasks)] for at, wp in enumerate(edges)}
    write_plan(root / "kitty-specs" / slug, edges, ids)
    commit(root, env, "docs: plan the mission")
    run([host, "agent", "mission", "finalize-tasks", "--mission", slug, "--json"], root, env)
    mission = Mission(root, slug, edges, ids)
    mission.save()
    return mission


def commit(root: Path, env: dict[str, str], message: str) -> None:
    run(["git", "add", "-A"], root, env)
    run(["git", "commit", "-qm", message], root, env)


def write_plan(folder: Path, edges: dict[str, list[str]], ids: dict[str, list[str]]) -> None:
    """Write spec.md, plan.md, tasks.md and one file per WP, as the host's planning commands would."""
    requirements = "".join(
        f"| FR-{wp[2:]:0>3} | Module {wp[2:]} | A module that reports. | High | Open |\n" for wp in edges
    )
    (folder / "spec.md").write_text(
        "# Feature Specification: Benchmark\n\n**Status**: Draft\n\n## User Scenarios & Testing\n\n"
        "### User Story 1 - Modules\n\nA developer calls status() of each module.\n\n"
        "**Acceptance Scenarios**:\n\n"
        "1. **Given** the package, **When** status() is called, **Then** a string is returned.\n\n"
        "## Requirements\n\n### Functional Requirements\n\n"
        "| ID | Title | User Story | Priority | Status |\n| --- | --- | --- | --- | --- |\n"
        f"{requirements}\n## Success Criteria\n\n- **SC-001**: every module returns its status.\n",
        encoding="utf-8",
    )
    (folder / "plan.md").write_text(
        "# Implementation Plan: Benchmark\n\n## Summary\n\nOne module per work package.\n\n"
        "## Technical Context\n\n**Language/Version**: Python 3.11\n",
        encoding="utf-8",
    )
    sections = [task_section(wp, edges[wp], ids[wp]) for wp in edges]
    (folder / "tasks.md").write_text("# Work Packages: Benchmark\n\n" + "".join(sections), encoding="utf-8")
    (folder / "tasks").mkdir(exist_ok=True)
    for wp in edges:
        path = folder / "tasks" / f"{wp}-module-{wp[2:]}.md"
        path.write_text(work_package(wp, edges[wp], ids[wp]), encoding="utf-8")


def task_section(wp: str, needs: list[str], ids: list[str]) -> str:
    subtasks = "".join(f"- [ ] {task} Write the module\n" for task in ids)
    return (
        f"## Work Package {wp}: Module {wp[2:]} (Priority: P1)\n\n**Goal**: one module\n"
        f"**Requirement Refs**: FR-{wp[2:]:0>3}\n\n### Included Subtasks\n{subtasks}\n"
        f"### Dependencies\n- Depends on {', '.join(needs) or 'none'}.\n\n---\n\n"
    )


def work_package(wp: str, needs: list[str], ids: list[str]) -> str:
    number = wp[2:]
    return (
        f"---\nwork_package_id: {wp}\ntitle: Module {number}\ndependencies: [{', '.join(needs)}]\n"
        f"requirement_refs: [FR-{number:0>3}]\nsubtasks: [{', '.join(ids)}]\n"
        f"owned_files:\n- src/mod{number}/**\nauthoritative_surface: src/mod{number}/\n"
        f"execution_mode: code_change\n"
        f"create_intent:\n- src/mod{number}/m{number}.py\n---\n\n# {wp}: Module {number}\n\n"
        f"Create `src/mod{number}/m{number}.py` with a `status() -> str` function.\n"
    )
