"""Sends the bundle of an attempt, and takes what it left: its files, compared by their sums, and its work."""

from collections.abc import Callable
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster.applying import MOST_BUNDLE_BYTES
from spec_kitty_orchestrator.cluster.attempt_folder import KEPT, PIECE_BYTES, digest_of, piece
from spec_kitty_orchestrator.cluster.records import Delivery, Placed, understood
from spec_kitty_orchestrator.cluster.rounds import Rounds
from spec_kitty_orchestrator.cluster.shipping import Shipping
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkRefused, WorkspaceError
from spec_kitty_orchestrator.machine.files import replacing

__all__ = ["fetch", "fetch_work", "send"]

_BACK = "back.bundle"


async def send(attempt_id: str, machine: str, path: Path, rounds: Rounds) -> None:
    """Bring a bundle there; one that is not here is nothing. Raises `LostMachine` and `WorkspaceError`."""
    offset = 0
    while data := await to_thread.run_sync(piece, path, offset, PIECE_BYTES):
        await rounds.ask(machine, "put", attempt_id=attempt_id, offset=offset, data=data)
        offset += len(data)


async def fetch(
    attempt: Attempt, placed: Placed, rounds: Rounds, shipping: Shipping | None, say: Callable[[str], None]
) -> AgentReport:
    """Bring files and work here; may be repeated until the machine is told to forget them.

    `shipping` is None where only files are wanted, as of a gate, which is to leave no trace.

    Returns:
        The machine's report, which fails where the work could not be brought into the workspace.

    Raises:
        LostMachine: it is silent for too long.
        WorkspaceError: what it sends is damaged, or git or the disk is broken here.
    """
    directory = Path(attempt.directory)
    wp = directory.parent.name
    delivery = await _delivery(attempt.id, placed.machine, rounds)
    for name in KEPT:
        expected = delivery.files.get(name)
        # A log that was fetched while it grew is taken anew if its machine has taken secrets out of it.
        if expected and await to_thread.run_sync(digest_of, directory / name) != expected:
            await _get(rounds, attempt.id, placed.machine, name, expected[0], directory / name)
    report = delivery.report
    if shipping is None:
        if delivery.packed.back.head != placed.shipment.sent.head and report.outcome is not Outcome.CANCELED:
            moved = f"it moved the branch to {delivery.packed.back.head}, so it is no check of a commit"
            report = replace(report, outcome=Outcome.INVALID_REQUEST, detail=moved)
        return report
    for left in delivery.packed.left:
        say(f"{wp}: stays on {placed.machine}, as git cannot carry it: {left}")
    if delivery.size > MOST_BUNDLE_BYTES:
        detail = (
            f"its work is too large to be fetched ({delivery.size:,} bytes); it stays on {placed.machine}"
        )
        return replace(report, outcome=Outcome.FAILED, detail=detail)
    bundle = await _bundle(attempt.id, placed.machine, directory, delivery, rounds)
    try:
        applied = await shipping.apply(
            attempt.id, Path(placed.workspace), placed.shipment, delivery.packed.back, bundle
        )
    except WorkRefused as error:
        # An agent may have made it so: that is its failure, and no reason to stop the run.
        kept = f"; it is kept as {bundle}" if bundle is not None else ""
        return replace(report, outcome=Outcome.FAILED, detail=f"{error}{kept}")
    if bundle is not None:
        bundle.unlink(missing_ok=True)
    if applied.found:
        say(f"{wp}: files that its work replaced are kept: `git show {applied.found}`")
    if applied.kept:
        detail = f"its work is not in the workspace but in {applied.kept}: {applied.why}"
        return replace(report, outcome=Outcome.FAILED, detail=detail)
    return report


async def fetch_work(
    attempt_id: str, machine: str, directory: Path, rounds: Rounds
) -> tuple[Delivery, Path | None]:
    """Bring the work alone here, as a file that the caller removes; None if it is what was sent.

    Raises `LostMachine`, and `WorkspaceError` also for work that is too large.
    """
    delivery = await _delivery(attempt_id, machine, rounds)
    if delivery.size > MOST_BUNDLE_BYTES:
        raise WorkspaceError(f"the work of attempt {attempt_id} on {machine} is too large to be fetched")
    return delivery, await _bundle(attempt_id, machine, directory, delivery, rounds)


async def _delivery(attempt_id: str, machine: str, rounds: Rounds) -> Delivery:
    told = await rounds.ask(machine, "pack", attempt_id=attempt_id)
    try:
        return understood(Delivery, told["delivery"])
    except (KeyError, ValueError) as error:
        raise WorkspaceError(f"{machine} answers what cannot be read: {error}") from error


async def _bundle(
    attempt_id: str, machine: str, directory: Path, delivery: Delivery, rounds: Rounds
) -> Path | None:
    if delivery.size <= 0:
        return None
    await _get(rounds, attempt_id, machine, "", delivery.size, directory / _BACK)
    return directory / _BACK


async def _get(rounds: Rounds, attempt_id: str, machine: str, name: str, size: int, path: Path) -> None:
    """Put a file of that machine in the place of ours."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with replacing(path) as file:
        offset = 0
        while offset < size:
            told = await rounds.ask(machine, "get", attempt_id=attempt_id, name=name, offset=offset)
            data = bytes(told["data"])[: size - offset]
            if not data:
                raise WorkspaceError(f"{name or 'the work'} of attempt {attempt_id} is gone from {machine}")
            await to_thread.run_sync(file.write, data)
            offset += len(data)
