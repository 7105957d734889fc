"""Which addresses a run and a worker take, and which files TLS needs."""

import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.keys import Keys
from tests.cluster.lab import Lab

from spec_kitty_orchestrator.agents import names
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app import cluster as app_cluster
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks import Level
from spec_kitty_orchestrator.app.cluster import (
    check_cluster,
    look_at_cluster,
    stop_left,
    tls_files,
    unsafe,
    with_whole_paths,
)
from spec_kitty_orchestrator.app.project import Project, bare_project
from spec_kitty_orchestrator.app.trust import named_programs
from spec_kitty_orchestrator.app.worker import Wanted, work
from spec_kitty_orchestrator.cluster.placement import PLACED
from spec_kitty_orchestrator.cluster.records import Placed, write
from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot
from spec_kitty_orchestrator.cluster.transport import Seat, Silent
from spec_kitty_orchestrator.config import load, record
from spec_kitty_orchestrator.errors import PreflightError, UsageError, WorkspaceError
from spec_kitty_orchestrator.machine.logs import mission_logs
from spec_kitty_orchestrator.settings import Settings
from spec_kitty_orchestrator.settings.cluster_section import ClusterSettings
from spec_kitty_orchestrator.settings.run_section import RunSettings
from spec_kitty_orchestrator.testing import HeldAgent

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NO_FILES = {"tls_ca": "", "tls_cert": "", "tls_key": ""}


@pytest.mark.parametrize(
    "address",
    ["tls://scheduler:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1", "local:4"],
)
def test_an_address_with_tls_or_of_this_machine_is_safe(address: str) -> None:
    assert unsafe(address) == ""


@pytest.mark.parametrize(
    "address",
    ["https://example.org/a.git", "ssh://git@example.org:22/a.git", "git@example.org:a/b.git", "/srv/a.git"],
)
def test_machines_may_clone_from_an_address_without_a_secret(address: str) -> None:
    assert ClusterSettings(clone=address).clone == address


@pytest.mark.parametrize(
    "address", ["tcp://scheduler:8786", "tcp://10.0.0.1:8786", "tcp://127.0.0.1.example.org:1"]
)
def test_any_other_address_is_refused_with_what_to_do(address: str) -> None:
    assert "use tls://, or --insecure-cluster" in unsafe(address)


def test_tls_needs_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "ca").touch()
    with pytest.raises(UsageError, match="--tls-cert is missing"):
        tls_files("tls://a:1", {**NO_FILES, "tls_ca": "ca"}, tmp_path)
    with pytest.raises(UsageError, match=r"--tls-cert: there is no file .*/gone"):
        tls_files("tls://a:1", {"tls_ca": "ca", "tls_cert": "gone", "tls_key": "ca"}, tmp_path)


def test_tls_takes_files_that_go_together_only(tmp_path: Path, keys: Keys) -> None:
    ca, certificate, key = (str(path.relative_to(keys.folder)) for path in keys.mine)
    files = {"tls_ca": ca, "tls_cert": certificate, "tls_key": key}
    assert tls_files("tls://a:1", files, keys.folder) == tuple(map(str, keys.mine))
    with pytest.raises(UsageError, match="are no pair of a certificate and its key"):
        tls_files("tls://a:1", {**files, "tls_key": str(keys.others[2])}, keys.folder)
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match=r"--tls-ca: .*/empty holds no certificate of an authority"):
        tls_files("tls://a:1", {**files, "tls_ca": str(tmp_path / "empty")}, keys.folder)


def test_files_of_tls_for_an_address_without_it_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only for an address that begins with tls://"):
        tls_files("tcp://a:1", {**NO_FILES, "tls_key": "k"}, tmp_path)
    assert tls_files("tcp://a:1", NO_FILES, tmp_path) is None


def test_what_is_confined_sees_no_key_of_the_cluster(tmp_path: Path) -> None:
    project = bare_project(tmp_path, {})
    cluster = ClusterSettings(tls_ca="/ca", tls_cert="/mine", tls_key="keys/mine")
    project = replace(project, settings=project.settings.model_copy(update={"cluster": cluster}))
    assert project._sandbox.rules.hidden == ("/mine", str(tmp_path / "keys/mine"))


