"""The branches that the real host protects are those of our own rule, which no call of the host tells."""

import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.app.checks.target import ALLOW, check_target
from spec_kitty_orchestrator.app.repository import current_branch, mission_files
from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.errors import HostCrash
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.testing.missions import MissionSpec, diamond

pytestmark = [pytest.mark.anyio, pytest.mark.real_host]

POLICY = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none")
LIMIT_S = 600.0
OLDER = "010-demo"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Story:
    """One mission whose lanes are changed again and again, and whether the host should commit them."""

    def __init__(self, root: Path, slug: str, env: Mapping[str, str]) -> None:
        self.root, self.slug, self.env = root, slug, dict(env)
        self.config = root / ".kittify" / "config.yaml"
        self.settings = self.config.read_text()

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.root, check=True, env=self.env, capture_output=True)

    def write(self, file: str, **values: object) -> None:
        path = self.root / "kitty-specs" / self.slug / file
        found = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))

    def move_to(self, branch: str) -> None:
        self.git("branch", "--force", "--move", branch)
        for file in ("meta.json", "lanes.json"):
            self.write(file, target_branch=branch)

    def protects(self, text: str) -> None:
        self.config.write_text(f"{self.settings}{text}")

    async def agrees(self, host: HostClient, *, refused: bool, env: Mapping[str, str] | None = None) -> None:
        """Check that our rule says the same as the host."""
        files, here = mission_files(self.root, self.slug), current_branch(self.root)
        found = [one.id for one in check_target(files, here, env or self.env)]
        assert found == ["mission.target"] * refused
        lane = (await host.mission_state(self.slug)).lanes["WP01"]
        to = Lane.IN_PROGRESS if lane is Lane.BLOCKED else Lane.BLOCKED
        told = "PROTECTED_BRANCH_REFUSED: .*protected branch list"
        with pytest.raises(HostCrash, match=told) if refused else nullcontext():
            await host.transition(self.slug, "WP01", to, "orchestrator", policy=POLICY, note="next")


async def test_our_rule_of_protected_branches_is_the_host_s(
    real_mission: Callable[[MissionSpec], Any], quick_host: str, host_env: dict[str, str], tmp_path: Path
) -> None:
    mission = real_mission(diamond(3).on("lanes"))
    story = Story(mission.root, mission.slug, host_env)
    allowing = {**host_env, ALLOW: "yes"}
    with anyio.fail_after(LIMIT_S):
        async with HostClient(mission.root, executable=quick_host, env=host_env) as host:
            await story.agrees(host, refused=False)
            story.move_to("main")
            await story.agrees(host, refused=True)
            async with HostClient(mission.root, executable=quick_host, env=allowing) as permitted:
                await story.agrees(permitted, refused=False, env=allowing)
            story.protects("protection:\n  protected_branches: []\n")
            await story.agrees(host, refused=False)
            story.protects("protection:\n  # ours\n  protected_branches:\n  - 'main'\n  - other\n")
            await story.agrees(host, refused=True)
            story.protects("")
            story.move_to("develop")
            story.git("init", "-q", "--bare", "-b", "develop", str(tmp_path / "origin"))
            story.git("remote", "add", "origin", str(tmp_path / "origin"))
            story.git("push", "-q", "origin", "develop")
            await story.agrees(host, refused=True)
            story.git("remote", "set-head", "origin", "--auto")
            await story.agrees(host, refused=True)
            # Older missions: without a topology what is checked out counts, without an id nothing.
            story.move_to("main")
            story.write("meta.json", topology=None, flattened=None)
            await story.agrees(host, refused=True)
            story.git("switch", "-q", "--create", "feature/other")
            await story.agrees(host, refused=False)
            story.git("switch", "-q", "main")
            story.git("mv", f"kitty-specs/{story.slug}", f"kitty-specs/{OLDER}")
            story.slug = OLDER
            story.write("meta.json", slug=OLDER, mission_slug=OLDER, mission_id=None)
            story.write("lanes.json", mission_slug=OLDER)
            await story.agrees(host, refused=False)
