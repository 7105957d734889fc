"""Real missions for the installed command; whatever a test leaves running is ended with it."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from tests.conftest import first_on_path
from tests.e2e.clis import CLIS
from tests.e2e.installing import FOLDERS, NotThere, program_of
from tests.e2e.model_api import ModelApi, model_api
from tests.e2e.projects import Gate, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec


@pytest.fixture
def project(
    real_mission: Callable[[MissionSpec], Any], host_env: Mapping[str, str], host: str
) -> Iterator[Callable[[MissionSpec], Project]]:
    """Return a function that gives the test a mission of its own."""
    made: list[Project] = []

    def copy(spec: MissionSpec) -> Project:
        mission = real_mission(spec)
        made.append(Project(mission.root, mission.slug, first_on_path(host, host_env)))
        return made[-1]

    yield copy
    for one in made:
        if (one.root / ".kittify" / "logs").is_dir():
            for stray in one.strays():
                stray.kill()
                pytest.fail(f"an agent was left running: {stray}")


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A place where agents wait."""
    made = Gate()
    yield made
    made.close()


@pytest.fixture(scope="session")
def clis(pytestconfig: pytest.Config) -> dict[str, str]:
    """The paths of the CLIs that tests use, by agent; without npm or its registry these tests are skipped."""
    cache = pytestconfig.rootpath / ".cache" / "agents"
    try:
        return {agent: program_of(CLIS[agent], cache) for agent in ("claude-code", "codex", "opencode")}
    except NotThere as reason:
        if FOLDERS in os.environ:
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture
def api() -> Iterator[ModelApi]:
    """The stand-in of the models; requests that it could not read fail the test."""
    with model_api() as served:
        yield served
    assert served.problems == []
