"""The report of a mission's runs: what its page holds, the command, and the end of each run."""

import csv
import io
import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.cli.journals import start_line, write_journal
from tests.journals import POLICY, ROOT, SLUG, Comes, Player, names, played, rejected

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.report import reported
from spec_kitty_orchestrator.core.model import Outcome, Usage
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run_events import Line, RunAborted
from spec_kitty_orchestrator.core.verdict import Finding
from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.report import documents
from spec_kitty_orchestrator.views.report.documents import document
from spec_kitty_orchestrator.views.report.markdown import markdown
from spec_kitty_orchestrator.views.report.page import page
from spec_kitty_orchestrator.views.report.texts import Texts

Project = Any  # the class lives in conftest, which tests cannot import
BASE = Path(ROOT, ".kittify/orchestrator", SLUG)
DIAMOND = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",), "WP04": ("WP02", "WP03")}
STUCK = Comes(findings=(Finding("critical", "It is read whole into memory", "a.py", 3),), summary="Too large")


def told(lines: list[Line]) -> Report:
    return record(lines).report(lines[-1].at, active=False)


def shown(lines: list[Line], redactor: Redactor | None = None) -> str:
    report = told(lines)
    texts = Texts(report, redactor or Redactor(), Path(ROOT), BASE)
    return page(report, texts, "0.2.0", str(BASE / "journal.jsonl"))


def stuck() -> list[Line]:
    """Return the journal of a mission in which WP02 was rejected twice for the same."""
    return played(DIAMOND, {"WP02": (Comes(), STUCK, Comes(), STUCK)})


def test_what_needs_a_person_comes_first_with_its_findings_and_commands() -> None:
    html = shown(stuck())
    needs = html[html.index('id="needs"') : html.index('id="timeline"')]
    assert "<h1>2 of 4 work packages are done; WP02 needs you; WP04 waits for it.</h1>" in html
    assert "It is read whole into memory" in needs
    assert f"spec-kitty-orchestrator retry WP02 --mission {SLUG} --note" in needs
    assert f"spec-kitty-orchestrator resume --mission {SLUG}" in needs


def test_a_mission_that_is_done_is_told_how_it_is_merged() -> None:
    html = shown(played(DIAMOND))
    assert f"spec-kitty-orchestrator orchestrate --mission {SLUG} --merge --accept" in html
    assert "Needs you" not in html


def test_a_cost_that_was_not_told_is_unknown_and_the_sum_is_a_lower_bound() -> None:
    silent = Comes(usage=Usage(1000, 10))
    html = shown(played({"WP01": ()}, {"WP01": (Comes(usage=Usage(10, 1, 0.25)), silent)}))
    assert "<b>$0.25 or more</b>codex: not told" in html
    assert ">unknown" in html


def test_the_time_between_two_starts_is_cut_out() -> None:
    player = Player({"WP01": (), "WP02": ("WP01",)})
    player.begin()
    player.play(12)
    player.wait(7200)
    player.begin()
    player.play()
    player.end()
    html = shown(player.lines)
    assert "Cut out at the red lines, because no run went on" in html
    assert "before start 2" in html


def test_the_longest_chain_says_whether_more_slots_would_have_helped() -> None:
    assert "More slots would not have made it shorter" in shown(played(DIAMOND))


def test_the_page_lets_run_its_own_script_and_style_alone() -> None:
    html = shown(stuck())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>", html, re.DOTALL)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]
    assert not re.search(r'\son\w+="|\sstyle="|javascript:|https?://', html)


def test_markup_in_what_others_say_is_text() -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>]]></style>{{ 7*7 }}'
    findings = (Finding(evil, evil, evil, 1),)
    scripts = {
        "WP01": (Comes(outcome=Outcome.CRASHED, detail=evil), Comes(), Comes(findings=findings, summary=evil))
    }
    html = shown(played({"WP01": ()}, scripts, titles={"WP01": evil}))
    assert html.count("<script>") == 1
    assert "<img" not in html
    assert "{{ 7*7 }}" in html


