"""Plug-ins: what other distributions offer under the entry points of a group."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["distribution", "load", "offers", "why"]


def offers(group: str) -> "tuple[EntryPoint, ...]":
    """Return the entry points of a group, by name; none is loaded."""
    # Loaded only when a plug-in may matter: every command loads the agents.
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda one: (one.name, one.value)))


def distribution(offer: "EntryPoint") -> str:
    """Return the name and the version of the distribution that makes an offer."""
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else "(unknown)"


def load(offer: "EntryPoint") -> Any:
    """Load what is offered; of a class, an instance. It runs code of others, which may raise anything."""
    found = offer.load()
    return found() if isinstance(found, type) else found


def why(error: BaseException) -> str:
    """Say in one line what an exception of a plug-in was."""
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
