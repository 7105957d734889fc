"""Values of JSON -> records, strictly by the types of their fields.

How a kind of record is read is worked out when the first one is met: a journal holds few of all kinds.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["Decoder", "UnknownKindError"]

Value = TypeVar("Value")
Read = Callable[[Any], Any]


class UnknownKindError(ValueError):
    """A record of a kind that is not known."""


class Decoder:
    """Makes records.

    Args:
        change: by the name of a field, what is done with each text in it that is not empty.
    """

    def __init__(self, change: Mapping[str, Callable[[str], str]] | None = None) -> None:
        self._change = change or {}
        self._known: dict[Any, Read] = {}

    def record(self, kind: type[Value], value: object) -> Value:
        """Return a value of JSON as a record of this kind.

        Raises:
            ValueError: it is none; the message names the field.
        """
        made: Value = self._reader(kind)(value)
        return made

    def _reader(self, kind: Any) -> Read:
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = self._make(kind)
        return found

    def _make(self, kind: Any) -> Read:
        parts = get_args(kind)
        match get_origin(kind) or kind:
            case one if one in _PLAIN:
                return _PLAIN[one]
            case one if one is Literal:
                return _one_of(parts)
            case one if one is Union or one is UnionType:
                return self._union(parts)
            case one if one is tuple:
                return self._tuple(parts)
            case one if isinstance(one, type) and issubclass(one, Enum):
                return one
            case one if isinstance(one, type) and issubclass(one, Mapping):
                return self._mapping(*parts)
            case one if is_dataclass(one):
                return self._fields(one)
        raise TypeError(f"nothing is known of values of {kind}")

    def _union(self, parts: tuple[Any, ...]) -> Read:
        others = [one for one in parts if one is not NoneType]
        if len(others) == 1:
            read = self._reader(others[0])
            return lambda value: None if value is None else read(value)
        kinds = {one.kind: one for one in others}

        def tagged(value: object) -> object:
            kind = value.get("kind") if isinstance(value, dict) else None
            if not isinstance(kind, str):
                raise ValueError("it has no kind")  # noqa: TRY004 - like every other damage
            if kind not in kinds:
                raise UnknownKindError(kind)
            return self._reader(kinds[kind])(value)

        return tagged

    def _tuple(self, parts: tuple[Any, ...]) -> Read:
        readers = [self._reader(one) for one in parts if one is not Ellipsis]

        def read(value: object) -> tuple[object, ...]:
            if not isinstance(value, list):
                raise ValueError("it is no list")  # noqa: TRY004 - like every other damage
            if parts[-1] is Ellipsis:
                return tuple(map(readers[0], value))
            return tuple(reader(one) for reader, one in zip(readers, value, strict=True))

        return read

    def _mapping(self, keys: Any, values: Any) -> Read:
        key, item = self._reader(keys), self._reader(values)

        def read(value: object) -> dict[object, object]:
            if not isinstance(value, dict):
                raise ValueError("it is no object")  # noqa: TRY004 - like every other damage
            return {key(name): item(one) for name, one in value.items()}

        return read

    def _fields(self, kind: Any) -> Read:
        hints = get_type_hints(kind)
        readers = {one.name: self._field(one.name, hints[one.name]) for one in fields(kind)}
        needed = [
            one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING
        ]

        def read(value: object) -> object:
            if not isinstance(value, dict):
                raise ValueError("it is no object")  # noqa: TRY004 - like every other damage
            name, found = "", {}
            try:
                for name, reader in readers.items():
                    if name in value:
                        found[name] = reader(value[name])
            except UnknownKindError:
                raise
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if missing := [name for name in needed if name not in found]:
                raise ValueError(f"{missing[0]} is missing")
            return kind(**found)

        return read

    def _field(self, name: str, kind: Any) -> Read:
        read, change = self._reader(kind), self._change.get(name)
        if change is None:
            return read
        if kind == tuple[str, ...]:
            return lambda value: tuple(change(one) if one else one for one in read(value))
        return lambda value: change(read(value)) if value else read(value)


def _exactly(kind: type, words: str) -> Read:
    def read(value: object) -> object:
        if type(value) is not kind:
            raise ValueError(f"it is no {words}")
        return value

    return read


def _number(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueError("it is no number")
    return float(value)


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("it is no time")  # noqa: TRY004 - like every other damage
    return datetime.fromisoformat(value)


def _one_of(known: tuple[object, ...]) -> Read:
    def read(value: object) -> object:
        if value not in known:
            raise ValueError(f"it is none of {known}")
        return value

    return read


_PLAIN: Final[Mapping[Any, Read]] = {
    str: _exactly(str, "text"),
    int: _exactly(int, "whole number"),
    bool: _exactly(bool, "truth value"),
    float: _number,
    datetime: _time,
    object: lambda value: value,
}
