"""The implementer's closing report: every part may be missing, and its ids go into a command line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.implementing import read_report
from spec_kitty_orchestrator.core.model import ImplementReport

from .builders import report_text


def test_the_parts_of_a_report_are_read() -> None:
    text = report_text("i1", subtasks_done=["T001", "T002", "T001"], no_change_reason="was there")
    assert read_report(text, "i1") == ImplementReport(("T001", "T002"), "did it", "was there")


@pytest.mark.parametrize(
    "odd",
    [
        "--help",
        "-x",
        "../T001",
        "a/b",
        "T 1",
        "",
        "T001\n",
        "T;rm",
        "$(x)",
        "T" * 33,
        7,
        None,
        ["T001"],
        {"a": 1},
    ],
)
def test_ids_that_look_like_options_paths_or_anything_else_are_dropped(odd: object) -> None:
    assert read_report(report_text("i1", subtasks_done=[odd, "T002"]), "i1").subtasks_done == ("T002",)


@pytest.mark.parametrize("odd", ["T001", {"T001": True}, 3, None])
def test_subtasks_that_are_no_list_are_none(odd: object) -> None:
    assert read_report(report_text("i1", subtasks_done=odd), "i1").subtasks_done == ()


def test_the_report_of_another_attempt_is_ignored() -> None:
    assert read_report(report_text("i2", subtasks_done=["T001"]), "i1") == ImplementReport()


def test_a_report_without_an_attempt_is_ignored() -> None:
    assert read_report(json.dumps({"summary": "did it"}), "i1") == ImplementReport()


def test_the_last_report_wins() -> None:
    text = report_text("i1", no_change_reason="none") + report_text("i1", summary="more")
    assert read_report(text, "i1") == ImplementReport((), "more", "")


def test_words_after_the_report_do_not_hide_it() -> None:
    assert read_report(report_text("i1") + "\nBye!", "i1").summary == "did it"


def test_an_object_that_says_nothing_does_not_hide_the_report() -> None:
    assert read_report(report_text("i1") + json.dumps({"attempt": "i1"}), "i1").summary == "did it"


def test_most_subtasks_are_bounded() -> None:
    text = report_text("i1", subtasks_done=[f"T{n}" for n in range(1_000)])
    assert len(read_report(text, "i1").subtasks_done) == 200


@given(st.text())
def test_arbitrary_text_never_raises_and_reports_nothing(text: str) -> None:
    assert read_report(text, "i1") == ImplementReport()
