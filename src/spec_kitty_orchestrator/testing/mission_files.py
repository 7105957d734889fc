"""What a mission to be made consists of, and the files in which the host expects its plan."""

from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["MissionSpec", "WorkPackageSpec", "write_plan"]


@dataclass(frozen=True)
class WorkPackageSpec:
    """One work package to be planned.

    Attributes:
        id: ``WP01`` to ``WP99``.
        title: one line.
        dependencies: ids of others.
        owned_files: a glob; those whose globs overlap and that depend on each other share a worktree.
        create_intent: the file that it is to create.
        subtasks: ids like ``T001``, unique in the mission; the host counts no other form.
        text: the body of its Markdown file, for the implementer.
        planning: whether its work is a planning artifact, which the host gives no lane.
    """

    id: str
    title: str
    dependencies: tuple[str, ...] = ()
    owned_files: str = ""
    create_intent: str = ""
    subtasks: tuple[str, ...] = ()
    text: str = ""
    planning: bool = False


@dataclass(frozen=True)
class MissionSpec:
    """A mission to be made.

    Attributes:
        topology: one of `TOPOLOGIES`.
        branch: the target branch; the host takes any but ``main``.
        slug: the mission's name; the host appends an id of its own.
        finalize: whether the host seeds the lanes; without it nothing can be started.
    """

    work_packages: tuple[WorkPackageSpec, ...] = field(default_factory=tuple)
    topology: str = "lanes_with_coord"
    branch: str = "feature/demo"
    slug: str = "demo"
    finalize: bool = True

    def on(self, topology: str) -> "MissionSpec":
        """Return the same mission on another topology."""
        return replace(self, topology=topology)


def write_plan(folder: Path, spec: MissionSpec) -> None:
    """Write spec.md, plan.md, tasks.md and one file per work package into the mission's folder."""
    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    _write(folder / "spec.md", _spec_text(spec))
    _write(
        folder / "plan.md",
        "# Implementation Plan\n\n## Summary\n\nOne module per work package.\n\n"
        "## Technical Context\n\n**Language/Version**: Python 3.11\n",
    )
    _write(folder / "tasks.md", "# Work Packages\n\n" + "".join(map(_section, _numbered(spec))))
    for number, wp in _numbered(spec):
        _write(tasks / f"{wp.id}-{wp.title.lower().replace(' ', '-')}.md", _prompt(number, wp))


def _numbered(spec: MissionSpec) -> list[tuple[int, WorkPackageSpec]]:
    return list(enumerate(spec.work_packages, 1))


def _spec_text(spec: MissionSpec) -> str:
    rows = "".join(
        f"| FR-{number:03d} | {wp.title} | As a developer, I want {wp.title} so that it reports its status. "
        "| High | Open |\n"
        for number, wp in _numbered(spec)
    )
    return (
        "# Feature Specification: Demo\n\n**Status**: Draft\n\n## User Scenarios & Testing\n\n"
        "### User Story 1 - Modules\n\nA developer imports each module and calls status().\n\n"
        "**Acceptance Scenarios**:\n\n"
        "1. **Given** the package, **When** status() is called, **Then** a string is returned.\n\n"
        "## Requirements\n\n### Functional Requirements\n\n"
        "| ID | Title | User Story | Priority | Status |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n## Success Criteria\n\n- **SC-001**: every module returns its status.\n"
    )


def _section(numbered: tuple[int, WorkPackageSpec]) -> str:
    number, wp = numbered
    boxes = "".join(f"- [ ] {task} {wp.title}, part {part}\n" for part, task in enumerate(wp.subtasks, 1))
    return (
        f"## Work Package {wp.id}: {wp.title} (Priority: P1)\n\n**Goal**: {wp.title}\n"
        f"**Requirement Refs**: FR-{number:03d}\n\n### Included Subtasks\n{boxes}\n"
        f"### Dependencies\n- Depends on {', '.join(wp.dependencies) or 'none'}.\n\n---\n\n"
    )


def _prompt(number: int, wp: WorkPackageSpec) -> str:
    surface = wp.owned_files.split("*", 1)[0]
    mode = "planning_artifact" if wp.planning else "code_change"
    return (
        f"---\nwork_package_id: {wp.id}\ntitle: {wp.title}\n"
        f"dependencies: [{', '.join(wp.dependencies)}]\nrequirement_refs: [FR-{number:03d}]\n"
        f"subtasks: [{', '.join(wp.subtasks)}]\nowned_files:\n- {wp.owned_files}\n"
        f"authoritative_surface: {surface}\nexecution_mode: {mode}\n"
        f"create_intent:\n- {wp.create_intent}\n---\n\n# {wp.id}: {wp.title}\n\n{wp.text}"
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
