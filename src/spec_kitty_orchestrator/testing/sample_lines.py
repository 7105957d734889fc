"""One line of a journal, and one order, of each kind that there is, with every field filled."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from spec_kitty_orchestrator.core.documents import KINDS, PATHS
from spec_kitty_orchestrator.core.orders import Order
from spec_kitty_orchestrator.core.run_events import Entry, Line

__all__ = ["example_lines", "example_orders"]

_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
_PLAIN: Final[Mapping[Any, object]] = {
    str: "words",
    int: 3,
    bool: True,
    float: 1.5,
    datetime: _MOMENT,
    object: ["any", {"thing": None}],
}
_PATH = "/elsewhere/one"


def example_lines() -> tuple[Line, ...]:
    """Return a line of each kind: starts and ends of runs, and an `Entry` for every event."""
    made = [_example(kind) for kind in KINDS.values()]
    lines = Line.__args__
    return tuple(one if isinstance(one, lines) else Entry(_MOMENT, "WP01", one, took_s=1.5) for one in made)


def example_orders() -> tuple[Order, ...]:
    """Return an order of each kind."""
    return tuple(_example(kind) for kind in Order.__args__)


def _example(kind: Any) -> Any:
    """Return a value of this type, as full as it can be."""
    parts = get_args(kind)
    match get_origin(kind) or kind:
        case one if one in _PLAIN:
            return _PLAIN[one]
        case one if one is Literal:
            return parts[-1]
        case one if one is Union or one is UnionType:
            return _example(next(one for one in parts if one is not NoneType))
        case one if one is tuple:
            return tuple(_example(one) for one in parts if one is not Ellipsis)
        case one if isinstance(one, type) and issubclass(one, Enum):
            return list(one)[-1]
        case one if isinstance(one, type) and issubclass(one, Mapping):
            return {_example(parts[0]): _example(parts[1])}
        case one if is_dataclass(one):
            return _record(one)
    raise TypeError(f"nothing is known of values of {kind}")


def _record(kind: Any) -> Any:
    hints = get_type_hints(kind)
    return kind(**{one.name: _field(one.name, hints[one.name]) for one in fields(kind) if one.init})


def _field(name: str, kind: Any) -> object:
    if name in PATHS:
        return (_PATH,) if get_origin(kind) is tuple else _PATH
    return _example(kind)
