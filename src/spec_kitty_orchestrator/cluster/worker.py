"""A worker of the cluster as a process of this machine, which outlives its scheduler and leaves in order."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
from anyio import to_thread
from distributed import Security, Worker

from spec_kitty_orchestrator.cluster.attempt_host import AttemptHost
from spec_kitty_orchestrator.cluster.dask import HANDLER, quiet
from spec_kitty_orchestrator.cluster.obstacles import obstacle

__all__ = ["CameAndWent", "attached", "keep_working"]

DASK = version("distributed")
PYTHON = "{}.{}".format(*sys.version_info)
CONNECT_LIMIT_S = 20.0
SOON_S = 2.0
"""A scheduler and a worker that do not understand each other part sooner."""
AGAIN_S = 2.0
"""Between two tries to find the scheduler."""
CLOSE_LIMIT_S = 10.0


class CameAndWent(Exception):
    """The scheduler cannot be reached, or is gone, and the worker is not to wait for another one."""


def attached(host: AttemptHost, worker: Worker) -> None:
    """Let a worker answer coordinators, and its tasks find the host."""

    async def handle(
        method: str = "", arguments: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        # Before the answer: who has just got a slot is in that.
        free = dict(worker.state.available_resources)
        told = await host.handle(method, arguments or {})
        return {**told, "dask": DASK, "python": PYTHON, "free": free} if method == "look" else told

    worker.handlers[HANDLER] = handle
    host.ring = partial(worker.log_event, HANDLER)
    # Not the host itself: what has a `close` is closed with the worker, and agents outlive that.
    worker.extensions[HANDLER] = host.hold


async def keep_working(
    host: AttemptHost,
    address: str,
    *,
    resources: Mapping[str, int],
    tls: Security | None,
    bind: str | None,
    name: str | None,
    once: bool,
    say: Callable[[str], None],
) -> None:
    """Be a worker of the scheduler at this address until cancelled; of the next one there if it goes away.

    Agents go on while there is no scheduler. Raises `CameAndWent` if this is to happen only `once`.
    """
    quiet()
    told = ""
    while True:
        # Asked first: a worker of `distributed` tries for long, and then does not say why.
        why = await to_thread.run_sync(obstacle, address, tls)
        reason = f"the scheduler at {address} cannot be reached: {why}"
        if not why:
            try:
                async with _worker(host, address, resources, tls, bind, name) as worker:
                    slots = ", ".join(f"{agent}={most}" for agent, most in resources.items())
                    say(f"worker of {address} as {worker.address}, with {slots}")
                    told, since = "", anyio.current_time()
                    await worker.finished()
                reason = f"the scheduler at {address} is gone"
                if anyio.current_time() - since < SOON_S:
                    reason += f" at once; if it is not, has it another version of distributed than {DASK}?"
            except (OSError, RuntimeError) as error:  # the latter where it could not start
                reason += str(error)
        if once:
            raise CameAndWent(reason)
        if reason != told:
            say(f"{reason}; waiting for it")
            told = reason
        await anyio.sleep(AGAIN_S)


@asynccontextmanager
async def _worker(
    host: AttemptHost,
    address: str,
    resources: Mapping[str, int],
    tls: Security | None,
    bind: str | None,
    name: str | None,
) -> AsyncIterator[Worker]:
    with tempfile.TemporaryDirectory(prefix="sko-worker-") as scratch:
        worker = Worker(
            address,
            nthreads=max(1, sum(resources.values())),
            resources=dict(resources),
            security=tls,
            host=bind,
            name=name or host.machine,
            local_directory=scratch,
            memory_limit=0,
            dashboard=False,
            death_timeout=CONNECT_LIMIT_S,
        )
        attached(host, worker)
        try:
            await asyncio.wait_for(worker, CONNECT_LIMIT_S + 5)
            yield worker
        finally:
            with anyio.move_on_after(CLOSE_LIMIT_S, shield=True), suppress(Exception):
                await worker.close(timeout=2, nanny=False)
