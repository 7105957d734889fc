"""The setup of a worktree on real git: what is ignored stays, and another worktree gets it again."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.machine.conftest import git

from spec_kitty_orchestrator.core.commands import PrepareWorkspace
from spec_kitty_orchestrator.core.events import GateBegun, SetUp
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Attempt, Phase, Role
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.work_package import Work, WorkPackage, worked
from spec_kitty_orchestrator.driver.gates import prepare
from spec_kitty_orchestrator.machine.gates import LocalGates

pytestmark = pytest.mark.asyncio


async def set_up(
    lane: Any,
    line: str,
    done: Sequence[str] = (),
    began: list[GateBegun] | None = None,
    attempts: tuple[Attempt, ...] = (),
) -> SetUp:
    """Set the worktree up as after a crash that left `began`, which also takes what begins now."""
    gates = [Gate("setup-1", ("/bin/sh", "-c", line))]
    runner = LocalGates(lane.root, "034-demo", gates)
    told = [] if began is None else began
    wp = WorkPackage("WP01", workspace=lane.workspace, work=Work(gates_begun=tuple(told)), attempts=attempts)

    async def begun(gate: GateBegun) -> None:
        told.append(gate)

    event = await prepare(runner, gates, lane.git, wp, PrepareWorkspace(0, 1), done, begun)
    assert isinstance(event, SetUp)
    return event


async def test_ignored_files_stay_and_what_git_sees_is_put_back(lane: Any) -> None:
    event = await set_up(lane, "echo made >cache.log; echo 'a = 2' >a.py; echo x >new.py")
    assert event.reason == ""
    assert [one.name for one in event.results] == ["setup-1"]
    assert (lane.path / "cache.log").read_text() == "made\n"
    assert (await lane.git.state(lane.workspace)).dirty == ()
    [saved] = event.rescued.refs
    assert "new.py" in git(lane.path, "ls-tree", "--name-only", saved).splitlines()


async def test_what_it_made_is_not_taken_for_new_work_that_git_ignores(lane: Any) -> None:
    lane.write("old.log")
    claimed = WorkPackage("WP01", workspace=lane.workspace, phase=Phase.IMPLEMENTING)
    wp = worked(claimed, before=await lane.git.before(lane.workspace))
    event = await set_up(lane, "mkdir vendor; echo made | tee cache.log >vendor/x.log")
    assert event.ignored == ("cache.log", "old.log", "vendor/x.log")
    wp, _ = step(wp, event, Policy(("a",), ("b",), setup=(Gate("setup-1", ("true",)),)))
    lane.before = wp.work.before
    lane.write("a.py", "a = 2\n")
    assert (await lane.committed()).notes == ()
    lane.write("by-the-agent.log")
    assert (await lane.committed()).notes[0].endswith(": by-the-agent.log")


async def test_where_somebody_has_worked_before_only_what_it_adds_is_its_own(lane: Any) -> None:
    lane.write("by-the-agent.log")
    attempt = Attempt("i1", 1, Role.IMPLEMENT, "a", "logs")
    event = await set_up(lane, "echo made >cache.log", attempts=(attempt,))
    assert event.ignored == ("cache.log",)


async def test_it_runs_beside_uncommitted_work_which_stays(lane: Any) -> None:
    lane.write("work.py")
    assert (await set_up(lane, "echo made >cache.log")).reason == ""
    assert (await lane.git.state(lane.workspace)).dirty == ("work.py",)


async def test_it_runs_once_for_a_worktree_and_again_for_one_that_was_made_anew(lane: Any) -> None:
    line = "echo made >>cache.log"
    first = await set_up(lane, line)
    again = await set_up(lane, line, [first.mark])
    assert (again.mark, again.results) == (first.mark, ())
    assert (lane.path / "cache.log").read_text() == "made\n"
    git(lane.root, "worktree", "remove", "--force", str(lane.path))
    anew = await set_up(lane, line, [first.mark])
    assert anew.mark != first.mark
    assert (lane.path / "cache.log").read_text() == "made\n"


async def test_what_was_set_up_before_a_crash_does_not_count_for_a_worktree_that_was_made_anew(
    lane: Any,
) -> None:
    line, began = "echo made >>cache.log", list[GateBegun]()
    await set_up(lane, line, began=began)
    await set_up(lane, line, began=began)
    assert (lane.path / "cache.log").read_text() == "made\n", "the answer of the first was lost, no more"
    git(lane.root, "worktree", "remove", "--force", str(lane.path))
    await set_up(lane, line, began=began)
    assert (lane.path / "cache.log").read_text() == "made\n"


async def test_it_does_not_last_where_git_does_not_ignore_what_it_made(lane: Any) -> None:
    line = "mkdir -p node_modules/x && echo made >node_modules/x/y && echo made >>cache.log"
    for _ in range(2):
        event = await set_up(lane, line)
        assert (event.reason, event.mark, len(event.results)) == ("", "", 1)
    lane.write(".gitignore", "*.log\nnode_modules/\n")
    assert (await set_up(lane, line)).mark != ""


async def test_other_commands_are_another_setup(lane: Any) -> None:
    first = await set_up(lane, "true")
    assert (await set_up(lane, "echo made >cache.log", [first.mark])).results


async def test_one_that_fails_is_told_with_its_command_and_the_end_of_its_output(lane: Any) -> None:
    event = await set_up(lane, "for n in $(seq 50); do echo line $n; done; exit 3")
    assert event.reason.startswith("`for n in $(seq 50); do echo line $n; done; exit 3` failed; see ")
    assert event.tail.splitlines()[0] == "line 41"
    assert event.tail.splitlines()[-1] == "line 50"


async def test_one_whose_command_is_not_there_is_told_so(lane: Any) -> None:
    assert "cannot run: its command was not found" in (await set_up(lane, "no-such-program-here")).reason
