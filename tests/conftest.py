"""Fixtures about the real host, shared by every folder; missions are made once and copied for each test."""

import os
import shutil
import site
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import structlog  # noqa: F401 - a run loads it with its log file, before anything else happens
from blockbuster import blockbuster_ctx
from filelock import FileLock
from tests.quick_host import serving

from spec_kitty_orchestrator.testing.missions import (
    MissionSpec,
    add_mission,
    make_project,
    restore_mission,
    snapshot_mission,
)

# Tests name programs in the settings of repositories that they have made themselves.
os.environ["SKO_TRUST_SETTINGS"] = "1"


def skip_unless_here(failure: str) -> None:
    """Skip a test that needs what does not work or is not there; where CI is set, that is a failure."""
    if failure:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(failure)


@dataclass(frozen=True)
class RealMission:
    """A mission of a test's own: its repository and its slug."""

    root: Path
    slug: str


@pytest.fixture(scope="session")
def real_host() -> str:
    """The host's executable: SKO_TEST_HOST, or the one beside this Python, or the one on PATH."""
    named = os.environ.get("SKO_TEST_HOST")
    beside = str(Path(sys.executable).parent / "spec-kitty")
    for candidate in (named,) if named else (beside, "spec-kitty"):
        found = shutil.which(candidate)
        if found:
            return str(Path(found).absolute())
    pytest.skip(f"no host: {named or 'spec-kitty is neither beside Python nor on PATH'}; set SKO_TEST_HOST")


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def host_env(real_host: str, shared_tmp: Path) -> dict[str, str]:
    """The environment of calls to the real host: quiet, and with homes of its own.

    A host that is new to SPEC_KITTY_HOME also writes commands and skills for a dozen agents below HOME.
    """
    (shared_tmp / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "PATH": os.pathsep.join((str(Path(real_host).parent), os.environ.get("PATH", os.defpath))),
        "HOME": str(shared_tmp / "home"),
        "PYTHONUSERBASE": site.getuserbase(),
        "SPEC_KITTY_HOME": str(shared_tmp / "host-home"),
        "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
        "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
    }


@pytest.fixture(scope="session")
def quick_host(
    real_host: str, host_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The host as a program that starts in a moment."""
    with serving(real_host, tmp_path_factory.mktemp("host"), host_env) as program:
        yield program


@pytest.fixture
def never_blocks() -> Iterator[None]:
    """Fail the test if our code blocks its event loop."""
    with blockbuster_ctx("spec_kitty_orchestrator"):
        yield


@pytest.fixture
def host(request: pytest.FixtureRequest) -> str:
    """The executable of the host that the command runs in this test."""
    anew = request.node.get_closest_marker("anew")
    return str(request.getfixturevalue("real_host" if anew else "quick_host"))


def first_on_path(program: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which this program is found before others of its name."""
    return {**env, "PATH": os.pathsep.join((str(Path(program).parent), env["PATH"]))}


def once(folder: Path, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """Return the repository of this name and what `make` said of it; the first worker to ask has it made."""
    prepared, ready = folder / name, folder / f"{name}.ready"
    with FileLock(folder / f"{name}.lock"):
        if not ready.exists():
            making = folder / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            said = make(making)
            snapshot_mission(making, prepared)
            ready.write_text(said, encoding="utf-8")
    return prepared, ready.read_text(encoding="utf-8")


@pytest.fixture
def real_mission(
    quick_host: str, host_env: dict[str, str], shared_tmp: Path, tmp_path: Path
) -> Callable[[MissionSpec], RealMission]:
    """Return a function that gives the test a copy of a mission; all missions grow from one repository."""

    def empty(directory: Path) -> str:
        make_project(directory, quick_host, host_env)
        return ""

    def copy(spec: MissionSpec) -> RealMission:
        def planned(directory: Path) -> str:
            restore_mission(once(shared_tmp, "project", empty)[0], directory)
            return add_mission(directory, spec, quick_host, host_env)

        name = f"mission-{sha256(repr(spec).encode()).hexdigest()[:12]}"
        prepared, slug = once(shared_tmp, name, planned)
        root = tmp_path / "project"
        restore_mission(prepared, root)
        return RealMission(root, slug)

    return copy
