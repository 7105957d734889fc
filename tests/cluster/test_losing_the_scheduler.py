"""What a run says, and how it ends, when the scheduler dies: our words alone, and soon."""

import os
import subprocess
import sys

import pytest
from tests.cluster.lab import LIMIT_S, Lab

pytest.importorskip("distributed")

COORDINATOR = """
import socket, sys, warnings
import anyio
from anyio import to_thread
from distributed.versions import VersionMismatchWarning
from spec_kitty_orchestrator.cluster.dask import DaskTransport

async def main(address):
    with socket.create_server(("127.0.0.1", 0)) as silent, anyio.move_on_after(0.5):
        async with DaskTransport("tcp://127.0.0.1:%d" % silent.getsockname()[1], None).connected():
            raise AssertionError("it is no scheduler")
    with anyio.CancelScope() as scope:
        transport = DaskTransport(address, None)
        async with transport.connected():
            await transport.hold("attempt", "bot")
            warnings.warn(VersionMismatchWarning("as a scheduler of another version has it shown"))
            print("connected", flush=True)
            await to_thread.run_sync(sys.stdin.readline)
            with anyio.move_on_after(0.5):
                await transport.workers()
            scope.cancel()
            await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


def test_a_run_that_is_canceled_while_the_scheduler_is_away_shows_nothing_of_distributed(lab: Lab) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", COORDINATOR, lab.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "always::RuntimeWarning"},
        text=True,
    ) as coordinator:
        assert coordinator.stdout is not None
        assert coordinator.stdout.readline() == "connected\n"
        lab.kill("scheduler")
        _, said = coordinator.communicate("killed\n", LIMIT_S)
        lab.scheduler()
    assert (coordinator.returncode, said) == (0, "")
