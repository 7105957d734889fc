"""The cluster as `distributed` gives it: one client, bounded calls, and tasks that hold slots."""

import logging
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import cloudpickle  # type: ignore[import-untyped]
from anyio import to_thread
from distributed import Client, Future, Security
from distributed.versions import VersionMismatchWarning

from spec_kitty_orchestrator.cluster import hold
from spec_kitty_orchestrator.cluster.obstacles import obstacle
from spec_kitty_orchestrator.cluster.transport import Seat, Silent, Unreachable
from spec_kitty_orchestrator.log import LOGGER_NAME, get_logger

__all__ = ["HANDLER", "DaskTransport", "quiet", "security"]

HANDLER = "spec-kitty-orchestrator"
"""The name under which workers know our `AttemptHost`, and of the topic on which they tell of attempts."""

CONNECT_LIMIT_S = 10.0
SCHEDULER_LIMIT_S = 10.0
"""For what the scheduler answers itself."""
CLOSE_LIMIT_S = 5.0

_LOUD = ("distributed", "tornado", "bokeh")
"""Loggers that have handlers as soon as `distributed` is imported; those below them can have their own."""

Answer = TypeVar("Answer")


def security(ca: str, certificate: str, key: str) -> Security | None:
    """Return what TLS needs, None without it; each is a path, or the text of a PEM file."""
    if not ca:
        return None
    mine = {
        f"tls_{role}_{kind}": value
        for role in ("client", "worker", "scheduler")
        for kind, value in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=ca, require_encryption=True, **mine)


def quiet() -> None:
    """Let `distributed` and what it rests on write nothing to the terminal: warnings go to our log."""
    for name in list(logging.Logger.manager.loggerDict):
        if name.partition(".")[0] in _LOUD:
            logger = logging.getLogger(name)
            # Without any handler up to the root, Python itself would write to the terminal.
            logger.handlers, logger.propagate = [], True
    for name in _LOUD:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_ToOurLog(logging.WARNING)], False
    # A start says itself which versions differ, in a line for each worker.
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)


class _ToOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        ours = logging.getLogger(LOGGER_NAME)
        if ours.handlers:
            said = record.getMessage() or str(record.exc_info and record.exc_info[1])
            get_logger().info(record.name, level=record.levelname, said=said[:2000])


