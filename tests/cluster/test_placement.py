"""Where an attempt runs, as people are told."""

from pathlib import Path

from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED, place_of
from spec_kitty_orchestrator.cluster.records import Placed, write
from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot


def test_an_attempt_of_this_machine_has_no_place_worth_telling(tmp_path: Path) -> None:
    assert place_of(tmp_path) == ""


def test_an_attempt_waits_for_a_worker_until_it_is_placed(tmp_path: Path) -> None:
    (tmp_path / WANTED).write_text("{}")
    assert place_of(tmp_path) == "waits for a free slot of a worker"
    write(tmp_path / PLACED, Placed("one", "box-1a2b", "m", "/w", Shipment("p", "w", Snapshot("a", "a"))))
    assert place_of(tmp_path) == "on box-1a2b"


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / PLACED).write_text('["torn')
    assert place_of(tmp_path) == ""
