"""What a job of CI is told: notes in the shape that its service reads, and no command of anybody else's."""

import io
import json
from functools import cache
from pathlib import Path

import pytest
import xmlschema
from hypothesis import example, given
from hypothesis import strategies as st
from tests.ci_services import (
    Command,
    buildkite_groups,
    github_command,
    github_commands,
    github_values,
    gitlab_sections,
)
from tests.journals import ROOT, SLUG, Comes, Player, large, played

from spec_kitty_orchestrator.core.findings import Severity
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.core.verdict import Finding
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.ci import github, gitlab, inert, service_around
from spec_kitty_orchestrator.views.ci.notes import Note, figures, notes
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.json_lines import json_line
from spec_kitty_orchestrator.views.report.junit import junit
from spec_kitty_orchestrator.views.report.markdown import markdown
from spec_kitty_orchestrator.views.report.texts import Texts

SCHEMA = Path(__file__).parents[1] / "data" / "schemas" / "junit-10.xsd"
COMMANDS = [
    "::set-output name=a::b",
    "   ::add-mask::x",
    "##[error]no",
    "2026 WP01 ##[add-mask]x",
    "::stop-commands::t",
    "\u200b:\u200b:error::x",
    "#\u200b#[group]x",
    "\x1b]0;t\x07::error::x",
    "a\r::error::x",
    "a\n::error::x",
    "--- folded",
    "+++",
    "^^^ +++",
    "section_start:1:a\r\x1b[0Kx",
    "section_end:1:a\r\x1b[0K",
]
PIECES = st.sampled_from(
    ["::", ":", "#", "##[", "[", "]", " ", "error", "add-mask", "\n", "\r", "\u200b", "\x1b[0K"]
)
HOSTILE = st.lists(PIECES | st.sampled_from(COMMANDS) | st.text(max_size=3)).map("".join)


def told(lines: list[Line]) -> Report:
    return record(lines).report(lines[-1].at, active=False)


def texts(report: Report) -> Texts:
    return Texts(report, Redactor(), Path(ROOT), Path(ROOT, ".kittify"))


