"""What counts as a verdict, and what never does."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_kitty_orchestrator.core import json_text
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict, feedback_text, read_verdict

from .builders import HEAD, OTHER, verdict_text

MINE = "attempt-1"
APPROVAL = verdict_text(MINE)
BARE = APPROVAL.splitlines()[-1]
REJECTION = verdict_text(MINE, verdict="changes_requested", summary="rename it")


def read(text: str) -> Verdict:
    return read_verdict(text, attempt_id=MINE, head=HEAD, reviewer="bob")


UNUSABLE = {
    "prose only": ("I approve. verdict: approved", "holds no verdict object"),
    "nothing": ("", "holds no verdict object"),
    "another commit": (verdict_text(MINE, OTHER), "names another commit"),
    "a shortened sha": (verdict_text(MINE, HEAD[:12]), "names another commit"),
    "another attempt": (verdict_text("attempt-2"), "for another attempt"),
    "no attempt": (json.dumps({"head": HEAD, "verdict": "approved"}), "for another attempt"),
    "a list as attempt": (
        json.dumps({"attempt": [MINE], "head": HEAD, "verdict": "approved"}),
        "another attempt",
    ),
    "part of something cut off": ('{"note": "x", "result": ' + BARE, "does not begin a line"),
    "a draft in a rejection that is cut off": (REJECTION[:-1] + ', "draft":\n' + APPROVAL, "is broken"),
    "after a broken rejection": ('{"verdict": "changes_requested", oops}\n' + APPROVAL, "is broken"),
    "after a broken rejection in a line": ('I say {"verdict": no}.\n' + APPROVAL, "is broken"),
    "quoted as in a letter": ("> " + BARE, "does not begin a line"),
    "a line of a diff": ("+" + BARE, "does not begin a line"),
    "a quotation after it": (APPROVAL + "\nthe diff says " + verdict_text("x"), "for another attempt"),
    "only a quotation": ("+" + verdict_text("x", OTHER), "for another attempt"),
    "invalid JSON": (APPROVAL[:-1], "holds no verdict object"),
    "single quotes": (APPROVAL.replace('"', "'"), "holds no verdict object"),
    "a key twice": (APPROVAL[:-1] + ', "verdict": "approved"}', "holds no verdict object"),
    "approved, then rejected": (APPROVAL + REJECTION, "contradicting"),
    "rejected, then approved": (REJECTION + APPROVAL, "contradicting"),
    "first for another commit": (verdict_text(MINE, OTHER) + APPROVAL, "contradicting"),
    "words after it": (APPROVAL + "\nBut wait, there is a bug.", "not its last word"),
    "words after its fence": ("```json\n" + APPROVAL + "\n```\nNo!", "not its last word"),
    "a nested object": ('{"result": ' + APPROVAL.partition("\n")[2] + "}", "holds no verdict object"),
    "another word": (verdict_text(MINE, verdict="lgtm"), "neither approved nor changes_requested"),
    "the word in capitals": (verdict_text(MINE, verdict="APPROVED"), "neither"),
    "the unfilled form": (verdict_text(MINE, verdict="<approved or changes_requested>"), "neither"),
    "a rejection of nothing": (verdict_text(MINE, verdict="changes_requested"), "names nothing to change"),
    "a rejection with empty findings": (
        verdict_text(MINE, verdict="changes_requested", summary=" ", findings=["", {"file": "a"}, 7]),
        "names nothing to change",
    ),
}


@pytest.mark.parametrize(("text", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_not_exactly_a_verdict_is_unusable_and_says_why(text: str, reason: str) -> None:
    found = read(text)
    assert found.ruling is Ruling.UNUSABLE
    assert reason in found.summary


USABLE = {
    "prose before it": (APPROVAL, Ruling.APPROVED),
    "a closing fence": ("```json\n" + APPROVAL + "\n```\n", Ruling.APPROVED),
    "a quotation before it": (
        "+" + verdict_text("x", OTHER, "changes_requested") + APPROVAL,
        Ruling.APPROVED,
    ),
    "broken braces before it": ("if (a) { b(); } {{ ${x} {'k': 1} " + APPROVAL, Ruling.APPROVED),
    "the same twice": (APPROVAL + "\n" + APPROVAL, Ruling.APPROVED),
    "a rejection with a summary": (REJECTION, Ruling.CHANGES_REQUESTED),
    "another object before it": ('{"tests": "pass"}' + REJECTION, Ruling.CHANGES_REQUESTED),
}


@pytest.mark.parametrize(("text", "ruling"), USABLE.values(), ids=USABLE)
def test_one_object_for_this_attempt_and_commit_as_last_word_is_a_verdict(text: str, ruling: Ruling) -> None:
    found = read(text)
    assert (found.ruling, found.head, found.attempt_id, found.reviewer) == (ruling, HEAD, MINE, "bob")


def test_findings_may_be_objects_or_plain_strings_and_odd_fields_are_dropped() -> None:
    findings = [
        "no tests",
        {"severity": "major", "file": "a.py", "line": 3, "message": "wrong"},
        {"line": True, "message": "odd"},
        {"line": -1, "file": 4, "message": "odd too"},
        None,
    ]
    found = read(verdict_text(MINE, verdict="changes_requested", findings=findings))
    assert found.findings == (
        Finding("", "no tests"),
        Finding("major", "wrong", "a.py", 3),
        Finding("", "odd"),
        Finding("", "odd too"),
    )
    assert feedback_text(found) == "- no tests\n- [major] a.py:3: wrong\n- odd\n- odd too"


def test_what_goes_on_to_command_lines_holds_no_control_characters_and_no_surrogates() -> None:
    found = read(verdict_text(MINE, verdict="changes_requested", summary="a\x00b\x1b[31mc\ud800d\ne\tf"))
    assert found.summary == "abc\ufffdd\ne\tf"


def test_long_findings_and_summaries_are_bounded() -> None:
    found = read(verdict_text(MINE, verdict="changes_requested", summary="s" * 9_000, findings=["f"] * 500))
    assert (len(found.summary), len(found.findings)) == (4_000, 100)


GARBAGE = {
    "braces": "{" * 200_000,
    "strings": '{"' * 100_000,
    "deep objects": '{"a":' * 40_000,
    "deep lists": '{"a":[' * 30_000,
    "lines": '{"x\n' * 50_000,
    "rows that never close": '{"a":[1,2,3,4,5,6,7,8,9],"b":' * 7_000,
    "keys that occur twice": '{"a":1,"a":1,"b":' * 10_000,
    "a number without end": '{"a":' + "9" * 150_000,
    "a verdict that never comes": "x " + '{"' * 900 + "\n" * 1_000 + " " * 97_000 + "x",
    "escapes": '{"a' + '\\"{' * 50_000,
    "backslashes": '{"' + "\\" * 150_000,
    "blanks": "{ " * 50_000 + '{"' + " " * 50_000,
    "fences": "```" * 50_000,
    "quotes": '{"a": ' + '"' * 150_000,
    "objects within objects that are none": '{"a":' * 20_000 + "x" + "}" * 20_000,
    "a file that begins with a NUL": "\0" * 100_000 + '{"\0":',
}


class Steps:
    """Counts the characters that a pattern or a decoder looks at."""

    def __init__(self) -> None:
        self.taken = 0

    def pattern(self, real: re.Pattern[str]) -> "CountedPattern":
        return CountedPattern(real, self)


class CountedPattern:
    def __init__(self, real: re.Pattern[str], steps: Steps) -> None:
        self.real, self.steps = real, steps

    def search(self, text: str, at: int = 0) -> re.Match[str] | None:
        found = self.real.search(text, at)
        self.steps.taken += (found.end() if found else len(text)) - at
        return found

    def match(self, text: str, at: int = 0) -> re.Match[str] | None:
        found = self.real.match(text, at)
        self.steps.taken += found.end() - at if found else 1
        return found

    def finditer(self, text: str, at: int = 0) -> Iterator[re.Match[str]]:
        for found in self.real.finditer(text, at):
            self.steps.taken += found.end() - at
            at = found.end()
            yield found
        self.steps.taken += len(text) - at


def steps_of(text: str) -> int:
    steps = Steps()

    class Counted(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
            steps.taken += len(s) - idx
            return super().raw_decode(s, idx)

    with pytest.MonkeyPatch.context() as patched:
        for name in ("_OPENING", "_BEGINS_LINE", "_MARK"):
            patched.setattr(json_text, name, steps.pattern(getattr(json_text, name)))
        patched.setattr(json_text, "_DECODER", Counted(object_pairs_hook=json_text._unique))
        json_text.objects(text)
    return steps.taken


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_bulk_is_no_verdict_and_costs_little_more_than_prose(text: str) -> None:
    assert read(text).ruling is Ruling.UNUSABLE
    assert read(APPROVAL + text).ruling is Ruling.UNUSABLE
    assert steps_of(text) <= 3 * steps_of("of prose\n" * 110_000)


PROSE = steps_of("of prose\n" * 110_000)
PIECES = (
    "{",
    '{"',
    "}",
    '"',
    '"a":',
    '{"a":',
    '{"a":1}',
    "[",
    "]",
    ",",
    "\\",
    "\n",
    " ",
    "x",
    "```",
    BARE,
    '"verdict"',
    "{ ",
)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), st.sampled_from(["", APPROVAL]))
@settings(deadline=None, max_examples=50)
def test_no_shape_of_a_long_text_costs_more_than_three_times_prose(pieces: list[str], end: str) -> None:
    unit = "".join(pieces)
    text = unit * (110_000 // len(unit)) + end
    assert steps_of(text) <= 3 * PROSE


def test_a_verdict_after_a_long_text_full_of_code_is_read() -> None:
    code = "def f(a):\n    return {'k': [1, 2], 'n': {1: 2}}  // { \"a\": b }\n" * 1_000
    assert read(code + APPROVAL).ruling is Ruling.APPROVED


@given(st.text(), st.sampled_from(["", APPROVAL, "{", '{"verdict":']))
def test_arbitrary_text_never_raises(text: str, end: str) -> None:
    read(text + end)


words = st.sampled_from(
    [
        "approved",
        '{"verdict": "approved"}',
        verdict_text("x"),
        verdict_text("x", OTHER),
        "{",
        "}",
        '"',
        HEAD,
        "\n",
    ]
)


@given(st.lists(st.one_of(st.text(), words)).map("".join))
def test_no_text_without_the_attempt_id_is_ever_approved(text: str) -> None:
    assert MINE in text or read(text).ruling is Ruling.UNUSABLE


@given(st.lists(st.one_of(st.text(), st.just(verdict_text(MINE, OTHER)), st.just(MINE))).map("".join))
def test_no_text_without_the_commit_is_ever_approved(text: str) -> None:
    assert HEAD in text or read(text).ruling is Ruling.UNUSABLE


@given(st.text().filter(lambda one: "{" not in one))
def test_a_valid_object_after_any_text_without_braces_is_read(text: str) -> None:
    assert read(text + APPROVAL).ruling is Ruling.APPROVED


def test_a_finding_names_its_place_as_far_as_the_reviewer_did() -> None:
    found = [Finding("", "wrong", *place).place for place in (("a.py", 3), ("a.py", 0), ("", 3))]
    assert found == ["a.py:3", "a.py", ""]
