"""The real host and its fake keep what every host promises, and the suite finds those that do not."""

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from tests.conftest import RealMission
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.ports import ReviewResult
from spec_kitty_orchestrator.testing import FakeHost, HostContract, HostStage, OpenMission
from spec_kitty_orchestrator.testing.missions import MissionSpec, chain, diamond, make_legacy

STORY_LIMIT_S = 900.0


def fake_mission(spec: MissionSpec, make: type[FakeHost] = FakeHost) -> HostStage:
    shared = {wp.owned_files for wp in spec.work_packages}
    numbers = {files: f"lane-{number}" for number, files in enumerate(sorted(shared))}
    host = make(
        {wp.id: wp.dependencies for wp in spec.work_packages},
        subtasks={wp.id: wp.subtasks for wp in spec.work_packages},
        lane_ids={wp.id: numbers[wp.owned_files] for wp in spec.work_packages},
    )
    dirty: set[str | None] = set()
    committed: set[str | None] = set()
    host.has_commit = lambda wp: host.lane_ids[wp] in committed
    host.is_dirty = lambda wp: host.lane_ids[wp] in dirty

    def commit(workspace: Workspace) -> None:
        dirty.discard(workspace.lane_id)
        committed.add(workspace.lane_id)

    return HostStage(host, host.mission, write=lambda workspace: dirty.add(workspace.lane_id), commit=commit)


class TestFakeHost(HostContract):
    @pytest.fixture
    def open_mission(self) -> OpenMission:
        return fake_mission


@pytest.fixture
async def real(
    real_mission: Callable[[MissionSpec], RealMission], quick_host: str, host_env: dict[str, str]
) -> AsyncIterator[OpenMission]:
    """Open missions in the real host."""

    def write(workspace: Workspace) -> None:
        count = len(list(Path(workspace.path).glob("work-*.txt")))
        (Path(workspace.path) / f"work-{count}.txt").write_text("work\n")

    def commit(workspace: Workspace) -> None:
        for args in (["add", "-A"], ["commit", "-q", "-m", "work"]):
            subprocess.run(["git", *args], cwd=workspace.path, check=True, env=host_env)

    async with AsyncExitStack() as hosts:

        def open_mission(spec: MissionSpec) -> HostStage:
            mission = real_mission(spec)
            host = HostClient(mission.root, executable=quick_host, env=host_env)
            hosts.push_async_exit(host)
            return HostStage(host, mission.slug, write=write, commit=commit)

        yield open_mission


@pytest.mark.real_host
class TestRealHost(HostContract):
    @pytest.fixture
    def open_mission(self, real: OpenMission) -> OpenMission:
        return real

    async def test_a_mission_that_was_not_finalized_says_how_to(self, open_mission: OpenMission) -> None:
        here = open_mission(MissionSpec(chain(2).work_packages, topology="lanes", finalize=False))
        with anyio.fail_after(STORY_LIMIT_S):
            with pytest.raises(HostRefusal, match="spec-kitty agent mission finalize-tasks") as unread:
                await here.lanes()
            assert unread.value.code == "TASKS_NOT_FINALIZED"
            with pytest.raises(HostRefusal, match="is not finalized") as unstarted:
                await here.start("WP01")
            assert unstarted.value.code == "TRANSITION_REJECTED"

    async def test_a_mission_without_lanes_has_no_lane_and_no_commit_gate(
        self, open_mission: OpenMission, tmp_path: Path
    ) -> None:
        here = open_mission(diamond(3).on("lanes"))
        make_legacy(tmp_path / "project")
        fake = FakeHost({"WP01": ()}, legacy=True)
        with anyio.fail_after(STORY_LIMIT_S):
            workspace = await here.start("WP01")
            assert (workspace.lane_id, workspace.branch, workspace.base_ref) == (None, None, None)
            assert not await anyio.Path(workspace.path).exists()
            imitated = await HostStage(fake, fake.mission, here.write, here.commit).start("WP01")
            assert Path(imitated.path).name == Path(workspace.path).name.replace(here.mission, fake.mission)
            await here.host.tick_subtasks(here.mission, "WP01", ["T001"])
            await here.move("WP01", Lane.FOR_REVIEW)

    async def test_the_installed_host_speaks_our_contract(
        self, real_host: str, host_env: dict[str, str], tmp_path: Path
    ) -> None:
        with anyio.fail_after(STORY_LIMIT_S):
            version = await HostClient(tmp_path, executable=real_host, env=host_env).check_contract()
        assert version.startswith("1.")


class Hasty(FakeHost):
    """Starts whatever is asked for."""

    def _unmet(self, wp: str) -> tuple[str, ...]:
        return ()


class Blind(FakeHost):
    """Takes any policy."""

    async def start_review(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> None:
        await super().start_review(mission, wp, actor, PolicyMetadata("sko", "1", "a", "b", "c", "d"))


class Lax(FakeHost):
    """Moves any lane anywhere."""

    async def transition(
        self,
        mission: str,
        wp: str,
        to: Lane,
        actor: str,
        *,
        policy: PolicyMetadata | None = None,
        note: str = "",
        review: ReviewResult | None = None,
        force: bool = False,
    ) -> None:
        await super().transition(
            mission, wp, to, actor, policy=policy, note=note or "-", review=review, force=True
        )


class Strict(FakeHost):
    """Merges nothing."""

    async def merge_mission(self, mission: str, branches: int = 1) -> None:
        raise HostRefusal("merge-mission", "PREFLIGHT_FAILED", "no")


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Hasty, "test_a_work_package_is_rejected_reworked_and_approved"),
        (Lax, "test_a_work_package_is_rejected_reworked_and_approved"),
        (Blind, "test_what_cannot_be_is_refused_with_the_words_that_decide_what_a_run_does"),
        (Hasty, "test_what_was_canceled_for_a_reason_keeps_nobody_who_depends_on_it"),
        (Strict, "test_two_work_packages_of_one_worktree_are_delivered_accepted_and_merged"),
    ],
)
def test_a_host_that_breaks_a_promise_is_found(mutant: type[FakeHost], promise: str) -> None:
    assert not is_kept(
        HostContract, promise, {"open_mission": lambda: lambda spec: fake_mission(spec, mutant)}
    )
