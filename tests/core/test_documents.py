import json
from datetime import UTC, datetime

import pytest

from spec_kitty_orchestrator.core.documents import KINDS, to_document
from spec_kitty_orchestrator.core.events import Claimed, GatesPassed, HostRefused, Submitted
from spec_kitty_orchestrator.core.model import GateResult, Lane, MissionState, Rescue, Workspace
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunAborted, RunEnded, RunStarted, Waiting

AT = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
MISSION = MissionState("034-x", {"WP01": Lane.DONE}, {"WP01": ()})


def test_a_document_has_an_envelope_and_the_fields_of_its_kind() -> None:
    document = to_document(Entry(AT, "WP01", Submitted(), took_s=1.5, seq=7), "034-x")
    assert document == {
        "schema": 1,
        "seq": 7,
        "at": "2026-01-02T03:04:05.000600+00:00",
        "mission": "034-x",
        "wp": "WP01",
        "kind": "submitted",
        "data": {"took_s": 1.5},
    }


@pytest.mark.parametrize(
    ("line", "kind", "data"),
    [
        (RunEnded(AT, 6, "stalled", seq=2), "run_ended", {"exit_code": 6, "summary": "stalled"}),
        (RunAborted(AT, "two agents", seq=3), "run_aborted", {"summary": "two agents", "saved": []}),
    ],
)
def test_the_end_of_a_run_is_a_kind_too(line: Line, kind: str, data: dict[str, object]) -> None:
    document = to_document(line, "034-x")
    assert (document["seq"], document["wp"]) == (line.seq, None)
    assert (document["kind"], document["data"]) == (kind, data)


def test_a_start_says_with_what_the_run_began() -> None:
    line = RunStarted(AT, MISSION, "me", Policy(("ada",), ("rob",)), "1.0", {"max_cost": 2}, number=3, seq=9)
    data = to_document(line, "034-x")["data"]
    assert isinstance(data, dict)
    assert (data["number"], data["actor"], data["settings"]) == (3, "me", {"max_cost": 2})
    assert (data["mission"]["lanes"], data["policy"]["impl_agents"]) == ({"WP01": "done"}, ["ada"])
    assert not {"seq", "at", "line"} & set(data)


def test_what_happens_to_the_whole_run_has_no_work_package() -> None:
    assert to_document(Entry(AT, "", Waiting({"WP01": "a slot"})), "034-x")["wp"] is None


def test_paths_in_the_repository_are_relative_to_it_and_others_stay() -> None:
    place = Workspace("/repo/.worktrees/a", "/repo/kitty-specs/x/tasks/WP01.md")
    claimed = to_document(Entry(AT, "WP01", Claimed(place, "sha")), "x", "/repo")["data"]
    assert isinstance(claimed, dict)
    assert claimed["workspace"]["path"] == ".worktrees/a"
    assert claimed["workspace"]["prompt_path"] == "kitty-specs/x/tasks/WP01.md"
    gate = GateResult("lint", ("make", "/repo/x"), "sha", ok=True, log="/repository/log")
    moved = Rescue(aside=("/repo", "/repo/.kittify/a", "/tmp/b"))
    passed = to_document(Entry(AT, "WP01", GatesPassed((gate,), moved)), "x", "/repo")["data"]
    assert isinstance(passed, dict)
    assert passed["results"][0]["log"] == "/repository/log"
    assert passed["results"][0]["command"] == ["make", "/repo/x"]
    assert passed["rescued"]["aside"] == [".", ".kittify/a", "/tmp/b"]


def test_nothing_in_a_document_acts_on_whoever_shows_it() -> None:
    said = "\x1b]0;title\x07one\x1b[2J\r\ntwo\u202e\ud800"
    document = to_document(Entry(AT, "WP01", HostRefused("x", "X", said, Lane.PLANNED)), "x")
    assert document["data"] == {
        "call": "x",
        "code": "X",
        "message": "one\ntwo\ufffd",
        "lane": "planned",
        "claimed_by": "",
        "unmet": [],
        "took_s": 0.0,
    }


def test_a_document_is_what_json_makes_of_it() -> None:
    line = RunStarted(AT, MISSION, "me", Policy(("ada",), ("rob",)), "1.0", tips={"a": "b"})
    document = to_document(line, "034-x")
    assert json.loads(json.dumps(document)) == document


def test_each_kind_has_a_name_of_its_own_that_says_what_it_is() -> None:
    assert len(KINDS) == 56
    assert all(one.__doc__ for one in KINDS.values())
