"""Frozen dataclasses that are made when the first one is needed, and changed at little cost.

They are those of the standard library, which takes a millisecond to make one: a command that only looks into
a run needs a few of them. A run is folded by copies: `replace` calls no constructor.
"""

import dataclasses
from dataclasses import field
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:

    def dataclass(*, frozen):
        """Turn a class into a frozen dataclass as soon as anybody uses it."""
        assert frozen

        def later(kind):
            for name in _METHODS:
                setattr(kind, name, _made_first(kind, name))
            for name in _TABLES:
                setattr(kind, name, _Table(kind, name))
            return kind

        return later

    def replace(record, /, **changes):
        """Return a copy with changes; what it has computed of itself is not copied."""
        kind = type(record)
        names = kind.__dataclass_fields__
        values = {**record.__dict__, **changes}
        if len(values) != len(names):
            if unknown := changes.keys() - names.keys():
                raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
            values = {name: values[name] for name in names}
        copy = object.__new__(kind)
        copy.__dict__.update(values)
        return copy


__all__ = ["dataclass", "field", "replace"]

_METHODS = ("__init__", "__eq__", "__hash__", "__repr__")
_TABLES = ("__dataclass_fields__", "__match_args__", "__signature__")

_making = RLock()


def _make(kind: Any) -> None:
    with _making:
        if isinstance(kind.__dict__.get("__dataclass_fields__"), _Table):
            for name in (*_METHODS, *_TABLES):
                delattr(kind, name)
            dataclasses.dataclass(frozen=True)(kind)


def _made_first(kind: Any, name: str) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        _make(kind)
        return getattr(kind, name)(self, *args, **options)

    return method


class _Table:
    """An attribute of a class that is not made yet."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind = kind
        self._name = name

    def __get__(self, _record: object, _kind: Any) -> Any:
        _make(self._kind)
        return getattr(self._kind, self._name)