def test_an_executor_is_an_address_or_a_number_of_workers_of_this_machine() -> None:
    assert RunSettings(executor="dask://scheduler:8786").executor == "tcp://scheduler:8786"
    assert [RunSettings(executor=one).executor for one in ("tls://a:1", "local:2", "none")] == [
        "tls://a:1",
        "local:2",
        "",
    ]
    for wrong in ("scheduler:8786", "local:0", "local:", "http://a:1", "tcp://a", "tls://a:1 b"):
        with pytest.raises(ValueError, match="is none: write dask://HOST:8786"):
            RunSettings(executor=wrong)
    with pytest.raises(ValueError, match="is not an address"):
        ClusterSettings(clone="--upload-pack=x")


@pytest.mark.asyncio
async def test_what_the_workers_offer_is_told_as_a_start_would_find_it(tmp_path: Path, lab: Lab) -> None:
    project = bare_project(tmp_path, {})
    run = project.settings.run.model_copy(update={"executor": lab.address})
    project = replace(project, settings=project.settings.model_copy(update={"run": run}))
    bots = {name: (HeldAgent(tmp_path), AgentSettings()) for name in ("bot", "other")}
    (found,) = await look_at_cluster(replace(project, agents={"bot": bots["bot"]}), VERSION)
    assert (found.level, found.text) == (Level.OK, f"{lab.address}: 2 workers with bot=4")
    (found,) = await look_at_cluster(replace(project, agents=bots), VERSION)
    assert (found.level, found.about) == (Level.ERROR, "other")
    assert found.text == f"no worker of {lab.address} offers other; its workers offer bot=4"
    found = (await look_at_cluster(replace(project, agents={"bot": bots["bot"]}), "9.9"))[0]
    assert (found.level, found.id) == (Level.ERROR, "cluster.version")
    assert f"has version {VERSION} of this program, we have 9.9" in found.text


@dataclass
class OneWorker:
    """A cluster whose worker gives this answer, or none as one that was started with `dask worker`."""

    told: Mapping[str, Any] | None = None

    async def workers(self) -> Sequence[Seat]:
        return [Seat("tcp://a:1", "a", {"bot": 2})]

    async def call(self, address: str, method: str, limit_s: float, **arguments: Any) -> Mapping[str, Any]:
        if self.told is None:
            raise Silent(f"{address}: it answered None")
        return self.told


@pytest.mark.asyncio
async def test_a_worker_of_dask_alone_or_of_another_version_is_named(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    project = replace(bare_project(tmp_path, {}), agents={"bot": (HeldAgent(tmp_path), AgentSettings())})
    named, lacking = await check_cluster(project, OneWorker(), VERSION)  # type: ignore[arg-type]
    assert (named.level, lacking.level) == (Level.WARNING, Level.ERROR)
    assert "worker a cannot run agents" in named.text
    assert "start it with `spec-kitty-orchestrator worker`" in named.text
    other = OneWorker({"machine": "m", "version": VERSION, "dask": "2025.1.0", "python": "3.8"})
    python, dask = await check_cluster(project, other, VERSION)  # type: ignore[arg-type]
    assert (python.level, dask.level) == (Level.ERROR, Level.WARNING)
    assert "worker m has Python 3.8, we have " in python.text
    assert "worker m has version 2025.1.0 of distributed, we have " in dask.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"states": {"one": "ended"}}, "WP01: its attempt is stopped at m, and its work is there"),
        (
            {"states": {"one": "running"}},
            "WP01: its attempt may go on at m, which does not say that it ended",
        ),
        ({"error": "m: no room"}, "WP01: its attempt may go on at m, which does not say that it ended"),
    ],
)
async def test_an_attempt_is_said_to_be_stopped_only_if_its_machine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Mapping[str, Any], said: str
) -> None:
    directory = mission_logs(tmp_path, "034-demo") / "WP01" / "01-implement-bot"
    directory.mkdir(parents=True)
    shipment = Shipment("project", "place", Snapshot("a" * 40, "a" * 40))
    write(directory / PLACED, Placed("one", "m", "034-demo", "/nowhere", shipment))
    run = RunSettings(executor="tcp://127.0.0.1:1")
    project = bare_project(tmp_path, {})
    project = replace(project, settings=project.settings.model_copy(update={"run": run}))

    @asynccontextmanager
    async def reach(_: object, mission: str) -> AsyncIterator[OneWorker]:
        yield OneWorker({"machine": "m", **told})

    async def opened() -> tuple[Project, str]:
        return project, "034-demo"

    monkeypatch.setattr(app_cluster, "reach", reach)
    assert await stop_left(tmp_path, "034-demo", opened) == [said]


