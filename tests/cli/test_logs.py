"""`logs`: what a journal and the files of its attempts show, with the output of real CLIs."""

import io
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import SLUG, Line, event, start_line, write_journal
from tests.cli.working import LIMIT_S, MAIN, ONE, at_work, environment, host_of_one

from spec_kitty_orchestrator.agents.steps import Step, StepKind
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.log import LogView

Project = Any  # the class lives in conftest, which tests cannot import

TRANSCRIPTS = Path(__file__).parents[1] / "core" / "agents" / "data"
AT = datetime(2026, 1, 2, 12, 0, 3, tzinfo=UTC)
KEY = "sk-ant-api03-" + "Ab3" * 30


def home(project: Project, wp: str, number: int, role: str, agent: str) -> Path:
    place: Path = project.root / ".kittify" / "logs" / SLUG / wp / f"{number:02d}-{role}-{agent}"
    place.mkdir(parents=True)
    (place / "prompt.md").write_text(f"Please {role}.\n")
    return place


def opened(wp: str, number: int, role: str, agent: str, head: str = "", directory: str = "") -> Line:
    made = {
        "id": f"id-{wp}-{number}",
        "number": number,
        "role": role,
        "agent": agent,
        "directory": directory or f".kittify/logs/{SLUG}/{wp}/{number:02d}-{role}-{agent}",
        "head": head,
    }
    return event(wp, "attempt_opened", attempt=made)


def exited(wp: str, number: int, outcome: str = "ok", verdict: object = None, detail: str = "") -> Line:
    report = {"outcome": outcome, "detail": detail}
    return event(wp, "agent_exited", attempt_id=f"id-{wp}-{number}", report=report, verdict=verdict)


def verdict(number: int, ruling: str) -> dict[str, object]:
    finding = {"severity": "major", "message": "Say \x1b[31mwhy\x1b[0m.", "file": "a.py", "line": 3}
    told = {"ruling": ruling, "head": "b" * 40, "attempt_id": f"id-WP01-{number}", "reviewer": "codex"}
    return {**told, "summary": "It is wrong.", "findings": [finding]}


@pytest.fixture
def logged(project: Project) -> Project:
    """WP01 was implemented by claude, failed a gate, and was sent back; WP02 is with its implementer."""
    first = home(project, "WP01", 1, "implement", "claude-code")
    shutil.copy(TRANSCRIPTS / "claude-code" / "success.stdout", first / "stdout.log")
    (first / "stdout.times").write_text("3000 1767323065000\n")
    os.utime(first / "stdout.log", (1767323166, 1767323166))
    command = {"attempt": "id-WP01-1", "agent": "claude-code", "role": "implement", "cwd": "/home/dev/wt"}
    (first / "command.json").write_text(json.dumps({**command, "argv": [], "env": {}, "stop_signal": "INT"}))
    second = home(project, "WP01", 2, "review", "codex")
    shutil.copy(TRANSCRIPTS / "codex" / "401.stdout", second / "stdout.log")
    (second / "stderr.log").write_text(f"\x1b]0;title\x07no key {KEY}\n")
    third = home(project, "WP01", 3, "review", "codex")
    shutil.copy(TRANSCRIPTS / "codex" / "review_reject.stdout", third / "stdout.log")
    gate = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-gate-tests"
    gate.mkdir()
    (gate / "stdout.log").write_text("1 failed \x1b[2J\n")
    home(project, "WP02", 1, "implement", "claude-code")
    base = project.git("rev-parse", "HEAD").strip()
    (project.root / "a.py").write_text("A = 1\n")
    project.git("add", "a.py")
    project.git("commit", "-qm", "work")
    head = project.git("rev-parse", "HEAD").strip()
    mission = {"slug": SLUG, "lanes": dict.fromkeys(("WP01", "WP02", "WP03"), "planned"), "dependencies": {}}
    red = {"name": "tests", "command": ["make"], "head": head, "ok": False, "seconds": 2.0, "log": str(gate)}
    write_journal(
        project,
        start_line(mission=mission),
        opened("WP01", 1, "implement", "claude-code", base),
        exited("WP01", 1),
        event("WP01", "committed", evidence={"base": base, "head": head, "stat": " 1 file changed"}),
        event("WP01", "gate_begun", name="tests", head=head, log=str(gate)),
        event("WP01", "gate_failed", result=red, tail="1 failed"),
        event("WP01", "review_claimed", base=base, head=head),
        opened("WP01", 2, "review", "codex", head),
        exited("WP01", 2, "auth", detail="no key"),
        event("WP01", "review_claimed", base=base, head=head),
        opened("WP01", 3, "review", "codex", head),
        exited("WP01", 3, verdict=verdict(3, "changes_requested")),
        opened("WP02", 1, "implement", "claude-code", base),
    )
    return project


def shown(project: Project, *args: str) -> list[str]:
    done = project.run("logs", *args)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert KEY not in done.stdout
    return [line.rstrip() for line in done.stdout.splitlines()]


