"""Reports for CI: JUnit for test reports, SARIF for code scanning; both as their schemas want them."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema
from tests.journals import NOON, POLICY, ROOT, SLUG, Comes, Player, Scripts, played

from spec_kitty_orchestrator.core.findings import Severity, still_open
from spec_kitty_orchestrator.core.model import Lane, Outcome
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run_events import Failed, Line
from spec_kitty_orchestrator.core.verdict import Finding
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.report.junit import junit
from spec_kitty_orchestrator.views.report.sarif import sarif
from spec_kitty_orchestrator.views.report.texts import Texts

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
DIAMOND = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",), "WP04": ("WP02", "WP03")}
FOUND = Finding("critical", "It is read whole into memory", f"{ROOT}/src/a b.py", 3)
STUCK = Comes(findings=(FOUND, Finding("nit", "Name it")), summary="Too large")
ACTS = "\x1b[31m\x00\x08]]>&<b>\ufffe\ud800 \x85"


def told(lines: list[Line]) -> Report:
    return record(lines).report(lines[-1].at, active=False)


def texts(report: Report) -> Texts:
    return Texts(report, Redactor(), Path(ROOT), Path(ROOT, ".kittify"))


@cache
def of_suites() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")


@cache
def of_findings() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / "sarif-2.1.0.json").read_text()))


def cases(report: Report) -> dict[str, ElementTree.Element]:
    """Return the test cases by the first word of their names, of a report that the schema accepts."""
    text = junit(report, texts(report))
    of_suites().validate(text)
    return {str(one.get("name")).split(":")[0]: one for one in ElementTree.fromstring(text).iter("testcase")}


def ends(lines: list[Line]) -> dict[str, tuple[str, str]]:
    """Return how each test case ended: the element that says so, "" if it passed, and its type."""
    found = {}
    for name, case in cases(told(lines)).items():
        end = next((one for one in case if one.tag != "system-out"), None)
        found[name] = ("", "") if end is None else (end.tag, str(end.get("type")))
    return found


def results(lines: list[Line]) -> list[dict[str, Any]]:
    """Return the results of a file that the schema accepts."""
    report = told(lines)
    found = json.loads(sarif(report, texts(report), "0.2.0"))
    of_findings().validate(found)
    (run,) = found["runs"]
    assert all(
        run["tool"]["driver"]["rules"][one["ruleIndex"]]["id"] == one["ruleId"] for one in run["results"]
    )
    return list(run["results"])


def stuck(**scripts: tuple[Comes, ...]) -> list[Line]:
    return played(DIAMOND, {"WP02": (Comes(), STUCK, Comes(), STUCK), **scripts})


def test_who_is_rejected_fails_and_who_waits_is_skipped() -> None:
    assert ends(stuck()) == {
        "WP01": ("", ""),
        "WP02": ("failure", "rejected"),
        "WP03": ("", ""),
        "WP04": ("skipped", "held up"),
    }


def test_a_failure_says_what_is_wanted_and_the_command_to_answer_with() -> None:
    (failure,) = cases(told(stuck()))["WP02"].iter("failure")
    assert failure.text is not None
    assert failure.text.splitlines() == [
        "[critical] src/a b.py:3: It is read whole into memory",
        "[nit] Name it",
        f"spec-kitty-orchestrator retry WP02 --mission {SLUG} --note 'what to do differently'",
    ]


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        ({"WP01": (Comes(red="tests", tail="assert 1 == 2"),) * 9}, ("failure", "red gate")),
        ({"WP01": (Comes(Outcome.TIMEOUT, detail="too slow"),) * 9}, ("error", "timeout")),
    ],
)
def test_a_red_gate_is_a_failure_and_an_agent_that_breaks_an_error(
    scripts: Scripts, expected: tuple[str, str]
) -> None:
    assert ends(played({"WP01": ()}, scripts))["WP01"] == expected


def test_who_was_at_work_when_the_run_was_interrupted_is_skipped_and_an_error_if_the_run_broke() -> None:
    player = Player({"WP01": ()})
    player.begin()
    player.play(9)
    assert ends(player.lines)["WP01"] == ("skipped", "cut off")
    player.happen("", Failed("the disk is full"))
    assert ends(player.lines)["WP01"] == ("error", "broken")


def test_times_are_those_of_the_runs_and_of_the_work_with_three_decimals() -> None:
    lines = stuck()
    report = told(lines)
    text = junit(report, texts(report))
    suite = next(ElementTree.fromstring(text).iter("testsuite"))
    assert float(str(suite.get("time"))) == pytest.approx(report.took_s, abs=0.001)
    assert suite.get("timestamp") == NOON.isoformat(timespec="seconds")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    worked = {one.id: one.worked_s for one in report.wps}
    for name, case in cases(report).items():
        assert float(str(case.get("time"))) == pytest.approx(worked[name], abs=0.001)


def test_characters_that_xml_forbids_do_not_spoil_it() -> None:
    scripts = {"WP01": (Comes(detail=ACTS), Comes(findings=(Finding(ACTS, ACTS, ACTS),), summary=ACTS)) * 2}
    found = cases(told(played({"WP01": ()}, scripts, titles={"WP01": ACTS})))
    assert "]]>&<b>" in str(found["WP01"].get("name"))


def test_what_is_told_of_a_work_package_of_many_attempts_is_bounded() -> None:
    long = Comes(Outcome.FAILED, detail="x" * 3000)
    policy = replace(POLICY, max_attempts=25)
    report = told(played({"WP01": ()}, {"WP01": (long,) * 25}, policy=policy))
    out = cases(report)["WP01"].findtext("system-out")
    assert out is not None
    assert len(out) <= 8000
    assert out.startswith("…")


def test_findings_have_rule_level_place_and_commit() -> None:
    first, second = results(stuck())
    assert (first["ruleId"], first["level"]) == ("review/error", "error")
    assert first["message"]["text"] == "WP02: It is read whole into memory"
    assert first["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": "src/a%20b.py"}, "region": {"startLine": 3}}}
    ]
    assert re.fullmatch("[0-9a-f]{40}", first["properties"]["commit"])
    # What names no file is shown at the file of its work package: without a place it would be refused.
    assert second["level"] == "note"
    (place,) = second["locations"]
    assert place == {"physicalLocation": {"artifactLocation": {"uri": f"kitty-specs/{SLUG}/tasks/WP02.md"}}}


def test_findings_that_rework_answered_are_not_told() -> None:
    assert results(played(DIAMOND, {"WP02": (Comes(), STUCK)})) == []


def test_what_a_reviewer_remarks_and_approves_all_the_same_is_at_most_a_warning() -> None:
    lines = played({"WP01": ()}, {"WP01": (Comes(), replace(STUCK, approves=True))})
    assert [one["level"] for one in results(lines)] == ["warning", "note"]


@pytest.mark.parametrize("lane", [Lane.DONE, Lane.CANCELED])
def test_what_a_person_settled_in_another_way_is_no_longer_open(lane: Lane) -> None:
    lines = stuck(WP03=(Comes(red="tests"),) * 9)
    report = record(lines)
    state = report.state
    wps = {wp: replace(one, lane=lane) for wp, one in state.wps.items()}
    settled = report.report(NOON, active=False, state=replace(state, wps=wps))
    assert len(still_open(report.report(NOON, active=False))) == 3
    assert still_open(settled) == ()


def fingerprints(lines: list[Line]) -> list[str]:
    return [one["partialFingerprints"]["primaryLocationLineHash"] for one in results(lines)]


def test_a_finding_keeps_its_fingerprint_when_its_line_moves_and_twice_the_same_are_two() -> None:
    def asked(*findings: Finding) -> list[str]:
        end = Comes(findings=findings, summary="no")
        return fingerprints(played({"WP01": ()}, {"WP01": (Comes(), end, Comes(), end)}))

    (before,) = asked(FOUND)
    moved, again = asked(replace(FOUND, line=70), replace(FOUND, line=90))
    assert moved == before
    assert again != moved
    assert asked(replace(FOUND, message="another")) != [before]


@pytest.mark.parametrize(
    "named",
    [
        "/etc/passwd",
        "../../x.py",
        "a/../../x",
        "file:///etc/passwd",
        "https://a.b/c",
        "~/x",
        "C:\\x.py",
        "\n",
    ],
)
def test_no_place_outside_of_the_repository_is_named(named: str) -> None:
    end = Comes(findings=(Finding("major", "no", named, 1),), summary="no")
    (one,) = results(played({"WP01": ()}, {"WP01": (Comes(), end, Comes(), end)}))
    (place,) = one["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == f"kitty-specs/{SLUG}/tasks/WP01.md"


def test_paths_of_this_machine_are_in_neither_file() -> None:
    report = told(stuck())
    fit = texts(report)
    assert f"{ROOT}/" not in junit(report, fit) + sarif(report, fit, "0.2.0")


TAILS: Mapping[str, tuple[str, int]] = {
    'Traceback\n  File "src/a.py", line 7, in f\n    x()\n  File "src/b.py", line 12, in x\nValueError': (
        "src/b.py",
        12,
    ),
    "src/a.ts:3:5: error TS2304\nFound 1 error": ("src/a.ts", 3),
    "FAILED\nE   tests/test_a.py:41: AssertionError": ("tests/test_a.py", 41),
    "12:30:01: it failed": ("", 0),
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_red_gate_is_where_its_output_named_a_line_last(tail: str) -> None:
    (one,) = still_open(told(played({"WP01": ()}, {"WP01": (Comes(red="tests", tail=tail),) * 9})))
    assert (one.finding.file, one.finding.line) == TAILS[tail]
    assert (one.gate, one.severity, one.by) == (True, Severity.ERROR, "tests")


def test_a_gate_that_was_mended_is_not_open() -> None:
    assert still_open(told(played({"WP01": ()}, {"WP01": (Comes(red="tests"),)}))) == ()
