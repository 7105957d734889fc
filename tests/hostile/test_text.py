"""What others say is read in a time and a memory that their words cannot stretch."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile import flood

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.core import events, operator_events
from spec_kitty_orchestrator.core.bounds import LONGEST_DETAIL, LONGEST_TEXT, fitted
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Evidence,
    GateResult,
    Lane,
    Outcome,
)
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict, read_verdict
from spec_kitty_orchestrator.host import outgoing
from spec_kitty_orchestrator.machine import child, key_shapes
from spec_kitty_orchestrator.machine.attempt_files import read_report
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.redaction import REDACTED, Redactor

RUNAWAY = {
    "digits without an end": "try again in " + "1" * 300_000 + ". d",
    "fields of a log": "timestamp=1 level=ERROR " + "message=failed " * 400 + 'error="A: ' * 800,
    "openings": "{" * 300_000,
    "escape sequences that never end": "\x1b[" + "0;" * 150_000,
    "parentheses": "Reconnecting... 1/5 (" + "(" * 150_000 + ")" * 150_000,
    "blanks": "Error: " + " " * 300_000,
}
"""A pattern that goes back on its steps would take minutes or years for each of them."""


@pytest.mark.parametrize("words", RUNAWAY.values(), ids=RUNAWAY)
@pytest.mark.parametrize("agent", BUILT_IN)
def test_no_words_of_a_failure_stop_the_clock(agent: str, words: str) -> None:
    events = (
        {"type": "error", "message": words, "error": {"message": words, "data": {"message": words}}},
        {"type": "turn.failed", "error": {"message": words}},
        {"type": "result", "is_error": True, "result": words, "error": {"message": words}},
        {
            "type": "message_end",
            "message": {"role": "assistant", "stopReason": "error", "errorMessage": words},
        },
    )
    for event in events:
        found = BUILT_IN[agent].report([json.dumps(event)], words[-16_384:], 1)
        assert found.outcome is not Outcome.OK


def test_a_review_that_never_comes_to_its_verdict_is_read_at_once() -> None:
    text = "x " + '{"' * 900 + "\n" * 1_000 + " " * 97_000 + "x"
    assert read_verdict(text, attempt_id="a", head="h", reviewer="r").ruling is Ruling.UNUSABLE


SECRET = "Zx9-correct-horse-battery-staple-77"
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEAtI3bnAxy\n" * 20 + "-----END RSA PRIVATE KEY-----"
)


def leaks(text: str, secret: str) -> bool:
    """Tell whether a part of a secret is left that is worth a guess."""
    return any(secret[at : at + 8] in text for at in range(len(secret) - 7))


@pytest.mark.parametrize("agent", BUILT_IN)
@pytest.mark.parametrize("secret", [SECRET, KEY], ids=["a value", "a key"])
def test_of_a_secret_that_lies_across_a_cut_nothing_is_left(agent: str, secret: str, tmp_path: Path) -> None:
    for place in range(0, len(secret) + 2, 3):
        words = secret + " " + "x" * (LONGEST_DETAIL - len(secret) + place)
        for name, told in (
            ("stderr.log", words),
            ("stdout.log", json.dumps({"type": "error", "message": words})),
        ):
            (tmp_path / "stdout.log").write_text("")
            (tmp_path / name).write_text(told)
            report = read_report(tmp_path, BUILT_IN[agent], 1, Redactor([SECRET]))
            assert not leaks(report.detail + report.text, secret)


def test_of_what_git_and_the_host_say_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", SECRET)
    for place in range(len(SECRET) + 2):
        reply = child.Reply(1, b"", (SECRET + " " + "x" * (2_000 - len(SECRET) + place)).encode())
        assert not leaks(reply.complaint, SECRET)


def test_a_secret_that_a_terminal_code_splits_is_found() -> None:
    assert Redactor([SECRET]).tail(SECRET[:9] + "\x1b[0m" + SECRET[9:], 500) == REDACTED


CODES = {
    "the clipboard": "\x1b]52;c;cm0gLXJmIH4K\x07",
    "a title": "\x1b]0;title\x1b\\",
    "a title in eight bits": "\x9d0;title\x9c",
    "a picture": "\x1bPq#0;2;0\x1b\\",
    "a color": "\x1b[31m",
    "an erased screen": "\x9b2J",
    "a reset": "\x1bc",
    "going back": "\x08\x08\x7f",
    "letters that run backwards": "\u202e\u2066\u200f",
    "invisible letters": "\U000e0041\U000e007f",
    "a NUL": "\0",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_nothing_that_acts_on_a_terminal_leaves_us(code: str, tmp_path: Path) -> None:
    (tmp_path / "stdout.log").write_text("")
    (tmp_path / "stderr.log").write_text(f"be{code}fore\nafter", errors="surrogatepass")
    told = read_report(tmp_path, BUILT_IN["claude-code"], 1, Redactor()).detail
    assert told == outgoing.note(f"be{code}fore\nafter") == "before\nafter"
    assert outgoing.arguments([f"a{code}b"]) == ["ab"]


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_text_is_plain_after_one_cleaning(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", once)


def test_a_blob_that_holds_a_known_secret_is_known_by_it() -> None:
    redactor = Redactor([SECRET])
    for hidden in (
        SECRET.encode(),
        SECRET.encode().hex().encode(),
        base64.b64encode(b"user:" + SECRET.encode()),
    ):
        assert redactor.knows(b"\0\xff before " + hidden + b" after")
    assert not redactor.knows(b"AKIAIOSFODNN7EXAMPLE " + SECRET[:-1].encode())


UNITS = (
    *("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----", "-sk-", "TOKEN", "_KEY", "Bearer "),
    *("a" * 16, "eyJ", "-eyJ", ".eyJ", "://", "://a:", "@", "1", "=", ":", " ", "\n", '"', "ghp_", "\\n"),
)


@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=6).map("".join))
@settings(deadline=None, max_examples=60)
def test_no_line_makes_the_search_for_keys_longer_than_its_text(unit: str) -> None:
    data = (unit * (60_000 // len(unit) + 1)).encode()
    looked = 0
    scan = key_shapes._scan

    def counted(look: Callable[..., re.Match[bytes] | None], data: bytes, place: int) -> tuple[int, int]:
        nonlocal looked
        found = scan(look, data, place)
        looked += min(found[1], len(data)) - place
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_shapes, "_scan", counted)
        for _ in key_shapes.key_spans(data, 0, len(data)):
            pass
    assert looked <= 3 * len(key_shapes._SHAPES) * len(data)


@pytest.fixture(scope="session")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flood")
    with (folder / "stdout.log").open("w") as out:
        for line in flood.flood(100):
            out.write(line + "\n")
    (folder / "stderr.log").write_text("word " * 1_000_000)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of one process alone")
@pytest.mark.parametrize("agent", [*BUILT_IN, *flood.OWN])
def test_a_hundred_megabytes_of_output_take_little_memory(agent: str, flooded: Path) -> None:
    command = [sys.executable, flood.__file__, agent, str(flooded)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 20


@pytest.mark.parametrize("letter", ["x", '"', "\u00e9", "\U0001f600"])
def test_a_giant_last_word_is_a_result_and_its_end_counts(letter: str, tmp_path: Path) -> None:
    result = {"type": "result", "is_error": False, "result": letter * 3_000_000 + "\nthe verdict"}
    (tmp_path / "stdout.log").write_text(json.dumps(result))
    report = read_report(tmp_path, BUILT_IN["claude-code"], 0, Redactor())
    assert report.outcome is Outcome.OK
    assert report.text.endswith("the verdict")
    assert len(report.text) <= LONGEST_TEXT


LONG = "a long story \U0001f600" * 30_000
MANY = tuple(f"{number} {LONG[:5_000]}" for number in range(3_000))
VERDICT = Verdict(Ruling.CHANGES_REQUESTED, "h", "a", "r", LONG, tuple(Finding("s", one) for one in MANY))
BULK: tuple[events.Event, ...] = (
    events.AgentExited("a", AgentReport(Outcome.OK, LONG, LONG), MANY, verdict=VERDICT),
    events.AgentExited("a", AgentReport(Outcome.FAILED, "", '"' * 400_000)),
    events.Committed(Evidence("b", "h", LONG, MANY)),
    events.CommitRefused(LONG),
    events.GateFailed(GateResult("g", ("true",), "h", ok=False), LONG),
    events.HostRefused("transition", LONG, LONG, Lane.PLANNED, LONG),
    events.WorkspaceFailed(LONG),
    events.Parked(Lane.PLANNED, reason=LONG),
    operator_events.Retried(LONG),
)


@pytest.mark.asyncio
@pytest.mark.parametrize("event", BULK, ids=[f"{one.kind} {at}" for at, one in enumerate(BULK)])
async def test_no_words_make_a_line_of_the_journal_longer_than_64_kb(
    event: events.Event, tmp_path: Path
) -> None:
    journal = JsonlJournal(tmp_path / "journal", tmp_path)
    await journal.append(Entry(datetime.now(UTC), "WP01", event))

    assert journal.path.stat().st_size <= 64 * 1024
    (line,) = await journal.read()
    assert isinstance(line, Entry)
    assert line.event == fitted(event)


def test_what_is_short_is_kept_whole_and_of_last_words_the_end() -> None:
    short = events.CommitRefused("x" * 8_000)
    assert fitted(short) is short
    told = fitted(events.AgentExited("a", AgentReport(Outcome.OK, LONG + "the end"))).report.text
    assert told.endswith("the end")
    assert told.startswith("…")