def test_secrets_and_paths_of_this_machine_are_not_in_it() -> None:
    secret = "hunter2-and-more"
    detail = f"{ROOT}/.worktrees/{SLUG}-lane-wp01/src/a.py: bad password {secret}\x1b[2J"
    lines = played({"WP01": ()}, {"WP01": (Comes(outcome=Outcome.CRASHED, detail=detail),)})
    html = shown(lines, Redactor([secret]))
    assert secret not in html
    assert "src/a.py: bad password [redacted]" in html
    assert f"{ROOT}/" not in html
    assert "\x1b" not in html


def test_links_to_logs_are_relative_to_the_report_and_cannot_be_anything_else() -> None:
    html = shown(stuck())
    addresses = set(re.findall(r'href="([^"]*)"', html))
    assert f"./../../logs/{SLUG}/WP02/01-implement-claude-code/stdout.log" in addresses
    assert "./journal.jsonl" in addresses
    assert all(one.startswith(("#", "./")) for one in addresses)


@pytest.fixture
def run_here(project: Project) -> Project:
    """A project whose mission was run."""
    write_journal(project, start_line())
    return project


def test_the_command_writes_the_page_beside_the_journal_for_its_owner_alone(run_here: Project) -> None:
    done = run_here.run("report")
    page_file = Path(done.stdout.strip())
    assert done.returncode == 0
    assert page_file.parent == run_here.root / ".kittify" / "orchestrator" / "demo-01ABC"
    assert page_file.stat().st_mode & 0o777 == 0o600
    assert page_file.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--output", "/nowhere/report.html"), "error: /nowhere/report.html cannot be written: "),
        (("--mission", "other"), "error: other was not run here; run here: demo-01ABC; "),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    run_here: Project, args: tuple[str, ...], said: str
) -> None:
    done = run_here.run("report", *args)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_where_nothing_was_run_there_is_no_report(project: Project) -> None:
    done = project.run("report")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no mission was run here yet; `orchestrate` starts one\n",
    )


def formatted(lines: list[Line], write: Any, redactor: Redactor | None = None) -> str:
    report = told(lines)
    text: str = write(report, Texts(report, redactor or Redactor(), Path(ROOT), BASE))
    return text


EVIL = "<b>@everyone</b> [x](javascript:1) ![i](http://a.b/c.png) `code` | $x$ #12 www.evil.test ```\n# big"


def hostile() -> list[Line]:
    """Return the journal of a mission in which everything that is said is Markdown, and a formula."""
    findings = (Finding("major", f"=HYPERLINK(1) {EVIL}", "=cmd", 1),)
    scripts = {
        "WP01": (Comes(red="tests", tail=f"````\n{EVIL}"), Comes(), Comes(findings=findings, summary=EVIL))
    }
    return played({"WP01": ()}, scripts, titles={"WP01": f"=1+2 {EVIL}"})


def test_markdown_has_what_needs_a_person_first_and_the_graph() -> None:
    text = formatted(stuck(), markdown)
    assert text.startswith("### 🔴 2 of 4 work packages are done; WP02 needs you; WP04 waits for it.\n")
    assert text.index("spec-kitty-orchestrator retry WP02") < text.index("| state | WP |")
    assert "```mermaid\nflowchart LR\n" in text
    assert "w1 --> w3" in text


