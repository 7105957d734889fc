"""One suite for the real host and its fake: what holds for one holds for the other."""

import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.ports import Host, ReviewResult
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.missions import MissionSpec, chain, diamond, make_legacy

pytestmark = pytest.mark.anyio

ACTOR = "orchestrator"
POLICY = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none")
REJECTED = ReviewResult("codex", "changes_requested", "attempt-1@abc", "a test is missing")
APPROVED = ReviewResult("codex", "approved", "attempt-2@def", "good")
STORY_LIMIT_S = 900.0


@dataclass
class World:
    """A host with a mission, and the two things that agents do behind the host's back."""

    host: Host
    mission: str
    write: Callable[[Workspace], None]
    commit: Callable[[Workspace], None]

    async def lanes(self) -> dict[str, Lane]:
        return dict((await self.host.mission_state(self.mission)).lanes)

    async def start(self, wp: str, actor: str = ACTOR) -> Workspace:
        return await self.host.start_implementation(self.mission, wp, actor, POLICY)

    async def review(self, wp: str) -> None:
        await self.host.start_review(self.mission, wp, ACTOR, POLICY)

    async def move(
        self,
        wp: str,
        to: Lane,
        *,
        note: str = "",
        review: ReviewResult | None = None,
        force: bool = False,
    ) -> None:
        await self.host.transition(
            self.mission,
            wp,
            to,
            ACTOR,
            policy=POLICY,
            note=note,
            review=review,
            force=force,
        )


Open = Callable[[MissionSpec], World]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


REAL = pytest.param("real", marks=pytest.mark.real_host)


