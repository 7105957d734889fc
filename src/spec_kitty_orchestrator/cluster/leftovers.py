"""What earlier starts left on machines: forgotten there where all of it is here, else fetched and kept.

A machine that was given up may come back, with an agent that still costs money and with work that nobody has
seen. That work is kept under a ref and never put into the workspace, where another attempt has gone on.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.fetching import fetch_work
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import Placed, Wanted, read, write
from spec_kitty_orchestrator.cluster.rounds import LostMachine, Rounds
from spec_kitty_orchestrator.cluster.shipping import Shipping
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import attempt_files
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S
from spec_kitty_orchestrator.ports import AttemptRequest

__all__ = ["forget_there", "keep_clearing", "machine_of"]

LOOK_S = 5.0
"""Between two looks for machines that came back."""


def machine_of(home: Path, request: AttemptRequest) -> str:
    """Return the machine on which an agent has had the session that it is to go on with, "" if it was none.

    `home` holds the attempts of its work package.
    """
    for directory in sorted(home.glob("*"), reverse=True):
        placed, wanted = read(Placed, directory / PLACED), read(Wanted, directory / WANTED)
        if placed is None or wanted is None or wanted.request.agent != request.agent:
            continue
        report = attempt_files.read_result(directory, wanted.request.id)
        if report is not None and report.session == request.session:
            return placed.machine
    return ""


async def keep_clearing(home: Path, rounds: Rounds, shipping: Shipping, say: Callable[[str], None]) -> None:
    """Clear what attempts below the logs of a mission have left, whenever their machine is there."""
    cleared, told = set[Path](), set[str]()
    while True:
        for path in await to_thread.run_sync(lambda: sorted({*home.glob(f"*/*/{PLACED}")} - cleared)):
            # In this order: an attempt is `lost` before it has a result.
            ended = await anyio.Path(path.parent / "result.json").exists()
            placed = await to_thread.run_sync(read, Placed, path)
            if placed is not None and placed.done:
                cleared.add(path)
                continue
            if placed is None or not ended or placed.machine not in rounds.machines:
                continue
            with suppress(LostMachine, OSError):
                try:
                    wanted = await to_thread.run_sync(read, Wanted, path.with_name(WANTED))
                    # What a gate leaves in its checkout is no work.
                    if placed.lost and (wanted is None or wanted.gate is None):
                        await _keep(path.parent, placed, rounds, shipping, say)
                    await forget_there(path.parent, placed, rounds, shipping)
                except WorkspaceError as error:
                    if str(error) not in told:
                        told.add(str(error))
                        get_logger().warning(
                            "left on a machine", directory=str(path.parent), error=str(error)
                        )
        await anyio.sleep(LOOK_S)


async def _keep(
    directory: Path, placed: Placed, rounds: Rounds, shipping: Shipping, say: Callable[[str], None]
) -> None:
    wp, machine = directory.parent.name, placed.machine
    ids = {"attempts": [placed.attempt], "grace_s": STOP_GRACE_S}
    state = (await rounds.ask(machine, "stop", **ids))["states"][placed.attempt]
    if state == "running":
        raise WorkspaceError(f"attempt {placed.attempt} has not ended yet on {machine}")
    if state != "ended":
        return
    delivery, bundle = await fetch_work(placed.attempt, machine, directory, rounds)
    if delivery.packed.back != placed.shipment.sent:
        ref = await shipping.keep(placed.attempt, delivery.packed.back, bundle)
        say(f"{wp}: {machine} is back; what its lost attempt did is kept: `git show {ref}`")
    if bundle is not None:
        bundle.unlink(missing_ok=True)


async def forget_there(directory: Path, placed: Placed, rounds: Rounds, shipping: Shipping) -> None:
    """Let the machine forget an attempt of which all is here.

    Raises `LostMachine`, `WorkspaceError` and `OSError`.
    """
    await rounds.ask(placed.machine, "drop", attempt_id=placed.attempt)
    await to_thread.run_sync(write, directory / PLACED, replace(placed, done=True))
    await shipping.forget(placed.attempt)