class JustStarted(OneWorker):
    """A cluster whose only worker comes back after its scheduler."""

    asked = 0

    async def workers(self) -> Sequence[Seat]:
        self.asked += 1
        return await super().workers() if self.asked > 2 else []


@pytest.mark.asyncio
async def test_a_start_waits_for_workers_that_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(app_cluster, "WORKERS_LOOK_S", 0.0)
    project = replace(bare_project(tmp_path, {}), agents={"bot": (HeldAgent(tmp_path), AgentSettings())})
    cluster = JustStarted({"machine": "m", "version": VERSION, "python": PYTHON})
    found = await check_cluster(project, cluster, VERSION)  # type: ignore[arg-type]
    assert found[-1].level is Level.OK


def test_workers_of_this_machine_find_a_program_of_the_repository(tmp_path: Path) -> None:
    bots = {
        name: (HeldAgent(tmp_path), AgentSettings(executable=name)) for name in ("bin/a", "~/a", "a", "/a")
    }
    found = with_whole_paths(replace(bare_project(tmp_path, {}), agents=bots))
    assert [settings.executable for _, settings in found.values()] == [f"{tmp_path}/bin/a", "~/a", "a", "/a"]


def test_a_run_that_goes_on_reaches_its_cluster_as_it_did(tmp_path: Path) -> None:
    def read(recorded: Mapping[str, object] | None = None, **given: str) -> Settings:
        return load(tmp_path, {}, given, names(), recorded)

    settings = read(
        executor="tls://a:1", cluster_tls_ca="ca", cluster_tls_key="~/key", cluster_lost_after="5m"
    )
    recorded = record(settings, ())
    assert read(recorded) == settings
    assert read(recorded, cluster_tls_ca="new").cluster.tls_ca == "new"
    assert "the run's own cluster_tls_key ~/key" in named_programs(tmp_path, recorded).programs
    at_home = record(read(cluster_tls_ca="ca"), ())
    assert not [one for one in at_home if "cluster" in one]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"address": "tcp://10.0.0.1:8786"}, "neither TLS nor this machine"),
        ({"address": "scheduler"}, "is no address of a scheduler"),
        ({"resources": "codex"}, "is not AGENT=N"),
        ({"resources": "codex=0"}, "is not AGENT=N"),
    ],
)
async def test_a_worker_that_cannot_start_says_why(changes: dict[str, str], said: str) -> None:
    pytest.importorskip("distributed")
    given: dict[str, object] = {"address": "tcp://127.0.0.1:1", "resources": "bot=1", **changes}
    rest = {
        "slots": 4,
        "folder": None,
        "bind": None,
        "name": None,
        "tls": NO_FILES,
        "insecure": False,
        "once": True,
    }
    with pytest.raises((PreflightError, UsageError), match=said):
        await work(Wanted(**given, **rest), print)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_worker_says_which_agents_it_offers_without_having_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    said: list[str] = []
    (tmp_path / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = Wanted("tcp://127.0.0.1:1", "codex=1", 4, tmp_path / "state", None, None, NO_FILES, False, True)
    assert await work(wanted, said.append) == 1
    assert said[0].startswith("warning: agent codex is not installed: codex is not on PATH")
    assert "nothing listens at port 1 of 127.0.0.1" in said[1]
    (tmp_path / "git").unlink()
    with pytest.raises(WorkspaceError, match="git is not installed"):
        await work(wanted, said.append)


def test_with_a_cluster_worktrees_here_are_set_up_for_commit_hooks_alone(tmp_path: Path) -> None:
    project, setup = bare_project(tmp_path, {}), (("npm", "ci"),)
    for executor, hooks, here in (("", False, 1), ("local:2", True, 1), ("local:2", False, 0)):
        given = {"setup": setup, "executor": executor, "commit_hooks": hooks}
        run = project.settings.run.model_copy(update=given)
        wanted = replace(project, settings=project.settings.model_copy(update={"run": run}))
        assert (len(wanted.setup), len(wanted.policy.setup)) == (1, here)