class DaskTransport:
    """The `Transport` over a client of `distributed`; a client that gave up is replaced.

    Args:
        address: of the scheduler.
        tls: None for plain connections.
    """

    def __init__(self, address: str, tls: Security | None) -> None:
        self._address = address
        self._tls = tls
        self._client: Client | None = None
        self._futures: dict[str, Future[Any]] = {}
        self._places: dict[str, str] = {}
        self._tries: dict[str, int] = {}
        self._turns: dict[str, anyio.Lock] = {}
        self._connecting = anyio.Lock()
        self._rung: Callable[[str], None] = lambda _: None
        cloudpickle.register_pickle_by_value(hold)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["DaskTransport"]:
        """Be connected while the context lasts. Raises `Unreachable`."""
        # Asked first: a client of `distributed` tries for long, and then does not say why.
        if reason := await _why_not(self._address, self._tls):
            raise Unreachable(f"{self._address}: {reason}")
        try:
            await self._connect()
            yield self
        finally:
            await self._close()

    async def _connect(self) -> Client:
        quiet()
        client = Client(
            self._address,
            asynchronous=True,
            security=self._tls,
            timeout=CONNECT_LIMIT_S,
            set_as_default=False,
            name="spec-kitty-orchestrator",
        )
        try:
            with anyio.fail_after(CONNECT_LIMIT_S + 1):
                await client
        except BaseException as error:
            await _end(client)
            if not isinstance(error, Exception):
                raise
            reason = await _why_not(self._address, self._tls)
            raise Unreachable(
                f"{self._address}: {reason}" if reason else _told(self._address, error)
            ) from error
        client.subscribe_topic(HANDLER, lambda event: self._rung(event[1]))
        self._client = client
        return client

    async def _close(self) -> None:
        client, self._client = self._client, None
        self._futures.clear()
        if client is not None:
            await _end(client)

    async def _connected(self) -> Client:
        """Return a client that is connected now. Raises `Unreachable`."""
        async with self._connecting:
            if self._client is None or self._client.status != "running":
                # One that lost its scheduler hangs for half a minute in whatever is asked, then is of no use.
                await self._close()
                return await self._connect()
            return self._client

    async def _bounded(self, call: Awaitable[Answer], limit_s: float) -> Answer:
        try:
            with anyio.fail_after(limit_s):
                return await call
        except Exception as error:  # `distributed` raises whatever the other side raised
            raise Unreachable(_told(self._address, error)) from error

    async def workers(self) -> Sequence[Seat]:
        """Ask the scheduler who is there. Raises `Unreachable`."""
        client = await self._connected()
        scheduler: Any = client.scheduler
        told = await self._bounded(scheduler.identity(n_workers=-1), SCHEDULER_LIMIT_S)
        return [
            Seat(address, str(one.get("name", "")), dict(one.get("resources") or {}))
            for address, one in told["workers"].items()
        ]

    async def call(self, address: str, method: str, limit_s: float, **arguments: Any) -> Mapping[str, Any]:
        """Ask the `AttemptHost` of a worker. Raises `Silent`, or `Unreachable`."""
        client = await self._connected()
        message = {"op": HANDLER, "method": method, "arguments": arguments}
        try:
            with anyio.fail_after(limit_s):
                scheduler: Any = client.scheduler
                told = await scheduler.broadcast(msg=message, workers=[address])
            found = told[address]
        except Exception as error:  # `distributed` raises whatever the other side raised
            raise Silent(_told(address, error)) from error
        if not isinstance(found, dict):
            raise Silent(f"{address}: it answered {found!r:.200}")
        return found

    async def hold(self, attempt_id: str, agent: str, address: str = "", *, free: bool = False) -> None:
        """See to it that a task holds, or waits for, a slot. Raises `Unreachable`."""
        # What is published after it was let go is there for ever.
        async with self._turns.setdefault(attempt_id, anyio.Lock()):
            await self._hold(attempt_id, agent, address, free=free)

    async def _hold(self, attempt_id: str, agent: str, address: str, *, free: bool) -> None:
        client = await self._connected()
        future = self._futures.get(attempt_id)
        there = self._places.get(attempt_id) == address and not free
        if there and future is not None and future.client is client and future.status == "pending":
            return
        if future is not None:
            await self._release(attempt_id)
            # A key whose task has ended is not computed again.
            self._tries[attempt_id] = self._tries.get(attempt_id, 0) + 1
        tries = self._tries.get(attempt_id, 0)
        key = _name(attempt_id) + (f"-{tries}" if tries else "")
        future = client.submit(
            hold.hold,
            attempt_id,
            key,
            key=key,
            pure=False,
            resources={agent: 1},
            workers=[address] if address else None,
            # In a worker, what comes first and finds no slot holds up all others, whatever they want.
            priority=int(time.time()) if free else 0,
        )
        self._futures[attempt_id], self._places[attempt_id] = future, address
        with suppress(Unreachable):
            # So the slot stays ours when we die; that it is there already is as good.
            # Under one name, whatever the key, so that the next start lets it go.
            name = _name(attempt_id)
            await self._bounded(client.publish_dataset(future, name=name), SCHEDULER_LIMIT_S)

    def listen(self, rung: Callable[[str], None]) -> None:
        """Have this called with the id of an attempt that has a slot, or has ended."""
        self._rung = rung

    async def release(self, attempt_id: str) -> None:
        """Let the task of an attempt go."""
        async with self._turns.setdefault(attempt_id, anyio.Lock()):
            await self._release(attempt_id)

    async def _release(self, attempt_id: str) -> None:
        future = self._futures.pop(attempt_id, None)
        with suppress(Unreachable):
            client = await self._connected()
            await self._bounded(client.unpublish_dataset(_name(attempt_id)), SCHEDULER_LIMIT_S)
            if future is not None and future.client is client:
                await self._bounded(client.cancel([future], force=True), SCHEDULER_LIMIT_S)


def _name(attempt_id: str) -> str:
    return f"{HANDLER}-{attempt_id}"


async def _end(client: Client) -> None:
    """Close a client, also in a task that is canceled."""
    with anyio.move_on_after(CLOSE_LIMIT_S, shield=True), suppress(Exception):
        await client.close()
    # Else it closes itself when it is collected, where nothing can be awaited, and says so on the terminal.
    client.status = "closed"


async def _why_not(address: str, tls: Security | None) -> str:
    return await to_thread.run_sync(obstacle, address, tls, abandon_on_cancel=True)


def _told(where: str, error: Exception) -> str:
    said = str(error).splitlines()
    return f"{where}: {said[0] if said else type(error).__name__}"[:300]
