"""How people write spans of time, amounts of memory or disk, money, and large numbers."""

import math
import re

__all__ = ["dollars", "many", "seconds", "seconds_or_none", "size", "spelled", "spelled_size"]

_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smh])+")

_UNITS_BYTES = {"b": 1} | {
    f"{prefix}{end}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for end, base in (("b", 1000), ("ib", 1024))
}
LONGEST_S = 10 * 365 * 24 * 3600.0
"""A moment that is further away may be one that no date tells."""

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*((?:[kmgt]i?)?b)?")
_LARGEST_BYTES = 2**62


def _float(value: float) -> float:
    # An integer can be too large for one.
    return float(value) if abs(value) <= _LARGEST_BYTES else math.inf


def seconds(value: object) -> float:
    """Read a duration: a number of seconds, or text such as ``90s``, ``15m`` or ``1h30m``.

    Raises:
        ValueError: if it is neither, not longer than nothing, or longer than `LONGEST_S`.
    """
    total = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = _float(value)
    elif isinstance(value, str):
        text = value.strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            total = float(text)
        elif _DURATION.fullmatch(text):
            total = sum(float(part[:-1]) * _UNITS_S[part[-1]] for part in re.findall(r"[\d.]+[smh]", text))
    if not 0 < total <= LONGEST_S:
        raise ValueError(
            f"{value!r} is not a duration; write for example 90s, 15m, 2h or a number of seconds"
        )
    return total


def spelled(span_s: float) -> str:
    """Write a span of time as `seconds` reads it: 90 as ``1m30s``; parts of a second only if it is short."""
    if span_s < 60:
        return f"{span_s:.3g}s"
    minutes, rest = divmod(round(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def seconds_or_none(value: object) -> float:
    """Read a duration like `seconds`; 0 or ``none`` is one too, and switches something off.

    Raises:
        ValueError: see `seconds`.
    """
    if value in ("0", "0s", "0m", "0h", "none") or (value == 0 and not isinstance(value, bool)):
        return 0.0
    return seconds(value)


def dollars(value: object) -> float:
    """Read an amount of US dollars: a number, or text such as ``12.50`` or ``$5``.

    Raises:
        ValueError: if it is neither, or not more than nothing.
    """
    total = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = _float(value)
    elif isinstance(value, str) and re.fullmatch(r"\$?\d{1,9}(\.\d{1,6})?", value.strip()):
        total = float(value.strip().removeprefix("$"))
    if not (math.isfinite(total) and total > 0):
        raise ValueError(f"{value!r} is not an amount of US dollars; write for example 5 or 12.50")
    return total


def many(value: object) -> int:
    """Read a large number: a whole number, or text such as ``500k`` or ``2M`` or ``1.5M``.

    Raises:
        ValueError: if it is neither, or not more than nothing.
    """
    total = 0.0
    if isinstance(value, int) and not isinstance(value, bool):
        total = _float(value)
    elif isinstance(value, str):
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)([km]?)", value.strip().lower())
        total = float(found[1]) * {"": 1, "k": 1000, "m": 1000**2}[found[2]] if found else 0.0
    if not 1 <= total <= _LARGEST_BYTES or total % 1:
        raise ValueError(f"{value!r} is not a large number; write for example 500000, 500k or 2M")
    return int(total)


def size(value: object) -> int:
    """Read an amount of memory or disk in bytes: a number of them, or text such as ``512MB`` or ``2GiB``.

    ``MB`` is a million bytes, ``MiB`` is 1024 * 1024 of them.

    Raises:
        ValueError: if it is neither, or below nothing.
    """
    total = -1
    if isinstance(value, int) and not isinstance(value, bool):
        total = value
    elif isinstance(value, str):
        found = _SIZE.fullmatch(value.strip().lower())
        if found:
            total = round(float(found[1]) * _UNITS_BYTES[found[2] or "b"])
    if not 0 <= total <= _LARGEST_BYTES:
        raise ValueError(
            f"{value!r} is not a size; write for example 512MB, 2GiB, a number of bytes, or 0 for none"
        )
    return total


def spelled_size(amount: int) -> str:
    """Write a number of bytes for people, as ``512 MB`` or ``1.5 GB``; ``size`` reads the same units."""
    for unit, factor in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if amount >= factor:
            return f"{amount / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{amount} B"
