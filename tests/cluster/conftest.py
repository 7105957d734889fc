from pathlib import Path

import pytest
from tests.cluster.travels import Home


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path)
