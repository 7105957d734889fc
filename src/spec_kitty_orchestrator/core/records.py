"""Frozen dataclasses that are made when the first one is needed, and changed at little cost.

They are those of the standard library, which takes a millisecond to make one: a command that only looks into
a run needs a few of them. A run is folded by copies: `replace` calls no constructor.
"""

import dataclasses
from collections.abc import Hashable
from dataclasses import field
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:

    def dataclass(*, frozen):
        """Turn a class into a frozen dataclass as soon as anybody uses it."""
        assert frozen

        def later(kind):
            kind.__init__ = _made_first(kind)
            for name, shared in _SHARED.items():
                setattr(kind, name, shared)
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

_TABLES = ("__dataclass_fields__", "__match_args__", "__signature__")

_making = RLock()


def _make(kind: Any) -> None:
    with _making:
        if isinstance(kind.__dict__.get("__dataclass_fields__"), _Table):
            for name in ("__init__", *_TABLES):
                delattr(kind, name)
            # What all have in common is not written anew for each, which takes most of the time.
            dataclasses.dataclass(init=False, eq=False, repr=False)(kind)
            kind.__init__ = _constructor(kind)
            kind.__signature__ = _Signature()


def _constructor(kind: Any) -> Any:
    """Return the `__init__` of a class, as a frozen dataclass has it."""
    made = [one for one in dataclasses.fields(kind) if one.init]
    names = tuple(one.name for one in made)
    fixed = {one.name: one.default for one in made if one.default is not dataclasses.MISSING}
    factories = [
        (one.name, one.default_factory) for one in made if one.default_factory is not dataclasses.MISSING
    ]

    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - it becomes one
        values = {**fixed, **dict(zip(names, args, strict=False)), **options}
        for name, factory in factories:
            if name not in values:
                values[name] = factory()
        if (
            len(values) != len(names)
            or len(args) > len(names)
            or not options.keys().isdisjoint(names[: len(args)])
        ):
            raise TypeError(
                f"{kind.__qualname__} takes {', '.join(names)}; it got {_told(names, args, options)}"
            )
        self.__dict__.update((name, values[name]) for name in names)

    __init__.__annotations__ = {**{one.name: one.type for one in made}, "return": None}
    return __init__


class _Signature:
    """What tools for developers ask of a class; nothing else needs `inspect`, which is slow to load."""

    def __get__(self, _record: object, kind: Any) -> Any:
        from inspect import Parameter, Signature

        def default(one: Any) -> Any:
            if one.default_factory is not dataclasses.MISSING:
                return one.default_factory()
            return Parameter.empty if one.default is dataclasses.MISSING else one.default

        made = [one for one in dataclasses.fields(kind) if one.init]
        how = Parameter.POSITIONAL_OR_KEYWORD
        return Signature(
            [Parameter(one.name, how, default=default(one), annotation=one.type) for one in made]
        )


def _told(names: tuple[str, ...], args: tuple[Any, ...], options: dict[str, Any]) -> str:
    more = [f"{len(args) - len(names)} too many"] if len(args) > len(names) else []
    return ", ".join([*names[: len(args)], *options, *more]) or "nothing"


def _frozen(record: Any, name: str, *_value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r} of {type(record).__name__}")


def _made_first(kind: Any) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> None:
        _make(kind)
        kind.__init__(self, *args, **options)

    return method


@cache
def _compared(kind: Hashable) -> tuple[str, ...]:
    every: Any = kind
    return tuple(one.name for one in dataclasses.fields(every) if one.compare)


def _values(record: Any) -> tuple[Any, ...]:
    own, kind = record.__dict__, record.__class__
    return tuple(own[name] for name in _compared(kind))


def _equal(record: Any, other: object) -> bool:
    return _values(record) == _values(other) if type(other) is type(record) else NotImplemented


def _hashed(record: Any) -> int:
    return hash(_values(record))


def _shown(record: Any) -> str:
    shown = (f"{one.name}={record.__dict__[one.name]!r}" for one in dataclasses.fields(record) if one.repr)
    return f"{type(record).__qualname__}({', '.join(shown)})"


_SHARED = {
    "__eq__": _equal,
    "__hash__": _hashed,
    "__repr__": _shown,
    "__setattr__": _frozen,
    "__delattr__": _frozen,
}


class _Table:
    """An attribute of a class that is not made yet."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind = kind
        self._name = name

    def __get__(self, _record: object, _kind: Any) -> Any:
        _make(self._kind)
        return getattr(self._kind, self._name)
