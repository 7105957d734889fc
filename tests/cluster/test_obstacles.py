"""Why a scheduler cannot be reached is told in words, not as a time-out."""

import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from anyio import fail_after, to_thread
from tests.cluster.keys import Keys

pytest.importorskip("distributed")

from distributed import Scheduler, Security

from spec_kitty_orchestrator.cluster import obstacles
from spec_kitty_orchestrator.cluster.dask import security
from spec_kitty_orchestrator.cluster.obstacles import obstacle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def scheduler(tls: Security | None) -> AsyncIterator[str]:
    protocol = "tls://" if tls else "tcp://"
    async with Scheduler(
        protocol=protocol,
        host="127.0.0.1",
        port=0,
        dashboard=False,
        dashboard_address="127.0.0.1:0",
        security=tls,
    ) as made:
        yield made.address


async def said(address: str, tls: Security | None) -> str:
    with fail_after(30):
        return await to_thread.run_sync(obstacle, address, tls)


async def test_a_scheduler_that_can_be_reached_has_none(keys: Keys) -> None:
    mine = security(*map(str, keys.mine))
    for tls in (None, mine):
        async with scheduler(tls) as address:
            assert await said(address, tls) == ""


async def test_tls_is_told_from_none(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    # A scheduler with TLS waits for as long for us to begin.
    monkeypatch.setattr(obstacles, "LIMIT_S", 1.0)
    mine = security(*map(str, keys.mine))
    async with scheduler(mine) as address:
        assert "is it tls://, or does it hang?" in await said(address.replace("tls", "tcp"), None)
    async with scheduler(None) as address:
        assert "it does not speak TLS as we do: wrong version number" in await said(
            address.replace("tcp", "tls"), mine
        )


async def test_another_authority_is_told_from_each_side(keys: Keys) -> None:
    mine, others = keys.mine, keys.others
    async with scheduler(security(*map(str, mine))) as address:
        assert "not of our authority (--tls-ca)" in await said(address, security(*map(str, others)))
        # It trusts the scheduler, which does not trust it.
        refused = security(str(mine[0]), str(others[1]), str(others[2]))
        assert "it refuses our certificate (--tls-cert)" in await said(address, refused)


async def test_that_nothing_is_there_says_what_to_look_at() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "nothing listens" in await said(f"tcp://127.0.0.1:{port}", None)
    assert "no address is known for the host nowhere.invalid" in await said("tcp://nowhere.invalid:1", None)


def test_nobody_else_reads_the_keys(keys: Keys) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.folder.glob("*/*.key")} == {0o600}
