"""Records: frozen dataclasses of the standard library, made when the first one is needed."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from functools import cached_property

import pytest

from spec_kitty_orchestrator.core.records import dataclass, field, replace


@dataclass(frozen=True)
class Point:
    """A point."""

    x: int
    y: int = 0
    names: tuple[str, ...] = field(default_factory=tuple)

    @cached_property
    def sum(self) -> int:
        return self.x + self.y


@dataclass(frozen=True)
class Named(Point):
    """A point with a name."""

    name: str = ""


def test_a_record_is_a_frozen_dataclass() -> None:
    point = Point(1, names=("a",))
    assert point == Point(1, 0, ("a",)) != Point(2)
    assert hash(point) == hash(Point(1, 0, ("a",)))
    assert repr(point) == "Point(x=1, y=0, names=('a',))"
    assert dataclasses.asdict(point) == {"x": 1, "y": 0, "names": ("a",)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]


def test_a_record_can_be_taken_apart_before_one_was_ever_made() -> None:
    @dataclass(frozen=True)
    class Pair:
        left: int
        right: int

    @dataclass(frozen=True)
    class Other:
        left: int

    assert list(inspect.signature(Other).parameters) == ["left"]
    assert dataclasses.is_dataclass(Pair)
    assert [one.name for one in dataclasses.fields(Pair)] == ["left", "right"]
    match Pair(1, 2):
        case Pair(left, right):
            assert (left, right) == (1, 2)


def test_a_record_has_the_fields_of_the_one_that_it_extends() -> None:
    assert Named(1, name="a") == Named(1, 0, (), "a")


def test_a_field_that_is_not_compared_makes_no_difference() -> None:
    @dataclass(frozen=True)
    class Line:
        text: str
        number: int = field(default=0, compare=False)

    assert Line("a", 1) == Line("a", 2)
    assert hash(Line("a", 1)) == hash(Line("a", 2))
    other: object = ("a", 0)
    assert Line("a") != other


def test_a_copy_with_changes_computes_anew() -> None:
    point = Point(1, 2)
    assert point.sum == 3
    moved = replace(point, x=5)
    assert (moved.sum, moved.y, point.sum) == (7, 2, 3)
    assert moved == Point(5, 2)


def test_a_field_that_does_not_exist_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="Point has no z"):
        replace(Point(1), z=1)  # type: ignore[call-arg]


def test_a_record_that_another_process_sends_is_one_before_any_was_made_here() -> None:
    program = (
        "import pickle, sys\n"
        "mission = pickle.loads(sys.stdin.buffer.read())\n"
        "print(mission == pickle.loads(pickle.dumps(mission)), mission)\n"
    )
    from spec_kitty_orchestrator.core.model import Usage

    told = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(Usage(1, 2)), capture_output=True, check=True
    )
    assert told.stdout.decode().strip() == f"True {Usage(1, 2)}"
    assert copy.copy(Usage(1, 2)) == Usage(1, 2)