def test_markdown_mentions_nobody_links_nowhere_and_stays_in_its_place() -> None:
    text = formatted(hostile(), markdown)
    outside = re.sub(r"^(`{3,})[^`\n]*\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "@everyone" not in outside
    assert not re.search(r"(?<!\\)\[x|(?<!\\)!?\[i|https?:|www\.|(?<!\\)`code|(?<!\\)\$x|#12", outside)
    assert not re.search(r"<(?!details|/details|summary|/summary|br)", outside)
    rows = [line for line in outside.splitlines() if line.startswith("| ") and "WP01" in line]
    assert [len(re.findall(r"(?<!\\)\|", one)) for one in rows] == [9]
    assert "`````\n````" in text


def test_markdown_of_a_large_mission_leaves_out_with_a_count_and_points_to_the_page() -> None:
    many = tuple(Finding("major", f"{place} " + "x" * 900) for place in range(90))
    ids = names(3)
    text = formatted(
        played(dict.fromkeys(ids, ()), {one: (Comes(), Comes(findings=many)) for one in ids}), markdown
    )
    assert 150_000 < len(text.encode()) < 200_000
    assert text.endswith(
        "Left out here: what went wrong with 1 work package. "
        "The whole report: `report.html` beside the journal.\n"
    )


def test_the_document_says_its_schema_and_all_that_the_page_says() -> None:
    found = json.loads(formatted(stuck(), document))
    assert found["schema"] == 1
    assert found["headline"] == "2 of 4 work packages are done; WP02 needs you; WP04 waits for it"
    (stopped,) = [one for one in found["work_packages"] if one["status"] == "needs you"]
    assert [one["bad"] for one in stopped["attempts"]] == [None, "rejected", None, "rejected"]
    assert stopped["attempts"][1]["verdict"]["findings"][0]["message"] == "It is read whole into memory"
    assert stopped["attempts"][0]["logs"] == f".kittify/logs/{SLUG}/WP02/01-implement-claude-code"
    assert found["needs"][0]["work_packages"] == ["WP02"]
    assert "/repo" not in json.dumps(found)


def test_each_attempt_is_a_row_of_csv_and_no_cell_a_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(formatted(hostile(), documents.rows))))
    assert [one["attempt"] for one in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["title"].startswith("'=1+2")
    assert rows[0]["took_s"] == "60.0"
    assert not any(cell.startswith(("=", "+", "-", "@")) for one in rows for cell in one.values())


def test_a_trace_has_a_row_for_each_slot_and_work_in_none_of_them_overlaps() -> None:
    events = json.loads(formatted(stuck(), documents.trace))["traceEvents"]
    names = {
        one["tid"]: one["args"]["name"] for one in events if one["name"] == "thread_name" and one["pid"] == 1
    }
    assert set(names.values()) <= {f"slot {number}" for number in range(1, 5)}
    work = [one for one in events if one["ph"] == "X" and one["pid"] == 1]
    assert "WP02 review 2" in {one["name"] for one in work}
    for tid in names:
        row = sorted((one["ts"], one["ts"] + one["dur"]) for one in work if one["tid"] == tid)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(row))


@pytest.mark.parametrize("write", [markdown, document, documents.rows, documents.trace])
def test_no_format_holds_a_secret(write: Any) -> None:
    secret = "hunter2-and-more"
    scripts = {
        "WP01": (
            Comes(outcome=Outcome.CRASHED, detail=f"password {secret}"),
            Comes(red="tests", tail=f"token {secret}"),
            Comes(),
            Comes(findings=(Finding("major", f"do not write {secret}"),), summary=f"it writes {secret}"),
        )
    }
    lines = played({"WP01": ()}, scripts, titles={"WP01": f"Keep {secret}"})
    assert secret not in formatted(lines, write, Redactor([secret]))


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("md", "### "),
        ("json", '{\n "schema": 1,'),
        ("csv", "mission,wp,"),
        ("trace", '{"displayTimeUnit": "ms"'),
    ],
)
def test_other_formats_go_to_stdout_or_where_one_wants_them(
    run_here: Project, form: str, begins: str
) -> None:
    assert run_here.run("report", "--format", form).stdout.startswith(begins)
    done = run_here.run("report", "--format", form, "--output", "out.txt")
    assert done.stdout == ""
    assert (run_here.root / "out.txt").read_text().startswith(begins)


