"""Planning artifacts get a branch of their own, and only what was approved comes to their target."""

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.core.model import PLANNING_LANE, Evidence, Workspace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import planning
from spec_kitty_orchestrator.machine.planning import place
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

pytestmark = pytest.mark.asyncio

FOUND = "docs/findings.md"
STATUS = "kitty-specs/m/status.events.jsonl"


@pytest.fixture
def space(lane: Lane) -> Workspace:
    """Where a planning artifact is worked on, on a target with a mission's own files."""
    git(lane.root, "switch", "-q", "-c", "feature")
    folder = lane.root / "kitty-specs" / "m"
    (folder / "tasks").mkdir(parents=True)
    for name in ("status.events.jsonl", "lanes.json", "tasks/WP01.md"):
        (folder / name).write_text("then\n")
    (folder / "meta.json").write_text(json.dumps({"target_branch": "feature"}))
    git(lane.root, "add", "-A")
    git(lane.root, "commit", "-q", "-m", "plan")
    told = lane.root / ".worktrees" / "m-lane-planning"
    return place(Workspace(str(told), str(folder / "tasks" / "WP01.md"), PLANNING_LANE, "main", "feature"))


async def worked(lane: Lane, space: Workspace, path: str = FOUND, text: str = "found\n") -> str:
    """Do the work of a planning artifact, and return its commit."""
    await lane.git.ensure("WP01", space, ())
    await lane.git.bring(space, ("refs/heads/feature",))
    base = (await lane.git.state(space)).head
    file = Path(space.path) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    done = await lane.git.commit("WP01", space, base, "WP01: findings", "")
    assert isinstance(done, Evidence)
    return done.head


def status(lane: Lane, path: str = STATUS) -> str:
    """Commit on the target as the host does at each transition."""
    (lane.root / path).parent.mkdir(exist_ok=True)
    (lane.root / path).write_text(f"{path} now\n")
    git(lane.root, "add", path)
    git(lane.root, "commit", "-q", "-m", "status")
    return git(lane.root, "rev-parse", "HEAD")


async def test_a_planning_artifact_has_a_branch_of_its_own_that_begins_at_the_target(
    lane: Lane, space: Workspace
) -> None:
    assert space.path == str(lane.root / ".worktrees" / "m-planning")
    assert (space.branch, space.base_ref, space.target) == ("m-planning", "feature", "feature")
    before = git(lane.root, "rev-parse", "main", "feature")
    await worked(lane, space)
    assert git(lane.root, "rev-parse", "main", "feature") == before
    assert git(lane.root, "rev-parse", "m-planning^") == before.splitlines()[1]
    assert not (lane.root / FOUND).exists()
    assert git(lane.root, "status", "--porcelain") == ""


async def test_other_work_packages_are_worked_on_where_the_host_says(lane: Lane) -> None:
    assert place(lane.workspace) == lane.workspace


@pytest.mark.parametrize("meta", ["", "[]", "{}", '{"target_branch": 7}'])
async def test_without_a_target_nobody_knows_where_a_planning_artifact_belongs(
    lane: Lane, space: Workspace, meta: str
) -> None:
    (lane.root / "kitty-specs" / "m" / "meta.json").write_text(meta)
    assert place(space).target == ""


async def test_an_approved_commit_is_on_the_target_as_it_is(lane: Lane, space: Workspace) -> None:
    head = await worked(lane, space)
    for _ in range(2):
        await lane.git.deliver("WP01", space, head)
        assert git(lane.root, "rev-parse", "feature") == head
    assert (lane.root / FOUND).read_text() == "found\n"
    assert git(lane.root, "status", "--porcelain") == ""


async def test_an_approved_commit_is_merged_with_what_came_to_the_target_meanwhile(
    lane: Lane, space: Workspace
) -> None:
    head, then = await worked(lane, space), status(lane)
    await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "feature^1", "feature^2") == f"{then}\n{head}"
    assert git(lane.root, "log", "-1", "--format=%s") == "Merge WP01 of m into feature"
    assert (lane.root / STATUS).read_text() == f"{STATUS} now\n"
    assert (lane.root / FOUND).read_text() == "found\n"
    assert git(lane.root, "rev-parse", "m-planning") == head
    later = await worked(lane, space, "docs/more.md")
    assert git(lane.root, "rev-parse", f"{later}^") == git(lane.root, "rev-parse", "feature")


async def test_what_a_person_has_not_committed_stays_as_it_is(lane: Lane, space: Workspace) -> None:
    head = await worked(lane, space)
    (lane.root / "a.py").write_text("a = 2\n")
    (lane.root / "b.py").write_text("b = 2\n")
    (lane.root / "mine.txt").write_text("mine\n")
    git(lane.root, "add", "b.py")
    before = git(lane.root, "status", "--porcelain")
    await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "feature") == head
    assert git(lane.root, "status", "--porcelain") == before
    assert (lane.root / "a.py").read_text() == "a = 2\n"


