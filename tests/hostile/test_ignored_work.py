"""Work that git ignores is in no commit: it is named to all who might believe that it is."""

import anyio
import pytest
from tests.core.builders import BASE, COMMITTING, HEAD, drive
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.core.describe import describe
from spec_kitty_orchestrator.core.events import Committed, GatesPassed
from spec_kitty_orchestrator.core.model import Evidence, GateResult, Workspace
from spec_kitty_orchestrator.core.prompts import Prompts, implement_prompt, review_prompt
from spec_kitty_orchestrator.core.work_package import WorkPackage, worked
from spec_kitty_orchestrator.machine import hidden

NOTE = "git ignores these new files, so no commit holds them and a merge deletes them: build/core.py"


def prepare(lane: Lane) -> None:
    lane.write(".gitignore", "*.log\nbuild/\n.venv/\n__pycache__/\n.cache/\n.codex/\n")
    git(lane.path, "commit", "-q", "-am", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    lane.write("build/old.py")
    lane.write("old.log")


@pytest.mark.asyncio
async def test_what_is_new_and_ignored_is_named_and_the_rest_is_not(lane: Lane) -> None:
    prepare(lane)
    lane.before = await lane.git.before(lane.workspace)
    lane.write("build/core.py")
    lane.write("build/__pycache__/core.pyc")
    lane.write("new/deep/x.log")
    lane.write("new/deep/x.py")
    lane.write(".venv/pyvenv.cfg")
    lane.write(".venv/lib/x.py")
    lane.write(".cache/CACHEDIR.TAG")
    lane.write(".codex/memory")
    evidence = await lane.committed()
    assert evidence.left_out == ()
    assert evidence.notes == (f"{NOTE}, new/deep/x.log",)


@pytest.mark.asyncio
async def test_a_work_package_whose_whole_work_is_ignored_changed_nothing_and_says_why(lane: Lane) -> None:
    prepare(lane)
    lane.before = await lane.git.before(lane.workspace)
    lane.write("build/core.py")
    evidence = await lane.committed()
    assert evidence.head == lane.base
    assert evidence.notes == (NOTE,)
    wp, _ = drive((*COMMITTING, Committed(Evidence(BASE, BASE, notes=evidence.notes))))
    prompts = Prompts(implement="", rework="${feedback}", review="")
    told = implement_prompt(prompts, wp, mission="m", attempt_id="i2", task="", tick="")
    assert "Your attempt changed nothing" in told
    assert NOTE in told


@pytest.mark.asyncio
async def test_what_is_named_is_bounded(lane: Lane) -> None:
    prepare(lane)
    for number in range(60):
        lane.write(f"{number:02}.log")
        lane.write(f"build/many/{number}")
    evidence = await lane.committed()
    assert "00.log" in evidence.notes[0]
    assert evidence.notes[0].endswith("and 42 more")
    assert len(evidence.notes[0]) < 500


@pytest.mark.asyncio
async def test_a_gitignore_that_ignores_itself_hides_nothing(lane: Lane) -> None:
    lane.write("sub/.gitignore", "*\n")
    lane.write("sub/work.py")
    evidence = await lane.committed()
    assert "sub/.gitignore, sub/work.py" in evidence.notes[0]


@pytest.mark.asyncio
async def test_an_exclude_file_that_is_changed_during_a_run_is_told_and_not_followed(lane: Lane) -> None:
    exclude = lane.root / ".git" / "info" / "exclude"
    exclude.write_text("# mine\nnotes\n")
    lane.before = await lane.git.before(lane.workspace)
    exclude.write_text("# theirs\n*.py\n")
    lane.write("new.py")
    lane.write("notes")
    lane.write("x.log")
    evidence = await lane.committed()
    assert "new.py" in lane.files()
    assert "notes" not in lane.files()
    assert evidence.notes[1:] == (
        "git's exclude file was changed during the run, and that was not followed: + *.py, - notes",
    )
    fingerprint = await lane.git.fingerprint(lane.workspace)
    lane.write("conftest.py", "planted")
    with anyio.fail_after(60):
        found = await lane.git.restore("WP01", lane.workspace, fingerprint, "3-review")
    assert found.differed == ("conftest.py",)
    assert not (lane.path / "conftest.py").exists()
    lane.write("left.py")
    saved = await lane.git.rescue("WP01", lane.workspace, "left-1")
    assert git(lane.root, "show", f"{saved.refs[0]}:left.py") == "new"
    assert not (lane.path / "left.py").exists()


@pytest.mark.asyncio
async def test_the_pattern_that_we_add_ourselves_is_no_change(lane: Lane) -> None:
    own = Workspace(str(lane.root / ".worktrees" / "WP02"), "", None, None, None)
    await lane.git.state(lane.workspace)
    await lane.git.ensure("WP02", own, [])
    evidence = await lane.git.commit("WP02", own, lane.base, "m", "nothing to do")
    assert isinstance(evidence, Evidence)
    assert evidence.notes == ()


def test_the_reviewer_and_the_gates_line_are_told() -> None:
    evidence = Evidence(BASE, HEAD, left_out=(".env: may hold secrets",), notes=(NOTE,))
    wp, _ = drive((*COMMITTING, Committed(evidence)))
    prompts = Prompts(implement="", rework="", review="<stat>${stat}</stat> ${gates}")
    wp = worked(wp, gates=(GateResult("tests", ("t",), HEAD, ok=True, seconds=1.0),))
    told = review_prompt(prompts, wp, mission="m", attempt_id="r1", task="", stat="a.py", diff="")
    assert "NOT in the commit" in told
    assert NOTE in told
    assert "not committed: .env: may hold secrets" in told
    assert "files that the commit does not hold" in told
    assert NOTE in describe(Committed(evidence), wp)
    assert "they saw files that no commit holds" in describe(GatesPassed(wp.work.gates), wp)
    assert "saw files" not in worked(wp, left_out=(), notes=()).work.gates_told


def test_a_journal_that_cannot_remember_all_names_too_much_rather_than_too_little() -> None:
    assert hidden.note(("a", "b"), ("a",)).endswith(": b")
    assert hidden.note(("a",), ("a",)) == ""
    assert WorkPackage("WP01").work.uncommitted == ""