@pytest.fixture(params=["fake", REAL])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Give a function that opens a mission in either host."""
    async with AsyncExitStack() as hosts:
        yield fake_world if request.param == "fake" else real_world(request, hosts)


def fake_world(spec: MissionSpec) -> World:
    shared = {wp.owned_files for wp in spec.work_packages}
    numbers = {files: f"lane-{number}" for number, files in enumerate(sorted(shared))}
    host = FakeHost(
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

    return World(host, host.mission, write=lambda workspace: dirty.add(workspace.lane_id), commit=commit)


def real_world(request: pytest.FixtureRequest, hosts: AsyncExitStack) -> Open:
    make = request.getfixturevalue("real_mission")
    executable = request.getfixturevalue("quick_host")
    env = request.getfixturevalue("host_env")

    def write(workspace: Workspace) -> None:
        count = len(list(Path(workspace.path).glob("work-*.txt")))
        (Path(workspace.path) / f"work-{count}.txt").write_text("work\n")

    def commit(workspace: Workspace) -> None:
        for args in (["add", "-A"], ["commit", "-q", "-m", "work"]):
            subprocess.run(["git", *args], cwd=workspace.path, check=True, env=env)

    def open_mission(spec: MissionSpec) -> World:
        mission = make(spec)
        host = HostClient(mission.root, executable=executable, env=env)
        hosts.push_async_exit(host)
        return World(host, mission.slug, write=write, commit=commit)

    return open_mission


@asynccontextmanager
async def refused(code: str, words: str = "") -> AsyncIterator[None]:
    """Expect a refusal with this code whose message contains these words."""
    with pytest.raises(HostRefusal) as caught:
        yield
    assert caught.value.code == code
    assert words in caught.value.message


async def submit(world: World, wp: str, tasks: Sequence[str]) -> None:
    workspace = await world.start(wp)
    world.write(workspace)
    world.commit(workspace)
    await world.host.tick_subtasks(world.mission, wp, tasks)
    await world.move(wp, Lane.FOR_REVIEW, note="please\nreview")


async def test_a_work_package_is_rejected_reworked_and_approved(world: Open) -> None:
    with anyio.fail_after(STORY_LIMIT_S):
        here = world(diamond(3).on("lanes"))
        assert await here.lanes() == dict.fromkeys(("WP01", "WP02", "WP03"), Lane.PLANNED)
        async with refused("DEPENDENCIES_NOT_SATISFIED", "WP02 depends on WP01"):
            await here.start("WP02")

        promised = await here.host.resolve_workspace(here.mission, "WP01")
        workspace = await here.start("WP01")
        assert workspace == promised
        assert workspace.branch == f"kitty/mission-{here.mission}-{workspace.lane_id}"
        assert await here.start("WP01") == workspace
        async with refused("WP_ALREADY_CLAIMED", f"by '{ACTOR}'"):
            await here.start("WP01", actor="somebody-else")

        async with refused("TRANSITION_REJECTED", "no implementation commit on lane"):
            await here.move("WP01", Lane.FOR_REVIEW)
        here.write(workspace)
        async with refused("LANE_ALLOCATION_FAILED", "has uncommitted changes"):
            await here.start("WP01")
        here.commit(workspace)
        async with refused("TRANSITION_REJECTED", "requires completed subtasks"):
            await here.move("WP01", Lane.FOR_REVIEW)
        async with refused("SUBTASKS_NOT_FOUND", "T099"):
            await here.host.tick_subtasks(here.mission, "WP01", ["T001", "T099"])
        await here.move("WP01", Lane.FOR_REVIEW, note="ready")
        async with refused("TRANSITION_REJECTED", "Illegal transition: for_review -> for_review"):
            await here.move("WP01", Lane.FOR_REVIEW)

        await here.review("WP01")
        await here.review("WP01")
        async with refused("TRANSITION_REJECTED", "is in 'in_review', cannot start implementation"):
            await here.start("WP01")
        async with refused("TRANSITION_REJECTED", "requires review_result"):
            await here.move("WP01", Lane.DONE)
        async with refused("TRANSITION_REJECTED", "requires evidence"):
            await here.move("WP01", Lane.DONE, review=REJECTED)
        await here.move("WP01", Lane.IN_PROGRESS, review=REJECTED, note="a test is missing")
        assert (await here.lanes())["WP01"] is Lane.IN_PROGRESS

        await here.move("WP01", Lane.FOR_REVIEW)
        await here.review("WP01")
        await here.move("WP01", Lane.DONE, review=APPROVED, note="good")
        assert (await here.lanes())["WP01"] is Lane.DONE
        async with refused("TRANSITION_REJECTED", "Illegal transition: done -> in_progress"):
            await here.move("WP01", Lane.IN_PROGRESS)


async def test_approved_blocked_and_canceled_lanes_and_malformed_requests(world: Open) -> None:
    with anyio.fail_after(STORY_LIMIT_S):
        here = world(diamond(3).on("lanes"))
        await submit(here, "WP01", ["T001"])
        await here.review("WP01")
        async with refused("USAGE_ERROR", "requires non-empty reviewer"):
            await here.move("WP01", Lane.APPROVED, review=ReviewResult("", "approved", "r", ""))
        async with refused("USAGE_ERROR", "verdict must be"):
            await here.move("WP01", Lane.APPROVED, review=ReviewResult("codex", "fine", "r", ""))
        await here.move("WP01", Lane.APPROVED, review=APPROVED)
        async with refused("TRANSITION_REJECTED", "requires review_ref"):
            await here.move("WP01", Lane.IN_PROGRESS)
        async with refused("TRANSITION_REJECTED", "requires evidence"):
            await here.move("WP01", Lane.DONE)

        await here.start("WP02")
        async with refused("TRANSITION_REJECTED", "requires reason"):
            await here.move("WP02", Lane.PLANNED)
        await here.move("WP02", Lane.BLOCKED, note="parked")
        async with refused("TRANSITION_REJECTED", "is in 'blocked', cannot start implementation"):
            await here.start("WP02")
        await here.move("WP02", Lane.CANCELED)
        assert await here.lanes() == {
            "WP01": Lane.APPROVED,
            "WP02": Lane.CANCELED,
            "WP03": Lane.PLANNED,
        }
        async with refused("MISSION_NOT_READY"):
            await here.host.accept_mission(here.mission, ACTOR)

        async with refused("TRANSITION_REJECTED", "Force transitions require actor and reason"):
            await here.move("WP03", Lane.IN_PROGRESS, force=True)
        for lane in (Lane.IN_PROGRESS, Lane.FOR_REVIEW):
            await here.move("WP03", lane, note="without a worktree", force=True)
        assert (await here.lanes())["WP03"] is Lane.FOR_REVIEW
        place = await here.host.resolve_workspace(here.mission, "WP03")
        assert not await anyio.Path(place.path).exists()

        async with refused("WP_NOT_FOUND", "Work package 'WP77' not found in"):
            await here.review("WP77")
        async with refused("MISSION_NOT_FOUND", "Mission 'nonesuch' not found"):
            await here.host.mission_state("nonesuch")
        async with refused("POLICY_METADATA_REQUIRED", "transitioning to 'for_review'"):
            await here.host.transition(here.mission, "WP01", Lane.FOR_REVIEW, ACTOR)
        monkey = PolicyMetadata("monkey", "1", "a", "b", "c", "d")
        async with refused("POLICY_VALIDATION_FAILED"):
            await here.host.start_review(here.mission, "WP01", ACTOR, monkey)
        yolo = PolicyMetadata("sko", "1", "a", "b", "c", "d", ("--yolo",))
        async with refused("POLICY_VALIDATION_FAILED", "--yolo"):
            await here.host.start_review(here.mission, "WP01", ACTOR, yolo)


async def test_what_was_canceled_for_a_reason_keeps_nobody_who_depends_on_it(world: Open) -> None:
    with anyio.fail_after(STORY_LIMIT_S):
        here = world(diamond(3).on("lanes"))
        await here.move("WP01", Lane.CANCELED)
        await here.move("WP02", Lane.CANCELED, note="WP03 does it too")
        assert (await here.host.mission_state(here.mission)).ready == ("WP03",)
        await here.start("WP03")

        here = world(diamond(3).on("lanes"))
        await here.move("WP01", Lane.CANCELED)
        assert (await here.host.mission_state(here.mission)).ready == ()
        with pytest.raises(HostRefusal) as caught:
            await here.start("WP02")
        assert caught.value.data["unsatisfied_dependencies"] == ["WP01"]


async def test_two_work_packages_of_one_worktree_are_delivered_accepted_and_merged(world: Open) -> None:
    with anyio.fail_after(STORY_LIMIT_S):
        here = world(chain(2).on("lanes_with_coord"))
        first = await here.host.resolve_workspace(here.mission, "WP01")
        second = await here.host.resolve_workspace(here.mission, "WP02")
        assert first.key == second.key
        for wp, task in (("WP01", "T001"), ("WP02", "T002")):
            await submit(here, wp, [task])
            await here.review(wp)
            await here.move(wp, Lane.DONE, review=APPROVED)
        await here.host.merge_mission(here.mission)
        await here.host.accept_mission(here.mission, ACTOR)


@pytest.mark.parametrize("world", [REAL], indirect=True)
async def test_a_mission_that_was_not_finalized_says_how_to(world: Open) -> None:
    spec = MissionSpec(chain(2).work_packages, topology="lanes", finalize=False)
    here = world(spec)
    with anyio.fail_after(STORY_LIMIT_S):
        async with refused("TASKS_NOT_FINALIZED", "spec-kitty agent mission finalize-tasks"):
            await here.lanes()
        async with refused("TRANSITION_REJECTED", "is not finalized"):
            await here.start("WP01")


@pytest.mark.parametrize("world", [REAL], indirect=True)
async def test_a_mission_without_lanes_has_no_lane_and_no_commit_gate(world: Open, tmp_path: Path) -> None:
    here = world(diamond(3).on("lanes"))
    make_legacy(tmp_path / "project")
    fake = FakeHost({"WP01": ()}, legacy=True)
    with anyio.fail_after(STORY_LIMIT_S):
        workspace = await here.start("WP01")
        assert (workspace.lane_id, workspace.branch, workspace.base_ref) == (None, None, None)
        assert not await anyio.Path(workspace.path).exists()
        imitated = await fake.start_implementation(fake.mission, "WP01", ACTOR, POLICY)
        assert Path(imitated.path).name == Path(workspace.path).name.replace(here.mission, fake.mission)
        await here.host.tick_subtasks(here.mission, "WP01", ["T001"])
        await here.move("WP01", Lane.FOR_REVIEW)


@pytest.mark.real_host
async def test_the_installed_host_speaks_our_contract(
    real_host: str, host_env: dict[str, str], tmp_path: Path
) -> None:
    with anyio.fail_after(STORY_LIMIT_S):
        version = await HostClient(tmp_path, executable=real_host, env=host_env).check_contract()
    assert version.startswith("1.")
