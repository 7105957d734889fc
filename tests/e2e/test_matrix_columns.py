"""Each column of the matrix fails where what it promises does not hold."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.clis import CLIS
from tests.e2e.matrix import columns
from tests.e2e.matrix.evidence import WP, Evidence, Ran
from tests.e2e.matrix.recording import RecordedCall, recorded, recorder
from tests.e2e.model_api import FORBIDDEN_FILE, ModelApi
from tests.e2e.model_api.dialects.spec import Call
from tests.e2e.projects import Project

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.machine.redaction import REDACTED

AGENT = "claude-code"
PROMPT = f"Role: review\nAttempt: a1\n\n{'A line of the task.' * 12_000}\n"
BASE_ENV = {"PATH": "/usr/bin", "HOME": "/home/someone", "LANG": "C"}
KEY = CLIS[AGENT].key


@pytest.fixture
def row(tmp_path: Path) -> Evidence:
    """Two attempts of which every column that needs no host can be told to hold."""
    project = Project(tmp_path / "worked" / "project", "demo", {})
    journal = project.root / ".kittify" / "orchestrator" / "demo" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    events: list[dict[str, object]] = []
    calls = []
    for id_, role in (("a1", "implement"), ("a2", "review")):
        directory = tmp_path / id_
        directory.mkdir()
        (directory / "prompt.md").write_text(PROMPT)
        argv = ("claude", "-p", role)
        settings = {"ANTHROPIC_API_KEY": REDACTED, "HOME": str(tmp_path / "home")}
        (directory / "command.json").write_text(json.dumps({"argv": argv, "env": settings}))
        env = {**BASE_ENV, "HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": KEY}
        calls.append(RecordedCall(argv, {**env, MARKER: id_, "PWD": "/"}))
        opened = {"id": id_, "role": role, "agent": AGENT, "session": "", "directory": str(directory)}
        events.append({"kind": "attempt_opened", "attempt": opened})
        report = {"outcome": "ok", "detail": "", "session": None}
        events.append({"kind": "agent_exited", "attempt_id": id_, "report": report, "tampered": []})
    journal.write_text("".join(json.dumps({"wp_id": WP, "event": event}) + "\n" for event in events))
    api = ModelApi("http://127.0.0.1:9")
    api.conversations = {id_: ["A reminder.", PROMPT.strip()] for id_ in ("a1", "a2")}
    api.calls["a2"] = [Call("call_0", "Write", {})]
    return Evidence(
        CLIS[AGENT],
        find(AGENT),
        {"ANTHROPIC_API_KEY": KEY, "HOME": str(tmp_path / "home")},
        BASE_ENV,
        tmp_path / "home",
        api,
        Ran(project, "main", 0, ""),
        {},
        calls,
    )


def test_a_prompt_is_whole_only_if_no_byte_of_it_is_missing(row: Evidence) -> None:
    assert columns.whole_prompt(row) == ""
    row.api.conversations["a2"] = ["A reminder.", PROMPT.strip()[:-1]]
    with pytest.raises(AssertionError, match="not whole"):
        columns.whole_prompt(row)


def test_a_prompt_in_several_parts_is_whole(row: Evidence) -> None:
    row.api.conversations["a2"] = [PROMPT[:1000], PROMPT[1000:]]
    assert columns.whole_prompt(row) == ""


def test_only_where_a_cli_is_known_to_move_blanks_may_they_differ(row: Evidence) -> None:
    for one in row.worked.attempts:
        (one.directory / "prompt.md").write_text(f"{PROMPT}+@property\n@a\n@b")
        row.api.conversations[one.id] = [f"{PROMPT}+ @property @a @b"]
    with pytest.raises(AssertionError, match="not whole"):
        columns.whole_prompt(row)
    known = replace(row, cli=replace(row.cli, blanks_before="@"))
    assert columns.whole_prompt(known) == "blanks before @ may differ"
    row.api.conversations["a2"] = [f"{PROMPT}+ @property @a@"]
    with pytest.raises(AssertionError, match="not whole"):
        columns.whole_prompt(known)


def test_a_prompt_that_was_short_proves_nothing(row: Evidence) -> None:
    (review,) = row.worked.of(Role.REVIEW)
    (review.directory / "prompt.md").write_text("Role: review")
    with pytest.raises(AssertionError, match="review: the longest prompt had 12 bytes"):
        columns.whole_prompt(row)


def changed(row: Evidence, *words: str, **variables: str) -> Evidence:
    """Return the row with another first call."""
    first, second = row.calls
    return replace(row, calls=[RecordedCall((*first.argv, *words), {**first.env, **variables}), second])


def test_a_command_is_true_if_it_is_what_ran(row: Evidence) -> None:
    assert columns.command_is_true(row) == ""


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(("--more",), {}, id="another argument"),
        pytest.param((), {"HOME": "/elsewhere"}, id="another value"),
        pytest.param((), {"ANTHROPIC_API_KEY": "another"}, id="another key"),
        pytest.param((), {"UNNAMED": "x"}, id="a variable that is not told"),
        pytest.param((), {"LANG": "fr"}, id="a variable of ours that was changed"),
        pytest.param((), {"PATH": "/other"}, id="another PATH"),
    ],
)
def test_a_command_that_is_not_what_ran_is_noticed(
    row: Evidence, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        columns.command_is_true(changed(row, *words, **variables))


@pytest.mark.parametrize("word", ["--yolo", "--approval-mode=yolo", "bypassPermissions", "--dangerously-so"])
def test_a_banned_flag_is_noticed_in_any_call(row: Evidence, word: str) -> None:
    for aside in (
        RecordedCall(("claude", "--version", word), BASE_ENV),
        RecordedCall(("claude",), {**BASE_ENV, "MODE": word}),
    ):
        with pytest.raises(AssertionError, match=word):
            columns.command_is_true(replace(row, calls=[*row.calls, aside]))


def test_a_key_in_a_record_is_noticed(row: Evidence) -> None:
    (first,) = row.worked.of(Role.IMPLEMENT)
    record = first.command
    record["env"]["ANTHROPIC_API_KEY"] = KEY
    (first.directory / "command.json").write_text(json.dumps(record))
    with pytest.raises(AssertionError):
        columns.command_is_true(row)


def test_a_file_that_a_reviewer_wrote_is_noticed(row: Evidence) -> None:
    assert columns.review_changes_nothing(row) == ""
    (row.worked.project.root / FORBIDDEN_FILE).touch()
    with pytest.raises(AssertionError):
        columns.review_changes_nothing(row)


def test_a_reviewer_that_was_asked_to_write_nothing_is_told_of(row: Evidence) -> None:
    row.api.calls["a2"] = []
    assert columns.review_changes_nothing(row) == "it has no tool that could"


@pytest.fixture
def attacked(row: Evidence) -> Evidence:
    """The row, of which the column of confinement can be told to hold."""
    (row.worked.project.root / ".git").mkdir()
    row.home.mkdir()
    row.api.watched |= {columns.PLANTED_KEY: False, columns.ATTACK_RAN: True}
    for one in row.own:
        (one.directory / "command.json").write_text(json.dumps(one.command | {"sandbox": ["bwrap"]}))
    return row


def test_an_agent_whose_attack_failed_is_confined(attacked: Evidence) -> None:
    assert columns.confined(attacked) == ""
    attacked.api.watched[columns.ATTACK_RAN] = False
    assert columns.confined(attacked) == "its own rules did not let the attack begin"


@pytest.mark.parametrize("place", ["", ".git", "../.."])
def test_a_file_that_an_agent_wrote_outside_is_noticed(attacked: Evidence, place: str) -> None:
    (attacked.worked.project.root / place / columns.ATTACK_FILE).touch()
    with pytest.raises(AssertionError):
        columns.confined(attacked)


def test_a_key_that_an_agent_read_is_noticed(attacked: Evidence) -> None:
    attacked.api.watched[columns.PLANTED_KEY] = True
    with pytest.raises(AssertionError, match="it read a key"):
        columns.confined(attacked)


def test_an_attempt_without_a_sandbox_is_noticed(attacked: Evidence) -> None:
    for one in attacked.own:
        (one.directory / "command.json").write_text(json.dumps(one.command | {"sandbox": []}))
    with pytest.raises(AssertionError):
        columns.confined(attacked)


@pytest.fixture
def child(row: Evidence, request: pytest.FixtureRequest) -> Iterator[None]:
    """A process of the first attempt, or one at its CLI's home."""
    env = {"HOME": str(row.home)} if request.param == "home" else {MARKER: "a1"}
    wait = "import sys; sys.stdin.read()"
    argv = [sys.executable, "-I", "-S", "-c", wait]
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE) as process:
        yield
        process.kill()


@pytest.mark.parametrize("child", ["home", "marker"], indirect=True)
@pytest.mark.usefixtures("child")
def test_a_process_that_is_left_is_noticed(row: Evidence) -> None:
    with pytest.raises(AssertionError, match="import sys"):
        columns.nothing_left_running(row)


def test_no_process_left_is_seen_as_such(row: Evidence) -> None:
    assert columns.nothing_left_running(row) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_recorder_keeps_argv_and_environment_as_they_are_and_becomes_the_program(tmp_path: Path) -> None:
    program = recorder("/bin/cat", tmp_path / "calls")
    env = {MARKER: "a1", "ODD": "two\nlines = 1"}
    said = tmp_path / "a b"
    said.write_text("said")
    done = subprocess.run(
        [program, str(said), "-"], env=env, input="", capture_output=True, text=True, check=True
    )
    assert done.stdout == "said"
    (call,) = recorded(tmp_path / "calls")
    assert call == RecordedCall((str(program), str(said), "-"), env)
    assert call.attempt == "a1"


def test_each_described_cli_is_that_of_an_agent_and_has_a_key_of_its_own() -> None:
    assert set(CLIS) <= set(BUILT_IN)
    assert len({cli.key for cli in CLIS.values()}) == len(CLIS)