@pytest.mark.parametrize("ignored", ["", "docs/\n"])
async def test_where_the_same_file_is_not_committed_nothing_is_changed(
    lane: Lane, space: Workspace, ignored: str
) -> None:
    head, then = await worked(lane, space), git(lane.root, "rev-parse", "feature")
    (lane.root / ".git" / "info" / "exclude").write_text(f".worktrees/\n{ignored}")
    (lane.root / "docs").mkdir()
    (lane.root / FOUND).write_text("mine\n")
    with pytest.raises(WorkspaceError, match=f"would be overwritten.*git merge {head}"):
        await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "feature") == then
    assert (lane.root / FOUND).read_text() == "mine\n"


async def test_a_conflict_with_the_target_is_left_to_a_person(lane: Lane, space: Workspace) -> None:
    head, then = await worked(lane, space), status(lane, FOUND)
    with pytest.raises(WorkspaceError, match=f"conflict in {FOUND}"):
        await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "feature") == then
    assert git(lane.root, "status", "--porcelain") == ""


async def test_nothing_is_delivered_while_another_branch_is_checked_out(lane: Lane, space: Workspace) -> None:
    head = await worked(lane, space)
    before = git(lane.root, "rev-parse", "main", "feature")
    for words, found in ((("main",), "main is checked out"), (("--detach",), "no branch is checked out")):
        git(lane.root, "switch", "-q", *words)
        with pytest.raises(WorkspaceError, match=found):
            await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "main", "feature") == before


async def test_a_missions_own_files_may_be_planned_but_what_the_host_keeps_there_may_not(
    lane: Lane, space: Workspace
) -> None:
    await lane.git.ensure("WP01", space, ())
    kept = ["kitty-specs/m/lanes.json", STATUS, "kitty-specs/m/tasks/WP01.md", "kitty-specs/other/spec.md"]
    made = ["kitty-specs/m/research/findings.md", "kitty-specs/m/spec.md"]
    for name in (*kept, *made):
        file = Path(space.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("new\n")
    base = (await lane.git.state(space)).head
    assert sorted(await lane.git.uncommitted(space)) == made
    done = await lane.git.commit("WP01", space, base, "WP01: findings", "")
    assert isinstance(done, Evidence)
    assert git(lane.root, "diff", "--name-only", base, done.head).splitlines() == made
    assert [one.partition(":")[0] for one in done.left_out] == sorted(kept)


async def test_the_dependents_of_a_planning_artifact_get_its_approved_commit(
    lane: Lane, space: Workspace
) -> None:
    head = await worked(lane, space)
    for _ in range(2):
        await lane.git.bring(lane.workspace, (head,))
        assert (lane.path / FOUND).read_text() == "found\n"
    assert git(lane.path, "status", "--porcelain") == ""


async def test_a_review_goes_on_while_a_planning_artifact_comes_to_the_target(
    lane: Lane, space: Workspace
) -> None:
    head = await worked(lane, space)
    other = Workspace(str(lane.path), "", "lane-a", "kitty/m-lane-a", "feature")
    before = await lane.git.fingerprint(other)
    await lane.git.deliver("WP01", space, head)
    status(lane)
    assert (await lane.git.restore("WP02", other, before, "r1")).differed == ()

    before = await lane.git.fingerprint(other)
    status(lane, "c.py")
    assert len((await lane.git.restore("WP02", other, before, "r2")).differed) == 1


async def test_a_lock_that_somebody_has_for_a_moment_is_waited_for(
    lane: Lane, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, lock = await worked(lane, space), lane.root / ".git" / "index.lock"
    lock.touch()

    def unlocked() -> Iterator[float | None]:
        yield 0.0
        lock.unlink()
        yield 0.0
        yield None

    monkeypatch.setattr(planning, "delays", unlocked)
    await lane.git.deliver("WP01", space, head)
    assert git(lane.root, "rev-parse", "feature") == head


async def test_missions_that_deliver_to_one_target_at_once_all_arrive(lane: Lane, space: Workspace) -> None:
    start, heads = await worked(lane, space), list[str]()
    for number in range(4):
        git(lane.root, "switch", "-q", "-C", "other", start)
        heads.append(status(lane, f"docs/{number}.md"))
    git(lane.root, "switch", "-q", "feature")
    async with anyio.create_task_group() as tasks:
        for number, head in enumerate(heads):
            run = GitWorkspaces(lane.root, "m")
            tasks.start_soon(run.deliver, f"WP{number:02}", space, head)
    for number, head in enumerate(heads):
        assert git(lane.root, "merge-base", "feature", head) == head
        assert (lane.root / "docs" / f"{number}.md").read_text() == f"docs/{number}.md now\n"
    assert git(lane.root, "status", "--porcelain") == ""


async def test_no_filter_runs_whose_program_is_among_what_comes_to_the_target(
    lane: Lane, space: Workspace
) -> None:
    ran, program = lane.root.parent / "ran", lane.root / "docs" / "smudge"
    (lane.root / ".git" / "info" / "attributes").write_text("*.md filter=mine\n")
    git(lane.root, "config", "filter.mine.smudge", f"/bin/sh {program}")
    await lane.git.deliver("WP01", space, await worked(lane, space, "docs/smudge", f"touch {ran}; cat\n"))
    head = await worked(lane, space)
    await lane.git.deliver("WP01", space, head)
    assert (lane.root / FOUND).read_text() == "found\n"
    assert not ran.exists()
