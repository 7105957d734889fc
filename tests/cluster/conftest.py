from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.keys import Keys
from tests.cluster.lab import Lab
from tests.cluster.travels import Home


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path)


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A scheduler and two workers; whoever kills one starts it again."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.scheduler()
        lab.worker("a")
        lab.worker("b")
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys")).make()
