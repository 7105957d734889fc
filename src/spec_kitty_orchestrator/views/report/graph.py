"""The graph of dependencies as a picture: columns by depth, with few crossings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spec_kitty_orchestrator.core.graph import behind, waves

__all__ = ["LARGE", "SMALL", "draw", "reduced"]

SWEEPS = 8
WIDEST = 1130

Needs = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Size:
    """Of the picture's parts, in pixels."""

    width: int
    height: int
    across: int
    down: int


LARGE = Size(158, 42, 54, 14)
SMALL = Size(62, 22, 40, 6)


@dataclass(frozen=True)
class Node:
    """Where a work package is drawn."""

    id: str
    x: int
    y: int


@dataclass(frozen=True)
class Drawn:
    """A picture of `width` times `height` pixels; `edges` are paths, each with whether it is on the chain."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, bool], ...]
    size: Size
    letters: int
    """How much of a title fits."""


def reduced(dependencies: Needs) -> dict[str, tuple[str, ...]]:
    """Leave out what is needed through another one anyway."""
    known = {
        one: tuple(need for need in needed if need in dependencies) for one, needed in dependencies.items()
    }
    before = {one: set(behind(known, one)) for one in known}
    return {
        one: tuple(
            need for need in needed if not any(need in before[other] for other in needed if other != need)
        )
        for one, needed in known.items()
    }


def draw(dependencies: Needs, chain: Sequence[str], size: Size) -> Drawn:
    """Place the work packages of a mission; an edge that passes a column has a place there."""
    needed = reduced(dependencies)
    depth = {one: place for place, wave in enumerate(waves(needed)) for one in wave}
    depth |= {one: 0 for one in needed if one not in depth}
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for one, place in depth.items():
        columns[place].append(one)
    ways: list[tuple[str, str, list[str]]] = []
    for one, needs in needed.items():
        for need in needs:
            between = range(depth[need] + 1, depth[one])
            passed = [f"{need}>{one}@{place}" for place in between]
            for place, name in zip(between, passed, strict=True):
                columns[place].append(name)
            ways.append((need, one, passed))
    _order(columns, ways)
    return _placed(columns, ways, chain, size, needed)


def _order(columns: list[list[str]], ways: Sequence[tuple[str, str, list[str]]]) -> None:
    """Sort each column by the middle of what its members are tied to, from left to right and back."""
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for begin, end, passed in ways:
        steps = [begin, *passed, end]
        for one, other in pairwise(steps):
            left.setdefault(other, []).append(one)
            right.setdefault(one, []).append(other)
    for sweep in range(SWEEPS):
        tied = right if sweep % 2 else left
        for column in reversed(columns) if sweep % 2 else columns:
            place = {one: at for each in columns for at, one in enumerate(each)}
            middle = {
                one: sum(place[other] for other in tied[one]) / len(tied[one])
                if tied.get(one)
                else place[one]
                for one in column
            }
            column.sort(key=lambda one: (middle[one], place[one]))


def _fitted(size: Size, columns: int) -> Size:
    """Make it narrower, within bounds, so that it fits a page."""
    if columns * (size.width + size.across) <= WIDEST or size == SMALL:
        return size
    across = max(28, min(size.across, (WIDEST - columns * size.width) // columns))
    return replace(size, width=max(112, min(size.width, WIDEST // columns - across)), across=across)


def _placed(
    columns: Sequence[Sequence[str]],
    ways: Sequence[tuple[str, str, list[str]]],
    chain: Sequence[str],
    size: Size,
    known: Needs,
) -> Drawn:
    tall = max(map(len, columns), default=0)
    size = _fitted(size, len(columns))
    where: dict[str, tuple[int, int]] = {}
    for place, column in enumerate(columns):
        top = (tall - len(column)) * (size.height + size.down) // 2
        for at, one in enumerate(column):
            where[one] = (place * (size.width + size.across) + 2, top + at * (size.height + size.down) + 2)
    half, on_chain = size.height // 2, set(pairwise(chain))
    edges = []
    for begin, end, passed in ways:
        x, y = where[begin][0] + size.width, where[begin][1] + half
        path = f"M{x} {y}"
        for one in (*passed, end):
            to_x, to_y = where[one][0], where[one][1] + half
            bend = size.across // 2
            path += f"C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
            x, y = to_x, to_y
            if one != end:
                path += f"H{x + size.width}"
                x += size.width
        edges.append((path, (begin, end) in on_chain))
    nodes = tuple(Node(one, *where[one]) for one in known)
    width = len(columns) * (size.width + size.across) - size.across + 4
    return Drawn(
        width, tall * (size.height + size.down) - size.down + 4, nodes, tuple(edges), size, size.width // 7
    )