def test_each_end_of_a_run_leaves_a_report_and_the_summary_says_where(project: Project) -> None:
    project.lanes({"WP01": "done"})
    done = project.orchestrate()
    assert "Report: .kittify/orchestrator/demo-01ABC/report.html\n" in done.stdout
    assert (project.root / ".kittify/orchestrator/demo-01ABC/report.html").exists()


def test_a_run_that_is_not_to_leave_one_leaves_none(project: Project) -> None:
    project.lanes({"WP01": "done"})
    done = project.orchestrate("--no-report")
    assert "report.html" not in done.stdout
    assert not (project.root / ".kittify/orchestrator/demo-01ABC/report.html").exists()


def test_a_report_that_cannot_be_written_is_one_warning_and_no_failure(project: Project) -> None:
    project.lanes({"WP01": "done"})
    (project.root / ".kittify/orchestrator/demo-01ABC/report.html").mkdir(parents=True)
    done = project.orchestrate()
    assert done.returncode == 0
    assert len(re.findall(r"warning: the report was not written", done.stdout)) == 1


def test_a_run_that_was_aborted_or_cut_off_is_told_so() -> None:
    player = Player({"WP01": ()})
    player.begin()
    player.play(9)
    assert "<b>cut off</b>" in shown(player.lines)
    aborted = RunAborted(player.now, "1 agent was stopped")
    html = shown([*player.lines, aborted])
    assert "<b>aborted</b>" in html
    assert "1 agent was stopped" in html


def test_a_run_that_failed_before_its_first_line_has_a_page_too() -> None:
    report = record([]).report(Player({}).now, active=False)
    html = page(report, Texts(report, Redactor(), Path(ROOT), BASE), "0.2.0", str(BASE / "journal.jsonl"))
    assert "<b>not run</b>" in html


def test_while_a_run_goes_on_its_report_says_as_of_when_and_asks_for_nothing() -> None:
    player = Player({"WP01": ()})
    player.begin()
    player.play(9)
    report = record(player.lines).report(player.now, active=True)
    html = page(report, Texts(report, Redactor(), Path(ROOT), BASE), "0.2.0", str(BASE / "journal.jsonl"))
    assert "<b>running</b>" in html
    assert f"The run goes on; this page tells of it as of {player.now:%H:%M:%S} UTC." in html
    assert "spec-kitty-orchestrator resume" not in html


def test_what_several_work_packages_have_in_common_is_told_once() -> None:
    ids = names(2)
    broken = Comes(outcome=Outcome.FAILED, detail="the prompt is longer than the model allows")
    policy = replace(POLICY, impl_agents=("claude-code",), max_attempts=1)
    lines = played(dict.fromkeys(ids, ()), dict.fromkeys(ids, (broken,)), policy=policy)
    html = shown(lines)
    assert "2 work packages, for one reason" in html
    assert f"spec-kitty-orchestrator retry --cause c1 --mission {SLUG}" in html


def test_what_reviewers_ask_for_is_told_for_each_work_package() -> None:
    ids = names(2)
    scripts = {one: (Comes(), rejected(place)) for place, one in enumerate(ids)}
    html = shown(played(dict.fromkeys(ids, ()), scripts, policy=replace(POLICY, max_review_cycles=1)))
    needs = html[html.index('id="needs"') : html.index('id="timeline"')]
    for place, one in enumerate(ids):
        assert rejected(place).findings[0].message in needs
        assert f"retry {one} --mission" in needs


def test_a_run_that_breaks_leaves_a_report_and_says_where(run_here: Project) -> None:
    said: list[str] = []
    opened = open_project(run_here.root, {}, {})

    async def broken() -> None:
        async with reported(opened, "demo-01ABC", said.append, {}, lambda _: None):
            raise HostError("the host is gone")

    with pytest.raises(HostError):
        anyio.run(broken)
    page_file = run_here.root / ".kittify/orchestrator/demo-01ABC/report.html"
    assert page_file.exists()
    assert said == [f"the report of this run is in {page_file}"]
