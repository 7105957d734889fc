"""What the real host printed is understood; whatever else is printed is a clear error."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.errors import (
    HostCrash,
    HostError,
    HostIncompatible,
    HostRefusal,
    ProjectIncompatible,
)
from spec_kitty_orchestrator.host import wire
from spec_kitty_orchestrator.machine.child import Reply

DATA = Path(__file__).parent / "data"


def printed(text: str | bytes, rc: int = 0, stderr: bytes = b"") -> Reply:
    return Reply(rc, text if isinstance(text, bytes) else text.encode(), stderr)


def envelope(data: object, *, success: bool = True, code: str | None = None) -> str:
    return json.dumps({"contract_version": "1.5.0", "success": success, "error_code": code, "data": data})


def samples() -> Iterator[tuple[str, int, str]]:
    for line in (DATA / "envelopes.jsonl").read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        yield sample["call"], sample["rc"], sample["line"]


def sample(call: str, *needles: str) -> dict[str, object]:
    return next(
        dict(json.loads(line)["data"])
        for name, _, line in samples()
        if name == call and all(needle in line for needle in needles)
    )


@pytest.mark.parametrize(("call", "rc", "line"), list(samples()))
def test_every_envelope_of_the_real_host_is_a_success_or_a_refusal(call: str, rc: int, line: str) -> None:
    if rc == 0:
        data, before = wire.read_envelope(call, printed(line + "\n"))
        assert data
        assert before == ()
    else:
        with pytest.raises(HostRefusal) as refused:
            wire.read_envelope(call, printed(line + "\n", rc))
        assert refused.value.code.isupper()
        assert refused.value.message == json.loads(line)["data"]["message"] or refused.value.code == (
            "USAGE_ERROR"
        )


def test_the_lanes_and_dependencies_of_the_real_host_are_read() -> None:
    state = wire.read_mission_state(sample("mission-state", '"planned": 4'))
    assert state.lanes == dict.fromkeys(("WP01", "WP02", "WP03", "WP04"), Lane.PLANNED)
    assert state.dependencies["WP04"] == ("WP02", "WP03")


def test_a_mission_without_finalized_tasks_is_refused_with_the_command_that_mends_it() -> None:
    with pytest.raises(HostRefusal, match="spec-kitty agent mission finalize-tasks --mission") as refused:
        wire.read_mission_state(sample("mission-state", '"summary": {"planned": 0', '"wp_id"'))
    assert refused.value.code == wire.TASKS_NOT_FINALIZED


def test_a_mission_without_work_packages_is_read_as_such() -> None:
    assert wire.read_mission_state(sample("mission-state", '"work_packages": []')).lanes == {}


def test_an_unknown_lane_names_the_work_package_and_the_lane() -> None:
    data = {"mission_slug": "m", "work_packages": [{"wp_id": "WP01", "lane": "limbo"}]}
    with pytest.raises(HostIncompatible, match=r"WP01 is in the unknown lane 'limbo'.*upgrade"):
        wire.read_mission_state(data)


def test_lane_fields_are_read_and_may_be_missing() -> None:
    full = wire.read_data("resolve-workspace", sample("resolve-workspace", "lane_id"), wire.WorkspaceData)
    assert full.workspace().lane_id == "lane-a"
    bare = wire.read_data("resolve-workspace", sample("resolve-workspace", '-WP01"'), wire.WorkspaceData)
    assert bare.workspace().lane_id is None
    assert bare.workspace().key == bare.workspace_path


def test_a_missing_field_names_call_field_and_what_to_do() -> None:
    with pytest.raises(HostIncompatible, match=r"resolve-workspace.*workspace_path.*upgrade"):
        wire.read_data("resolve-workspace", {"prompt_path": "/p"}, wire.WorkspaceData)


def test_lines_before_the_envelope_are_kept() -> None:
    reply = printed("WARNING: no branch\n\n  Merging lane-a \n" + envelope({"merged": True}) + "\n")
    data, before = wire.read_envelope("merge-mission", reply)
    assert data == {"merged": True}
    assert before == ("WARNING: no branch", "  Merging lane-a")


def test_a_refusal_without_a_message_shows_its_data() -> None:
    reply = printed(envelope({"reason": "x"}, success=False, code="ODD"), 1)
    with pytest.raises(HostRefusal, match=r"ODD: the host gave no reason: \{\"reason\": \"x\"\}"):
        wire.read_envelope("transition", reply)


def test_a_refusal_without_a_code_is_still_a_refusal() -> None:
    with pytest.raises(HostRefusal, match="UNKNOWN_ERROR"):
        wire.read_envelope("transition", printed(envelope({}, success=False), 1))


def test_a_usage_error_says_to_upgrade_both() -> None:
    reply = printed(envelope({"message": "No such option"}, success=False, code="USAGE_ERROR"), 2)
    with pytest.raises(HostRefusal, match=r"No such option.*upgrade spec-kitty and spec-kitty-orchestrator"):
        wire.read_envelope("transition", reply)


def test_an_empty_stdout_is_a_crash_with_the_end_of_stderr() -> None:
    with pytest.raises(HostCrash, match=r"exit code 1(.*\n)+ValueError: Unknown lane: 'bogus'"):
        wire.read_envelope(
            "transition", printed(" \n", 1, b"Traceback\n" * 500 + b"ValueError: Unknown lane: 'bogus'\n")
        )


BOX = """\
╭───────────────────── Traceback (most recent call last) ──────────────────────╮
│ /opt/host/api.py:7 in {name}                                                 │
│ ❱ 7 │   raise {name}(words)                                                  │
╰──────────────────────────────────────────────────────────────────────────────╯
{name}: {words}
"""
CRASHES = {
    "one line": (BOX.format(name="KeyError", words="'WP01'"), "KeyError: 'WP01'"),
    "wrapped lines are one": (
        BOX.format(name="Refused", words="PROTECTED: \nRefusing to record it: 'main' is on \nthe list"),
        "Refused: PROTECTED: Refusing to record it: 'main' is on the list",
    ),
    "a word longer than a line is not cut": (
        BOX.format(name="Malformed", words=f"no end: \n/{'x' * 79}\ny.md: wrong"),
        f"Malformed: no end: /{'x' * 79}y.md: wrong",
    ),
    "the last of several": (
        BOX.format(name="ValueError", words="first")
        + "\nThe above exception was the direct cause of the following exception:\n\n"
        + BOX.format(name="LookupError", words="second"),
        "LookupError: second",
    ),
    "a traceback of Python": (
        'Traceback (most recent call last):\n  File "a.py"\n    1 / 0\nZeroDivisionError: division\n  by 0',
        "ZeroDivisionError: division by 0",
    ),
    "without the advice of a library": (
        BOX.format(
            name="ValidationError",
            words="1 validation error\nodd\n  Extra inputs are not permitted\n"
            "    For further information visit \nhttps://errors.example/2/v/extra",
        ),
        "ValidationError: 1 validation error odd Extra inputs are not permitted",
    ),
}


@pytest.mark.parametrize(("stderr", "exception"), CRASHES.values(), ids=CRASHES)
def test_a_crash_is_told_by_its_exception_in_one_line(stderr: str, exception: str) -> None:
    noise = "WARNING no meta.json\n" + "│ frame │\n" * 300
    with pytest.raises(HostCrash) as caught:
        wire.read_envelope("transition", printed("", 1, (noise + stderr).encode()))
    assert caught.value.message == f"the host crashed with exit code 1: {exception}"


@pytest.mark.parametrize("code", [1, 2, 4])
def test_of_a_secret_that_is_longer_than_a_line_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    secret = "-".join(f"{number:x}" for number in range(4000, 4050))
    monkeypatch.setenv("DEMO_API_KEY", secret)
    box = "╭─ Traceback ─╮\n╰─────────────╯\n" if code == 1 else ""
    cut = "\n".join(secret[at : at + 80] for at in range(0, len(secret), 80))
    with pytest.raises((HostCrash, ProjectIncompatible)) as caught:
        wire.read_envelope("transition", printed("", code, f"{box}ValueError: bad token\n{cut}\n".encode()))
    assert "bad token" in str(caught.value)
    assert secret[-20:] not in str(caught.value)
    assert secret[:20] not in str(caught.value)


def test_a_box_that_nothing_follows_is_shown_by_its_end() -> None:
    box = "╭─ Error ───╮\n│ No such   │\n╰───────────╯\n"
    with pytest.raises(HostCrash, match=r"the host printed nothing(.*\n)+.*No such"):
        wire.read_envelope("transition", printed("", 2, box.encode()))


@pytest.mark.parametrize("code", sorted(wire.INCOMPATIBLE))
def test_a_project_that_the_host_does_not_change_is_told_in_its_words(code: int) -> None:
    words = "This project needs migrations.\nRun: spec-kitty upgrade\nPreview first: spec-kitty upgrade -n\n"
    with pytest.raises(ProjectIncompatible) as caught:
        wire.read_envelope("start-review", printed("", code, words.encode()))
    assert caught.value.code == code
    assert str(caught.value) == (
        "the host changes nothing in this project: This project needs migrations. "
        "Run: spec-kitty upgrade; Preview first: spec-kitty upgrade -n"
    )
    assert caught.value.exit_code == 3


def test_a_killed_host_is_told_by_its_signal() -> None:
    with pytest.raises(HostCrash, match="killed by signal 9"):
        wire.read_envelope("transition", printed("", -9))


@pytest.mark.parametrize(
    "text",
    [
        "Usage: spec-kitty [OPTIONS]",
        "[]",
        "null",
        "{}",
        '{"success": "perhaps"}',
        '{"success": true, "data": []}',
        "{" * 100_000,
        "[" * 100_000,
        '{"success": true, "data": {"a": "\\ud800"}}',
        "1" * 10_000,
        envelope({})[:-1],
    ],
)
def test_a_last_line_that_is_not_an_envelope_is_a_crash(text: str) -> None:
    with pytest.raises(HostCrash, match="not the JSON expected"):
        wire.read_envelope("mission-state", printed(text))


def test_an_envelope_that_is_not_the_last_line_does_not_count() -> None:
    with pytest.raises(HostCrash):
        wire.read_envelope("mission-state", printed(envelope({}) + "\nGoodbye\n"))


def test_ticked_subtasks_are_accepted() -> None:
    line = json.dumps({"results": [{"id": "T001", "outcome": "already_satisfied"}], "summary": {}})
    wire.read_ticks("mark-status", printed(line))


def test_a_subtask_that_was_not_found_is_refused_by_name() -> None:
    results = [{"id": "T001", "outcome": "updated"}, {"id": "T099", "outcome": "not_found"}]
    with pytest.raises(HostRefusal, match="T099") as refused:
        wire.read_ticks("mark-status", printed(json.dumps({"results": results})))
    assert refused.value.code == "SUBTASKS_NOT_FOUND"
    assert refused.value.data == {"not_found": ["T099"]}


def test_an_error_of_mark_status_is_a_refusal() -> None:
    line = json.dumps({"error": "mission_not_found", "handle": "nonesuch"})
    with pytest.raises(HostRefusal, match="nonesuch") as refused:
        wire.read_ticks("mark-status", printed(line, 2))
    assert refused.value.code == "MISSION_NOT_FOUND"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["mission_slug", "work_packages", "summary", "wp_id", "lane", "api_version", "workspace_path", "results"]
)


def read_everything(reply: Reply) -> None:
    """Read a reply as each call's answer; nothing but a `HostError` may come of it."""
    for read in (
        lambda: wire.read_mission_state(wire.read_envelope("mission-state", reply)[0]),
        lambda: wire.read_data("x", wire.read_envelope("x", reply)[0], wire.WorkspaceData).workspace(),
        lambda: wire.read_data("x", wire.read_envelope("x", reply)[0], wire.ContractVersion),
        lambda: wire.read_ticks("mark-status", reply),
    ):
        try:
            read()
        except HostError as error:
            assert str(error)  # noqa: PT017


@given(st.binary(), st.binary(), st.integers(-64, 255))
def test_arbitrary_bytes_are_never_more_than_a_host_error(stdout: bytes, stderr: bytes, rc: int) -> None:
    read_everything(Reply(rc, stdout, stderr))


@given(st.dictionaries(FIELDS | st.text(), JSON, max_size=5), st.booleans(), JSON)
def test_arbitrary_envelopes_are_never_more_than_a_host_error(
    data: dict[str, object], success: bool, code: object
) -> None:
    read_everything(printed(json.dumps({"success": success, "error_code": code, "data": data})))
    read_everything(printed(json.dumps(data)))
