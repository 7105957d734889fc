"""Agents of one's own: their command lines, and what of their output is an answer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE, LONGEST_SAID
from spec_kitty_orchestrator.agents.spec import PROMPT_WORD, AgentSettings, Assignment
from spec_kitty_orchestrator.core.bounds import LONGEST_TEXT
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role
from spec_kitty_orchestrator.settings.declaration import (
    Declaration,
    filled,
    placeholders,
    read_conditions,
    read_output,
    read_path,
)

BOT = Declaration("bot", "acme", ("bot", "--quiet"))
JSONL = replace(BOT, output=read_output("jsonl:type=result:result"))
SURE = replace(JSONL, ok=read_conditions("type=result,is_error=false"), error=read_path("message"))
JSON = replace(BOT, output=read_output("json:answer.text"))


def argv(own: Declaration, role: Role = Role.IMPLEMENT, session: str = "", **settings: object) -> list[str]:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session)
    return list(Declared(own).command(task, AgentSettings(**settings)).argv)  # type: ignore[arg-type]


def report(own: Declaration, *lines: object, exit_code: int | None = 0, stderr: str = "") -> AgentReport:
    """Report on lines of text and on objects, each of which is a line."""
    spoken = (one if isinstance(one, str) else json.dumps(one) + "\n" for one in lines)
    return Declared(own).report(spoken, stderr, exit_code)


def test_the_words_of_the_role_and_those_for_a_session_follow_the_command() -> None:
    own = replace(
        BOT,
        role_args={Role.IMPLEMENT: ("--write",), Role.REVIEW: ("--read-only",)},
        resume_args=("--resume", "{session}"),
    )
    assert argv(own) == ["bot", "--quiet", "--write"]
    assert argv(own, Role.REVIEW, extra_args=("--more",)) == ["bot", "--quiet", "--read-only", "--more"]
    assert argv(own, session="s-1") == ["bot", "--quiet", "--write", "--resume", "s-1"]


def test_placeholders_are_filled_in_and_what_they_hold_is_not_looked_at_again() -> None:
    own = replace(BOT, command=("bot", "--model={model}", "{workspace}/x", "{attempt}", "{{print}}", "{ x }"))
    assert argv(own, model="{attempt}") == ["bot", "--model={attempt}", "/wt/x", "a1", "{print}", "{ x }"]


def test_a_prompt_goes_where_it_is_named_and_else_to_the_end() -> None:
    as_file = replace(BOT, prompt="file")
    assert argv(as_file, extra_args=("-v",)) == ["bot", "--quiet", "-v", "/attempt/prompt.md"]
    named = replace(as_file, command=("bot", "--in={prompt_file}", "--quiet"))
    assert argv(named) == ["bot", "--in=/attempt/prompt.md", "--quiet"]
    as_word = replace(BOT, prompt="argument", role_args={Role.REVIEW: ("-p", "{prompt}", "--ro")})
    assert argv(as_word) == ["bot", "--quiet", PROMPT_WORD]
    assert argv(as_word, Role.REVIEW) == ["bot", "--quiet", "-p", PROMPT_WORD, "--ro"]
    assert argv(BOT) == ["bot", "--quiet"]


def test_what_the_declaration_says_is_what_others_are_told() -> None:
    own = Declared(
        replace(
            BOT,
            resume_args=("-r", "{session}"),
            cost=("cost",),
            roles=frozenset({Role.REVIEW}),
            approval={Role.REVIEW: "never_ask"},
            sandbox={Role.REVIEW: "read_only"},
            network={Role.REVIEW: "none"},
            traces=(".bot",),
        )
    )
    assert (own.name, own.family, own.executable, own.traces) == ("bot", "acme", "bot", (".bot",))
    assert (own.roles, own.resumes, own.reports_cost) == (frozenset({Role.REVIEW}), True, True)
    assert own.permissions(Role.REVIEW).sandbox_mode == "read_only"
    assert not Declared(BOT).resumes
    assert not Declared(BOT).reports_cost


def test_a_text_and_the_exit_code_0_are_a_result() -> None:
    found = report(BOT, "one\n", "\x1b[1mtwo\x1b[0m\x00\ud800")
    assert (found.outcome, found.text, found.detail) == (Outcome.OK, "one\ntwo\ufffd", "")
    assert found.by_exit_code


@pytest.mark.parametrize(
    ("lines", "exit_code", "outcome"),
    [
        ((), 0, Outcome.FAILED),
        ((" \n", "\t\n"), 0, Outcome.FAILED),
        (("said\n",), 1, Outcome.FAILED),
        (("said\n",), 255, Outcome.FAILED),
        (("said\n",), None, Outcome.CRASHED),
        (("said\n",), -15, Outcome.CRASHED),
        (("said\n",), 143, Outcome.CRASHED),
        (("said\n",), 127, Outcome.INVALID_REQUEST),
        (("said\n",), 126, Outcome.INVALID_REQUEST),
    ],
)
def test_no_other_text_is_a_result(lines: tuple[str, ...], exit_code: int | None, outcome: Outcome) -> None:
    found = report(BOT, *lines, exit_code=exit_code)
    assert found.outcome is outcome
    assert found.detail
    assert not found.by_exit_code


def test_a_failure_is_told_in_the_words_of_stderr_then_of_stdout() -> None:
    assert report(BOT, "said\n", exit_code=1, stderr="no login\n").detail == "no login"
    assert report(BOT, "said\n", exit_code=1).detail == "said"
    assert report(BOT, exit_code=3).detail == "it said nothing; exit code 3"


def test_of_a_flood_the_end_is_kept() -> None:
    lines = ["x" * 1000 + "\n"] * 2000 + ["y" * (LONGEST_TEXT - 5), "end\n"]
    found = report(BOT, *lines)
    assert found.text.endswith("y" * (LONGEST_TEXT - 5) + "\nend")
    assert len(found.text) <= LONGEST_SAID


def test_the_last_event_that_meets_the_conditions_holds_the_text() -> None:
    found = report(
        JSONL,
        {"type": "result", "result": "first"},
        "noise\n",
        {"type": "text", "result": "no"},
        {"type": "result", "result": "last"},
        {"type": "bye"},
    )
    assert (found.outcome, found.text) == (Outcome.OK, "last")


@pytest.mark.parametrize(
    ("lines", "exit_code"),
    [
        (({"type": "result", "result": "x"},), 1),
        (({"type": "result", "result": "x"},), None),
        (({"type": "result", "result": ""},), 0),
        (({"type": "result", "result": {"x": "y"}},), 0),
        (({"type": "text", "result": "x"},), 0),
        (("result: x\n", '{"type": "result", "result": "x"\n'), 0),
        ((), 0),
    ],
)
def test_without_the_text_or_the_exit_code_0_no_event_is_a_result(
    lines: tuple[object, ...], exit_code: int | None
) -> None:
    found = report(JSONL, *lines, exit_code=exit_code)
    assert found.outcome is not Outcome.OK
    assert found.detail


def test_where_a_condition_says_what_is_good_the_last_object_decides_and_no_exit_code() -> None:
    good = {"type": "result", "is_error": False, "result": "x"}
    for exit_code in (0, 1, None, 143):
        found = report(SURE, good, exit_code=exit_code)
        assert (found.outcome, found.by_exit_code) == (Outcome.OK, False)
    assert report(SURE, good, {"type": "error"}).outcome is Outcome.FAILED
    assert report(SURE, {**good, "is_error": None}).outcome is Outcome.FAILED
    assert report(SURE, {**good, "is_error": 0}).outcome is Outcome.FAILED
    bad = report(SURE, {**good, "is_error": True, "message": "no quota"})
    assert (bad.outcome, bad.detail) == (Outcome.FAILED, "no quota")


def test_conditions_compare_strings_and_what_json_writes() -> None:
    own = replace(JSON, output=read_output("json:t"), ok=read_conditions("n=0,b=true,s=a b,z=null,l.1.k=2"))
    event = {"t": "x", "n": 0, "b": True, "s": "a b", "z": None, "l": [0, {"k": 2}]}
    assert report(own, event).outcome is Outcome.OK
    mistakes: list[dict[str, object]] = [{"n": "no"}, {"b": 1}, {"s": ["a b"]}, {"z": {}}, {"l": [0]}]
    mistakes.append({"l": {"1": 2}})
    for wrong in mistakes:
        assert report(own, {**event, **wrong}).outcome is Outcome.FAILED


def test_an_object_may_stand_on_a_line_or_over_many() -> None:
    told = {"answer": {"text": "x\n{\n}"}, "more": [{"a": 1}]}
    for shown in (json.dumps(told), json.dumps(told, indent=2), json.dumps(told, indent=2) + "\nbye\n"):
        found = report(JSON, "Welcome\n", "{broken\n", *shown.splitlines(keepends=True))
        assert (found.outcome, found.text) == (Outcome.OK, "x\n{\n}")


def test_of_several_objects_the_last_one_counts() -> None:
    assert report(JSON, {"answer": {"text": "a"}}, {"answer": {"text": "b"}}).text == "b"
    assert report(JSON, {"answer": {"text": "a"}}, {"error": "b"}).outcome is Outcome.FAILED
    cut = json.dumps({"answer": {"text": "b"}}, indent=2)[:-2].splitlines(keepends=True)
    assert report(JSON, *cut).outcome is Outcome.CRASHED


def test_an_object_that_never_ends_costs_bounded_memory_and_hides_no_later_one() -> None:
    lines = ["{\n", *['"x": 1,\n'] * (LONGEST_LINE // 8 + 10), "}\n", json.dumps({"answer": {"text": "x"}})]
    assert report(JSON, *lines).text == "x"


def test_session_usage_and_cost_are_read_where_they_are_told() -> None:
    own = replace(
        JSONL,
        session=("id",),
        resume_args=("-r", "{session}"),
        cost=("use", "usd"),
        input_tokens=("use", "in"),
        output_tokens=("use", "out"),
    )
    found = report(
        own,
        {"id": "s-1", "use": {"in": 5, "out": 1, "usd": 9}},
        {"type": "result", "result": "x", "use": {"in": 7, "out": -2, "usd": 0.5}},
    )
    assert (found.session, found.usage.input_tokens, found.usage.output_tokens) == ("s-1", 7, 0)
    assert found.usage.cost_usd == 0.5


@pytest.mark.parametrize("session", ["--yolo", "a b", "", "a\n", "é", "x" * 300, 5, None])
def test_a_session_that_could_be_an_option_or_more_than_a_word_is_none(session: object) -> None:
    own = replace(JSONL, session=("id",), resume_args=("-r", "{session}"))
    assert report(own, {"type": "result", "result": "x", "id": session}).session is None


KINDS = st.sampled_from([BOT, JSONL, SURE, JSON])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "result", "answer", "text", "message"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    own=KINDS,
    lines=st.lists(st.text(max_size=40) | values.map(json.dumps), max_size=8),
    exit_code=st.none() | st.integers(-64, 255),
)
def test_no_output_raises_and_none_is_a_result_without_a_text_and_a_good_end(
    own: Declaration, lines: list[str], exit_code: int | None
) -> None:
    found = report(own, *lines, exit_code=exit_code, stderr="".join(lines))
    for words in (found.text, found.detail):
        assert "\x00" not in words
        words.encode("utf-8")
    if found.outcome is Outcome.OK:
        assert found.text.strip()
        assert own is SURE or exit_code == 0


@pytest.mark.parametrize("own", [JSON, JSONL, SURE])
@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, '{"n": ' + "9" * 5_000 + "}"])
def test_json_that_breaks_the_parser_is_no_result(own: Declaration, deep: str) -> None:
    assert report(own, deep).outcome is Outcome.CRASHED


@pytest.mark.parametrize(
    ("text", "kind", "path", "where"),
    [
        ("text", "text", (), 0),
        ("json:answer", "json", ("answer",), 0),
        ("json:choices.0.message.content", "json", ("choices", "0", "message", "content"), 0),
        ("jsonl:item.text", "jsonl", ("item", "text"), 0),
        ("jsonl:type=result,error=null:result", "jsonl", ("result",), 2),
        ("jsonl:at=12:30:result", "jsonl", ("result",), 1),
    ],
)
def test_formats_of_output_are_read(text: str, kind: str, path: tuple[str, ...], where: int) -> None:
    found = read_output(text)
    assert (found.kind, found.path, len(found.where)) == (kind, path, where)


@pytest.mark.parametrize(
    "text",
    [
        *("", "txt", "text:", "text:a", "json", "json:", "json:a..b", "json:a b", "xml:a", "JSON:a"),
        *("jsonl:a=b", "jsonl:a:", "jsonl::a", "jsonl:=b:c", "jsonl:a=:c", "jsonl:a=b,:c", "jsonl:a= b:c"),
    ],
)
def test_what_is_no_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        read_output(text)


def test_doubled_braces_are_a_word_in_braces_and_no_placeholder() -> None:
    assert placeholders(["{{print}}", "{ model }", '{"a": 1}', "x{model}y"]) == {"model"}
    assert filled("{{print}} {model}", {"model": "m"}) == "{print} m"
    with pytest.raises(ValueError, match=r"there is no \{promt\}"):
        placeholders(["{promt}"])
    with pytest.raises(ValueError, match="cannot be told from"):
        placeholders(["{{prompt}}"])


def test_an_empty_answer_is_none_whatever_was_said_before_it() -> None:
    early = {"type": "result", "is_error": True, "result": "I begin."}
    found = report(SURE, early, {"type": "result", "is_error": False, "result": ""})
    assert (found.outcome, found.text) == (Outcome.FAILED, "")
    anywhere = replace(SURE, output=read_output("jsonl:result"))
    found = report(anywhere, early, {"type": "result", "is_error": False, "result": ""})
    assert (found.outcome, found.text) == (Outcome.FAILED, "")


def test_an_end_without_a_place_for_the_answer_leaves_the_one_before_it() -> None:
    done = replace(BOT, output=read_output("jsonl:text"), ok=read_conditions("type=done"))
    found = report(done, {"type": "message", "text": "fine"}, {"type": "done"})
    assert (found.outcome, found.text) == (Outcome.OK, "fine")