def refused(project: Project, *args: str) -> str:
    done = project.run("logs", *args)
    assert (done.returncode, done.stdout) == (2, "")
    return str(done.stderr)


def test_an_attempt_is_told_in_words_with_what_became_of_it(logged: Project) -> None:
    lines = shown(logged, "WP01", "--attempt", "1")
    assert lines[:3] == [
        "── 03:04:05 implement by claude-code, attempt 1 ──",
        "03:04:25 edits  hello.txt",
        "03:06:06 runs   echo hi > b.txt; ls",
    ]
    assert lines[3].startswith("03:06:06 says   DONE: completed 2 step(s). [result 1] File created")
    assert [line.split(" ", 2)[1] for line in lines[4:]] == ["✓", "·", "✕"]
    assert "gate tests is red after 2.0s: 1 failed" in lines[-1]


def test_the_last_attempt_is_shown_unless_another_or_all_are_asked_for(logged: Project) -> None:
    assert shown(logged, "wp01")[0] == "── 03:04:05 review by codex, attempt 3 ──"
    rules = [line for line in shown(logged, "WP01", "--all") if line.startswith("──")]
    assert rules == [
        "── 03:04:05 implement by claude-code, attempt 1 ──",
        "── 03:04:05 review by codex, attempt 2 ──",
        "── 03:04:05 review by codex, attempt 3 ──",
    ]


def test_tools_alone_leave_out_what_is_said(logged: Project) -> None:
    verbs = [line.split()[1] for line in shown(logged, "WP01", "--attempt", "1", "--view", "tools")]
    assert verbs == ["03:04:05", "edits", "runs", "✓", "·", "✕"]


def test_the_raw_output_is_whole_and_safe_for_a_terminal(logged: Project) -> None:
    lines = shown(logged, "WP01", "--attempt", "2", "--view", "raw")
    assert lines[1] == (TRANSCRIPTS / "codex" / "401.stdout").read_text().splitlines()[0]
    assert lines[-2:] == ["── what it wrote to stderr ──", "no key [redacted]"]


def test_what_was_asked_is_shown(logged: Project) -> None:
    assert shown(logged, "WP02", "--view", "prompt") == [
        "── implement by claude-code, attempt 1: what it was asked ──",
        "Please implement.",
    ]


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_changes_are_those_that_were_made_or_reviewed(logged: Project, number: str) -> None:
    lines = shown(logged, "WP01", "--attempt", number, "--view", "diff")
    assert "+A = 1" in lines
    assert "diff --git a/a.py b/a.py" in lines


def test_the_verdict_is_the_last_one_with_its_findings(logged: Project) -> None:
    lines = shown(logged, "WP01", "--view", "verdict")
    assert lines[0] == "── 03:04:05 review by codex, attempt 3 ──"
    assert "codex asks for changes of bbbbbbbbbb" in lines[1]
    assert lines[2:] == ["It is wrong.", "[major] a.py:3 Say why."]


def test_a_gate_is_shown_with_its_output(logged: Project) -> None:
    lines = shown(logged, "WP01", "--view", "gate")
    assert lines[0].startswith("── gate tests on ")
    assert lines[1] == "1 failed"
    assert "✕      gate tests is red" in lines[2]


def test_all_that_failed_is_shown_by_its_end(logged: Project) -> None:
    lines = shown(logged, "--failed")
    assert [line for line in lines if line.startswith("──")] == [
        "── 03:04:05 WP01 gate tests, after attempt 1 ──",
        "── 03:04:05 WP01 review by codex, attempt 2 ──",
    ]
    assert "no key [redacted]" in lines
    assert lines[-1].endswith("✕      codex is not logged in (attempt 2): no key")
    assert shown(logged, "WP02", "--failed") == [f"nothing failed in {SLUG}"]


def test_the_files_can_be_asked_for(logged: Project) -> None:
    logs = logged.root / ".kittify" / "logs" / SLUG / "WP01"
    assert shown(logged, "WP01", "--path") == [str(logs / "03-review-codex" / "stdout.log")]
    assert shown(logged, "WP01", "--path", "--view", "gate") == [str(logs / "01-gate-tests")]
    assert shown(logged, "--failed", "--path") == [str(logs / "02-review-codex" / "stdout.log")]


