"""A cluster of this machine's own: a scheduler in this process, and workers as processes beside it.

They speak TLS with keys that are made for this start, since any process of this machine reaches the port.
When we die the workers end and agents go on; the workers of the next start find them.
"""

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
from anyio import to_thread
from distributed import Scheduler, Security

from spec_kitty_orchestrator.cluster.dask import DaskTransport, quiet, security
from spec_kitty_orchestrator.cluster.transport import Unreachable
from spec_kitty_orchestrator.machine.files import make_hidden_folder, make_private_folder, write_private

__all__ = ["local_cluster"]

START_LIMIT_S = 60.0
"""For all workers; each imports for one to two seconds of a core."""
STOP_LIMIT_S = 10.0


@asynccontextmanager
async def local_cluster(
    count: int, resources: Mapping[str, int], folder: Path
) -> AsyncIterator[DaskTransport]:
    """Start so many workers and connect with them. Raises `Unreachable`.

    Args:
        count: of workers.
        resources: what each of them offers.
        folder: private; each worker has its state there, which the next start needs.
    """
    quiet()
    make_hidden_folder(folder)
    with tempfile.TemporaryDirectory(prefix="sko-cluster-") as keys:
        paths = await to_thread.run_sync(_keys, Path(keys))
        tls = security(*map(str, paths))
        scheduler = Scheduler(
            protocol="tls://",
            host="127.0.0.1",
            port=0,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            security=tls,
        )
        try:
            await scheduler
            with _workers(count, scheduler.address, resources, folder, paths) as processes:
                async with DaskTransport(scheduler.address, tls).connected() as transport:
                    await _all_there(transport, processes, folder)
                    yield transport
        finally:
            with anyio.move_on_after(STOP_LIMIT_S, shield=True), suppress(Exception):
                await scheduler.close()


def _keys(folder: Path) -> tuple[Path, Path, Path]:
    made = Security.temporary()
    folder.chmod(0o700)
    texts = {"ca.pem": made.tls_ca_file, "cert.pem": made.tls_client_cert, "key.pem": made.tls_client_key}
    for name, text in texts.items():
        write_private(folder / name, str(text))
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


@contextmanager
def _workers(
    count: int, address: str, resources: Mapping[str, int], folder: Path, keys: Sequence[Path]
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    offered = ",".join(f"{agent}={most}" for agent, most in resources.items())
    processes = []
    try:
        for number in range(1, count + 1):
            home = folder / f"worker-{number}"
            make_private_folder(home)
            argv = [sys.executable, "-m", "spec_kitty_orchestrator", "worker", address, "--once"]
            argv += ["--resources", offered, "--state-folder", str(home), "--name", f"worker-{number}"]
            argv += ["--tls-ca", str(keys[0]), "--tls-cert", str(keys[1]), "--tls-key", str(keys[2])]
            with (home / "worker.log").open("wb") as log:
                # In a session of its own: a signal of the terminal's is for us, and we tell it.
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)
            if process.poll() is None:
                process.kill()
                process.wait()


async def _all_there(
    transport: DaskTransport, processes: Sequence["subprocess.Popen[bytes]"], folder: Path
) -> None:
    with anyio.move_on_after(START_LIMIT_S):
        while len(await transport.workers()) < len(processes):
            for number, process in enumerate(processes, start=1):
                if process.poll() is not None:
                    log = folder / f"worker-{number}" / "worker.log"
                    raise Unreachable(f"worker {number} of this machine has ended: {log} says why")
            await anyio.sleep(0.1)
        return
    raise Unreachable(f"the workers of this machine did not start within {START_LIMIT_S:.0f} s: see {folder}")
