"""Gives an order to the run of a mission, or lets it be journaled for the next one.

Nothing of a run is loaded here: who gives an order wants an answer at once.
"""

from collections.abc import Callable
from pathlib import Path

from spec_kitty_orchestrator.app.journals import find_journal, journaled
from spec_kitty_orchestrator.core.orders import LONGEST_NOTE, Order
from spec_kitty_orchestrator.errors import OrchestratorError, RunActive, UsageError
from spec_kitty_orchestrator.machine import orders
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.machine.process import inherited_marker

__all__ = ["active_mission", "give", "refuse_agents"]


def active_mission(root: Path, named: str | None) -> str | None:
    """Return the mission whose run is active: the one that was named, or the only one; None if none is.

    Raises:
        UsageError: several are active, and none was named.
    """
    known = [find_journal(root, named) or named] if named is not None else journaled(root)
    found = [one for one in known if MissionLock(root / JOURNALS / one, one).holder() is not None]
    if len(found) > 1:
        raise UsageError(f"several runs are active, choose one with --mission: {', '.join(found)}")
    return found[0] if found else None


def refuse_agents() -> None:
    """Raise `UsageError` in a process of an attempt or a gate: those obey the run, not the reverse."""
    if marker := inherited_marker():
        raise UsageError(f"orders are for people: this comes from an attempt of a run ({marker})")


async def give(root: Path, mission: str, order: Order, say: Callable[[str], None]) -> bool:
    """Give an order to the run of a mission; `say` gets its answer.

    Returns:
        Whether a run took it; False if none is active.

    Raises:
        UsageError: the run refuses it, or it does not come from a person.
        RunActive: the run does not take it up.
        OrchestratorError: it took it up and does not answer.
    """
    refuse_agents()
    if len(getattr(order, "note", "")) > LONGEST_NOTE:
        raise UsageError(f"a note has at most {LONGEST_NOTE} characters; put more into a file and name it")
    directory = root / JOURNALS / mission
    lock = MissionLock(directory, mission)
    owner = lock.holder()
    if owner is None:
        return False
    who = f"the run of {mission} (process {owner.pid} on {owner.host})"
    try:
        answer = await orders.give(directory, order, lambda: lock.holder() is not None)
    except TimeoutError:
        text = f"{who} took the order up and has not answered yet; `status` tells whether it was carried out"
        raise OrchestratorError(text) from None
    except OSError as error:
        raise OrchestratorError(f"an order cannot be written: {error}") from error
    if answer is None:
        if lock.holder() is None:
            return False
        limit_s = orders.ANSWER_LIMIT_S
        text = (
            f"{who} did not take the order up within {limit_s:.0f} s, so it was withdrawn: nothing is changed"
        )
        raise RunActive(text)
    if answer.refused:
        raise UsageError(answer.text)
    say(answer.text)
    return True