def test_nothing_older_than_a_time_is_shown(logged: Project) -> None:
    lines = shown(logged, "WP01", "--attempt", "1", "--since", "2026-01-02T03:05")
    assert [line.split()[1] for line in lines] == ["03:04:05", "runs", "says"]
    assert shown(logged, "WP01", "--attempt", "1", "--since", "10m") == lines[:1]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "whose log? Name a work package, or give --failed"),
        (("WP09",), "WP09 is no work package of this mission; it has WP01, WP02, WP03"),
        (("WP03",), "WP03 has no attempt yet"),
        (("WP01", "--attempt", "4"), "no attempt 4; there is 1 (implement), 2 (review), 3 (review)"),
        (("WP02", "--view", "verdict"), "no attempt of WP02 has a verdict yet"),
        (("WP02", "--attempt", "1", "--view", "diff"), "attempt 1 of WP02 committed nothing"),
        (("WP01", "--attempt", "1", "--all"), "--attempt is one attempt of one work package"),
        (("WP01", "-f", "--view", "diff"), "-f follows words, tools, raw; diff is shown without it"),
        (("--failed", "-f"), "--failed shows the ends"),
        (("WP01", "--since", "noon"), "--since 'noon' is no time"),
        (("WP01", "--path", "--view", "diff"), "a diff is no file"),
        (("WP01", "--mission", "nope"), "nope was not run here"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(logged: Project, args: tuple[str, ...], told: str) -> None:
    said = refused(logged, *args)
    assert told in said
    assert said.count("\n") == 1


def test_without_a_run_there_is_nothing_to_show(project: Project) -> None:
    assert "no mission was run here yet" in refused(project, "WP01")


@pytest.mark.parametrize("directory", ["/etc", "../../outside", ".kittify/logs/../../../outside"])
def test_a_journal_that_names_another_folder_shows_nothing_of_it(
    project: Project, directory: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "stdout.log").write_text("private\n")
    lanes = {"slug": SLUG, "lanes": {"WP01": "planned"}, "dependencies": {}}
    opening = opened("WP01", 1, "implement", "mine", directory=directory)
    write_journal(project, start_line(mission=lanes), opening)
    head, instead = shown(project, "WP01", "--view", "raw")
    assert head == "── 03:04:05 implement by mine, attempt 1 ──"
    assert instead.startswith("(its output is not here: ")


def test_an_agent_that_is_not_configured_any_more_says_its_lines(project: Project) -> None:
    place = home(project, "WP01", 1, "implement", "gone")
    (place / "stdout.log").write_text("any words\n")
    lanes = {"slug": SLUG, "lanes": {"WP01": "planned"}, "dependencies": {}}
    write_journal(project, start_line(mission=lanes), opened("WP01", 1, "implement", "gone"))
    assert shown(project, "WP01")[1].endswith("says   any words")


@pytest.mark.parametrize("args", [(), ("WP01",)], ids=["all", "one"])
def test_following_a_run_tells_each_step_and_ends_with_the_run(
    project: Project, args: tuple[str, ...]
) -> None:
    host_of_one(project)
    with at_work(project, *ONE) as working:
        following = subprocess.Popen(
            [*MAIN, "logs", "-f", *args],
            cwd=project.root,
            env={**environment(project), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        with following:
            try:
                assert following.stdout is not None
                first = following.stdout.readline()
                working.let_the_agent_end()
                assert working.ended()[0] == 0
                rest, _ = following.communicate(timeout=LIMIT_S)
            finally:
                following.kill()
    who = "" if args else "WP01  "
    lines = [first, *rest.splitlines(keepends=True)]
    assert [line.startswith(who) for line in lines] == [True] * len(lines)
    told = [line.removeprefix(who).split(" ", 1)[1].strip() for line in lines]
    assert told[0].endswith("implement by one, attempt 1 ──")
    assert told[1].startswith("✓      one finished")
    assert any(one.endswith("review by one, attempt 2 ──") for one in told)
    assert told[-1] == "✓      done: approved, and recorded on the host"
    assert following.returncode == 0


def test_following_what_has_ended_shows_it_and_ends(logged: Project) -> None:
    lines = shown(logged, "WP01", "-f")
    assert lines[0] == "── 03:04:05 review by codex, attempt 3 ──"
    assert shown(logged, "-f") == ["WP02  ── 03:04:05 implement by claude-code, attempt 1 ──"]


def test_the_command_is_in_the_list_of_commands() -> None:
    done = subprocess.run([*MAIN, "--help"], capture_output=True, text=True, check=True)
    assert "logs " in done.stdout


def test_an_agent_that_outlived_its_run_is_followed_to_its_end(project: Project) -> None:
    host_of_one(project)
    with at_work(project, *ONE) as working:
        working.run.kill()
        working.run.wait(LIMIT_S)
        with subprocess.Popen(
            [*MAIN, "logs", "-f", "WP01"],
            cwd=project.root,
            env={**environment(project), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            try:
                assert following.stdout is not None
                assert following.stdout.readline().endswith("implement by one, attempt 1 ──\n")
                working.let_the_agent_end()
                assert following.wait(LIMIT_S) == 0
            finally:
                following.kill()


def test_on_a_terminal_a_long_text_stays_in_its_column() -> None:
    screen = io.StringIO()
    console = SteadyConsole(screen, redactor=Redactor(), force_terminal=True, width=50, no_color=True)
    view = LogView(console)
    view.step(Step(StepKind.SAYS, "one two three four five six seven eight", AT), "WP01")
    assert re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines() == [
        "WP01  12:00:03 says   one two three four five six",
        "WP01                  seven eight",
    ]