@cache
def of_99() -> Report:
    """Return the report of a mission of 99 work packages and 600 attempts that was cut off."""
    lines = large()
    return told(lines[: len(lines) * 2 // 3])


@pytest.mark.parametrize("line", COMMANDS[:8])
def test_the_lines_that_we_try_are_commands_of_github(line: str) -> None:
    assert github_command(line.replace("\x1b]0;t\x07", ""))


@given(HOSTILE)
@example("\n".join(COMMANDS))
def test_nothing_that_is_printed_in_a_job_is_a_command(text: str) -> None:
    output = io.StringIO(newline="")
    console = SteadyConsole(file=output, redactor=Redactor(), in_ci=True)
    console.tell(text)
    console.out(text, highlight=False)
    shown = output.getvalue()
    assert github_commands(shown) == []
    assert gitlab_sections(shown) == []
    assert buildkite_groups(shown) == []


@pytest.mark.parametrize("variable", ["GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE"])
def test_every_console_of_a_job_lets_no_command_through(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)
    shown = {}
    for value in ("false", "true"):
        monkeypatch.setenv(variable, value)
        output = io.StringIO()
        SteadyConsole(file=output, redactor=Redactor()).tell("::error::x")
        shown[value] = len(github_commands(output.getvalue()))
    assert shown == {"false": 1, "true": 0}
    assert service_around({variable: "true"}) is not None


@given(HOSTILE)
def test_events_as_json_hold_no_command_and_say_the_same(text: str) -> None:
    line = json_line({"text": text}, Redactor())
    assert github_commands(line) == []
    assert json.loads(line) == {"text": text}


ANY = st.text("ab:,%=\r\n#[]é", max_size=20)


@given(ANY, ANY, ANY, st.integers(1, 999))
def test_a_note_is_one_command_that_says_just_that(title: str, message: str, file: str, line: int) -> None:
    (found,) = github_commands(github.annotation(Note(Severity.ERROR, title, message, file, line)))
    place = {"file": file, "line": str(line)} if file else {}
    assert found == Command("error", message, {**place, "title": title})


def test_a_note_has_the_place_of_its_finding() -> None:
    text = github.annotation(Note(Severity.WARNING, "WP01: no, 100%", "a: b\nc", "src/a,b.py", 7))
    properties = {"file": "src/a,b.py", "line": "7", "title": "WP01: no, 100%"}
    assert github_command(text) == Command("warning", "a: b\nc", properties)


def test_only_so_many_notes_are_made_as_github_shows_the_most_important_first() -> None:
    kinds = [Severity.ERROR] * 23 + [Severity.WARNING] * 11 + [Severity.NOTE] * 3
    made = github.annotations([Note(kind, f"t{place}", "m") for place, kind in enumerate(kinds)])
    found = [command for one in made if (command := github_command(one))]
    assert [one.name for one in found] == ["error"] * 10 + ["warning"] * 10 + ["notice"] * 3
    assert [one.properties["title"] for one in found[:10]] == [f"t{place}" for place in range(10)]
    assert made[-1] == "13 errors, 1 warning more than GitHub shows for one step; the report has all of them"


def stuck() -> list[Line]:
    end = Comes(
        findings=(Finding("minor", "Say so", "a.py", 1), Finding("major", "Wrong", "b.py", 2)), summary="no"
    )
    red = (Comes(red="tests", tail='File "src/c.py", line 5, in f\nAssertionError'),) * 9
    needs = {"WP01": (), "WP02": (), "WP03": ("WP01",), "WP04": ()}
    failing = (Comes(detail="the model is gone", outcome="failed"),) * 9  # type: ignore[arg-type]
    return played(needs, {"WP01": (Comes(), end, Comes(), end), "WP02": red, "WP04": failing})


def test_notes_are_what_needs_a_person_red_gates_and_findings_with_the_command_to_answer_with() -> None:
    report = told(stuck())
    found = notes(report, texts(report))
    assert [(one.severity, one.title, one.file, one.line) for one in found] == [
        ("error", "WP04 needs you", "", 0),
        ("error", "WP01: codex asks for changes", "b.py", 2),
        ("error", "WP02: gate tests is red", "src/c.py", 5),
        ("warning", "WP01: codex asks for changes", "a.py", 1),
    ]
    assert "AssertionError" in found[2].message
    for wp, one in zip(("WP04", "WP01", "WP02"), found, strict=False):
        assert f"spec-kitty-orchestrator retry {wp} --mission {SLUG}" in one.message


def test_what_a_reviewer_remarked_on_and_approved_is_a_warning_that_says_so() -> None:
    remark = Comes(findings=(Finding("major", "Say why", "b.py", 2),), approves=True)
    report = told(played({"WP01": ()}, {"WP01": (Comes(), remark)}))
    (found,) = notes(report, texts(report))
    assert (found.severity, found.title) == ("warning", "WP01: codex approved, and remarks")


def test_a_mission_that_is_done_has_no_notes() -> None:
    report = told(played({"WP01": ()}))
    assert notes(report, texts(report)) == []


def test_outputs_are_read_back_as_they_were_whatever_they_hold() -> None:
    report = told(stuck())
    told_of = dict(figures(report, texts(report), "report.html"))
    text = github.outputs([*told_of.items(), ("odd", "a\nodd<<EOF\nb=c\nEOF")])
    assert github_values(text) == {**told_of, "odd": "a\nodd<<EOF\nb=c\nEOF"}
    assert told_of["next"].splitlines()[-1] == f"spec-kitty-orchestrator resume --mission {SLUG}"
    assert (told_of["needs-you"], told_of["exit-code"], told_of["resumable"]) == ("3", "1", "false")
    delimiters = [line.partition("<<")[2] for line in text.splitlines() if "<<end_" in line]
    assert len(set(delimiters)) == len(told_of) + 1


@pytest.mark.parametrize(
    ("code", "resumable"), [(0, "false"), (6, "false"), (7, "true"), (75, "true"), (143, "true")]
)
def test_who_asks_whether_to_go_on_without_a_person_is_told(code: int, resumable: str) -> None:
    player = Player({"WP01": ()})
    player.begin()
    player.end(code)
    report = told(player.lines)
    assert dict(figures(report, texts(report), ""))["resumable"] == resumable


def test_gitlab_gets_few_enough_variables_in_one_line_each() -> None:
    report = of_99()
    text = gitlab.variables(figures(report, texts(report), "report.html"))
    assert len(text.splitlines()) <= 20
    assert len(text.encode()) < 5 * 1024
    for line in text.splitlines():
        name, _, value = line.partition("=")
        assert name.startswith("ORCHESTRATOR_")
        assert name.replace("_", "").isalnum()
        assert len(value) <= 200


def test_the_summary_of_99_work_packages_is_read_at_once_and_has_all_of_them() -> None:
    report = of_99()
    assert len(report.attempts) > 350
    text = markdown(report, texts(report))
    assert len(text.encode()) < 200_000 < github.LARGEST_SUMMARY
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| WP" in line]
    assert len(rows) == 99 + 1
    assert text.count("```mermaid") == 2
    assert "Left out" not in text
    assert "not drawn" not in text


def test_a_summary_with_little_room_leaves_out_with_a_count() -> None:
    report = of_99()
    for room in (3_000, 20_000, 60_000):
        text = markdown(report, texts(report), most_bytes=room)
        assert len(text.encode()) <= room
        assert text.startswith("### 🟠 ")
        assert "Left out here: " in text.splitlines()[-1]
    assert "Left out here: " in markdown(report, texts(report), most_bytes=3_000).split("</details>")[0]


def test_a_red_gate_is_told_where_a_person_is_needed_and_the_same_output_once_below() -> None:
    report = told(played({"WP01": ()}, {"WP01": (Comes(red="tests", tail="assert 1 == 2\nE  no"),) * 9}))
    text = markdown(report, texts(report))
    first, table, below = text.partition("| state | WP |")
    assert table
    assert "<details><summary>What gate tests said</summary>\n\n```\nassert 1 == 2\nE  no\n```" in first
    assert below.count("assert 1 == 2") == 1
    assert below.count(", with the same output") == len(report.wps[0].gates) - 1 > 0


def test_pictures_keep_to_what_mermaid_draws() -> None:
    report = of_99()
    for picture in markdown(report, texts(report)).split("```mermaid\n")[1:]:
        drawn = picture.split("\n```")[0]
        assert len(drawn) < 50_000
        assert drawn.count("-->") + drawn.count("==>") < 500


def test_a_service_that_draws_nothing_gets_no_pictures() -> None:
    report = told(stuck())
    assert "mermaid" not in markdown(report, texts(report), pictures=False)


def test_the_test_report_of_99_work_packages_keeps_to_the_schema() -> None:
    report = of_99()
    text = junit(report, texts(report))
    xmlschema.XMLSchema(SCHEMA).validate(text)
    assert text.count("<testcase ") == 99


@pytest.mark.parametrize("text", ["a::b # c", "## [1.0]", "----", "x --- y"])
def test_what_is_no_command_is_printed_as_it_is(text: str) -> None:
    assert inert(text) == text
