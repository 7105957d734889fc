"""The scripted agent's program, run as a real process the way the runner runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict, read_verdict

EXAMPLE = Path(__file__).parents[3] / "examples" / "scenario.toml"
HEAD = "0123456789abcdef0123456789abcdef01234567"
ATTEMPT = "a-77"
FRONT_MATTER = """---
work_package_id: WP03
subtasks:
- T001
- "T002"
create_intent:
- src/three/start.py
owned_files:
- src/three/**
---
# WP03: Three
Work package: WP99
"""
AGENT = find("scripted")
LIMIT_S = 30
Run = Callable[..., AgentReport]


def prompt(number: int = 1, markdown: str = FRONT_MATTER) -> str:
    top = f"Role: any\nWork package: WP03\nAttempt: {ATTEMPT}\nHead: {HEAD}\nRound: {number}\n"
    return f"{top}\nDo it.\n\n<work-package>\n{markdown}\n</work-package>\n\nAttempt: not-this-line\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "wt"
    path.mkdir()
    return path


@pytest.fixture
def run(tmp_path: Path, workspace: Path) -> Run:
    def run(role: Role, scenario: str = "", text: str = "") -> AgentReport:
        file = tmp_path / "scenario.toml"
        file.write_text(scenario)
        settings = AgentSettings(scenario=file if scenario else None)
        command = AGENT.command(Assignment(role, workspace, ATTEMPT, workspace), settings)
        done = subprocess.run(
            command.argv,
            cwd=workspace,
            input=(text or prompt()).encode(),
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        lines = done.stdout.decode("utf-8", "replace").splitlines(keepends=True)
        return AGENT.report(lines, done.stderr.decode(), done.returncode)

    return run


def told(found: AgentReport) -> dict[str, object]:
    words = json.loads(found.text[found.text.index("{") :])
    assert isinstance(words, dict)
    return words


def verdict(found: AgentReport) -> Verdict:
    return read_verdict(found.text, attempt_id=ATTEMPT, head=HEAD, reviewer="scripted")


def test_without_a_scenario_an_implementer_writes_its_file_and_reports_every_subtask(
    run: Run, workspace: Path
) -> None:
    found = run(Role.IMPLEMENT)
    assert (found.outcome, found.session, found.exit_code) == (Outcome.OK, f"scripted-{ATTEMPT}", 0)
    assert (workspace / "src/three/start.py").read_text().startswith("# WP03: written by")
    assert told(found)["attempt"] == ATTEMPT
    assert told(found)["subtasks_done"] == ["T001", "T002"]
    assert told(found)["no_change_reason"] == ""


def test_without_a_scenario_a_reviewer_approves_and_touches_nothing(run: Run, workspace: Path) -> None:
    assert verdict(run(Role.REVIEW)).ruling is Ruling.APPROVED
    assert list(workspace.iterdir()) == []


def test_rework_changes_the_file_again_and_keeps_what_was_there(run: Run, workspace: Path) -> None:
    run(Role.IMPLEMENT)
    first = (workspace / "src/three/start.py").read_text()
    run(Role.IMPLEMENT, text=prompt(2))
    second = (workspace / "src/three/start.py").read_text()
    assert second.startswith(first)
    assert second != first


@pytest.mark.parametrize(
    ("front_matter", "written"),
    [
        ("---\nowned_files: ['src/a/**', x]\n---\n", "src/a/wp03.txt"),
        ("---\nowned_files:\n- docs/b.md\n---\n", "docs/b.md"),
        ("---\nowned_files:\n- kitty-specs/m/data-model.md\n- src/a/**\n---\n", "src/a/wp03.txt"),
        ("---\nowned_files:\n- '**/*.py'\n---\n", "wp03.txt"),
        ("---\nowned_files:\n- ../out.txt\n- /etc/out.txt\n---\n", "wp03.txt"),
        ("no front matter", "wp03.txt"),
    ],
)
def test_the_file_lies_where_the_work_package_owns_it_and_never_outside(
    run: Run, workspace: Path, front_matter: str, written: str
) -> None:
    assert run(Role.IMPLEMENT, text=prompt(markdown=front_matter)).outcome is Outcome.OK
    files = [str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()]
    assert files == [written]
    assert not (workspace.parent / "out.txt").exists()


def test_edits_replace_append_and_delete(run: Run, workspace: Path) -> None:
    (workspace / "a.txt").write_text("old\n")
    (workspace / "gone.txt").write_text("old\n")
    run(
        Role.IMPLEMENT,
        '[WP03.implement]\ndelete = ["gone.txt", "never.txt"]\n'
        'edits = [{path = "a.txt", content = "new\\n", append = true}, {path = "d/b.txt", content = "b"}]\n',
    )
    assert (workspace / "a.txt").read_text() == "old\nnew\n"
    assert (workspace / "d/b.txt").read_text() == "b"
    assert not (workspace / "gone.txt").exists()


def test_a_command_runs_without_a_shell_and_its_end_is_told(run: Run, workspace: Path) -> None:
    argv = json.dumps([sys.executable, "-c", "open('made.txt','w').write('$HOME; x')"])
    assert run(Role.IMPLEMENT, f"[WP03.implement]\nrun = {argv}\n").outcome is Outcome.OK
    assert [path.name for path in workspace.iterdir()] == ["made.txt"]
    assert (workspace / "made.txt").read_text() == "$HOME; x"


def test_the_agent_can_commit_by_itself(run: Run, workspace: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=workspace, check=True)
    assert run(Role.IMPLEMENT, "[defaults.implement]\ncommit = true\n").outcome is Outcome.OK
    log = subprocess.run(
        ["git", "log", "--format=%s", "--name-only"],
        cwd=workspace,
        check=True,
        capture_output=True,
        text=True,
    )
    assert log.stdout.split("\n\n") == ["WP03: scripted commit", "src/three/start.py\n"]


@pytest.mark.parametrize(
    ("outcome", "expected", "exit_code"),
    [
        ("crash", Outcome.CRASHED, 3),
        ("no_result", Outcome.CRASHED, 0),
        ("garbage", Outcome.CRASHED, 0),
        ("fail", Outcome.FAILED, 1),
        ("rate_limited", Outcome.RATE_LIMITED, 1),
        ("overloaded", Outcome.OVERLOADED, 1),
        ("auth", Outcome.AUTH, 1),
        ("invalid_request", Outcome.INVALID_REQUEST, 1),
        ("budget", Outcome.BUDGET, 1),
    ],
)
@pytest.mark.parametrize("role", Role)
def test_it_fails_in_the_way_that_the_scenario_names(
    run: Run, workspace: Path, role: Role, outcome: str, expected: Outcome, exit_code: int
) -> None:
    found = run(role, f'[defaults.{role}]\noutcome = "{outcome}"\n')
    assert (found.outcome, found.exit_code, found.text) == (expected, exit_code, "")
    assert found.detail
    assert list(workspace.iterdir()) == []


def test_a_rate_limit_tells_when_it_ends(run: Run) -> None:
    found = run(Role.REVIEW, '[WP03.review]\noutcome = "rate_limited"\nretry_after_s = 90\n')
    assert found.retry_after_s == 90.0


def test_usage_is_what_the_scenario_says(run: Run) -> None:
    usage = "usage = { input_tokens = 5, output_tokens = 6, cost_usd = 0.5 }"
    found = run(Role.REVIEW, f"[WP03.review]\n{usage}\n").usage
    assert (found.input_tokens, found.output_tokens, found.cost_usd) == (5, 6, 0.5)


def test_the_nth_entry_of_a_list_is_for_the_nth_round_and_the_last_repeats(run: Run) -> None:
    scenario = '[[WP03.review]]\nverdict = "changes_requested"\n[[WP03.review]]\nverdict = "approved"\n'
    rulings = [verdict(run(Role.REVIEW, scenario, prompt(number))).ruling for number in (1, 2, 3)]
    assert rulings == [Ruling.CHANGES_REQUESTED, Ruling.APPROVED, Ruling.APPROVED]


def test_a_work_package_overrides_single_keys_of_the_defaults(run: Run) -> None:
    scenario = '[defaults.review]\nverdict = "prose"\nsummary = "S"\n[WP03.review]\nverdict = "approved"\n'
    found = verdict(run(Role.REVIEW, scenario))
    assert (found.ruling, found.summary) == (Ruling.APPROVED, "S")


@pytest.mark.parametrize(
    "kind", ["prose", "wrong_sha", "wrong_attempt", "contradiction", "invalid_json", "quoted"]
)
def test_a_verdict_that_must_not_count_does_not(run: Run, kind: str) -> None:
    found = run(Role.REVIEW, f'[WP03.review]\nverdict = "{kind}"\n')
    assert found.outcome is Outcome.OK
    assert verdict(found).ruling is Ruling.UNUSABLE


def test_findings_reach_the_verdict(run: Run) -> None:
    scenario = (
        '[WP03.review]\nverdict = "changes_requested"\n'
        'findings = [{ severity = "minor", file = "a.py", line = 4, message = "why" }]\n'
    )
    (finding,) = verdict(run(Role.REVIEW, scenario)).findings
    assert (finding.severity, finding.file, finding.line, finding.message) == ("minor", "a.py", 4, "why")


@pytest.mark.parametrize(("subtasks", "expected"), [('"none"', []), ('["T002"]', ["T002"])])
def test_the_report_names_the_subtasks_that_the_scenario_names(
    run: Run, subtasks: str, expected: list[str]
) -> None:
    assert (
        told(run(Role.IMPLEMENT, f"[WP03.implement]\nsubtasks = {subtasks}\n"))["subtasks_done"] == expected
    )


def test_a_report_of_no_change_has_a_reason_and_writes_nothing(run: Run, workspace: Path) -> None:
    assert told(run(Role.IMPLEMENT, '[WP03.implement]\nreport = "no_change"\n'))["no_change_reason"]
    assert list(workspace.iterdir()) == []


def test_a_report_can_be_left_out(run: Run) -> None:
    found = run(Role.IMPLEMENT, "[WP03.implement]\nreport = false\n")
    assert found.outcome is Outcome.OK
    assert "{" not in found.text


def test_a_reviewer_can_edit_so_that_the_tamper_check_has_something_to_find(
    run: Run, workspace: Path
) -> None:
    run(Role.REVIEW, '[WP03.review]\nedits = { "evil.txt" = "x" }\n')
    assert (workspace / "evil.txt").exists()


def test_a_flood_is_as_big_as_told_and_the_result_still_follows(run: Run, workspace: Path) -> None:
    command = AGENT.command(
        Assignment(Role.REVIEW, workspace, ATTEMPT, workspace),
        AgentSettings(scenario=workspace.parent / "scenario.toml"),
    )
    (workspace.parent / "scenario.toml").write_text("[WP03.review]\nflood_mb = 3\n")
    done = subprocess.run(
        command.argv, cwd=workspace, input=prompt().encode(), capture_output=True, timeout=LIMIT_S, check=True
    )
    assert 2_900_000 < len(done.stdout) < 3_100_000
    assert AGENT.report(done.stdout.decode().splitlines(), "", 0).outcome is Outcome.OK


def started(workspace: Path, scenario: str) -> subprocess.Popen[bytes]:
    file = workspace.parent / "scenario.toml"
    file.write_text(scenario)
    settings = AgentSettings(scenario=file)
    command = AGENT.command(Assignment(Role.IMPLEMENT, workspace, ATTEMPT, workspace), settings)
    child = subprocess.Popen(
        command.argv, cwd=workspace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None
    child.stdin.write(prompt().encode())
    child.stdin.close()
    return child


def test_a_hanging_agent_has_done_its_edits_and_dies_of_its_stop_signal(workspace: Path) -> None:
    child = started(workspace, '[WP03.implement]\nedits = { "half.txt" = "x" }\noutcome = "hang"\n')
    assert child.stdout is not None
    with child:
        lines = [json.loads(child.stdout.readline()) for _ in range(2)]
        assert [line["type"] for line in lines] == ["started", "message"]
        assert (workspace / "half.txt").exists()
        child.send_signal(signal.SIGTERM)
        assert child.wait(LIMIT_S) == -signal.SIGTERM


def test_an_orphan_outlives_the_agent_in_a_session_of_its_own(workspace: Path) -> None:
    with started(workspace, "[WP03.implement]\nedits = {}\nspawn_orphan = true\n") as child:
        assert child.stdout is not None
        events = [json.loads(line) for line in child.stdout]
        assert child.wait(LIMIT_S) == 0
    (pid,) = [event["pid"] for event in events if event["type"] == "orphan"]
    orphan = psutil.Process(pid)
    try:
        assert orphan.is_running()
        assert os.getsid(pid) == pid
    finally:
        orphan.kill()


@pytest.mark.parametrize(
    ("scenario", "complaint"),
    [
        ("[WP03.implement]\ncomit = true\n", "[WP03.implement]: unknown key 'comit'"),
        ('[WP03.implement]\nsleep = "long"\n', "sleep cannot be 'long'"),
        ('[WP03.implement]\noutcome = "explode"\n', "outcome cannot be 'explode' (known: ok, crash"),
        ('[WP03.implement]\nsubtasks = "some"\n', "subtasks cannot be 'some'"),
        ('[[WP01.review]]\nverdict = "maybe"\n', "[WP01.review]: verdict cannot be 'maybe'"),
        ("[WP03]\nimplment = {}\n", "[WP03] may hold the tables 'implement' and 'review' only"),
        ("WP03 = 1\n", "[WP03] may hold"),
        ("[WP03]\nimplement = [1]\n", "must be a table"),
        ("[WP03]\nreview = []\n", "must be a table"),
        ("[WP03.implement]\nedits = [{ content = 'x' }]\n", "must be strings"),
        ("[WP03.implement]\nrun = [1]\n", "must be strings"),
        ("[WP03.implement\n", "scenario.toml"),
    ],
)
def test_a_mistake_in_the_scenario_is_told_and_nothing_is_done(
    run: Run, workspace: Path, scenario: str, complaint: str
) -> None:
    found = run(Role.IMPLEMENT, scenario)
    assert found.outcome is Outcome.INVALID_REQUEST
    assert complaint in found.detail
    assert list(workspace.iterdir()) == []


def test_an_edit_that_the_disk_refuses_is_a_failure_with_its_reason(run: Run, workspace: Path) -> None:
    (workspace / "a").write_text("a file")
    found = run(Role.IMPLEMENT, '[WP03.implement]\nedits = { "a/b.txt" = "x" }\n')
    assert found.outcome is Outcome.FAILED
    assert "a" in found.detail


def test_a_prompt_that_names_no_work_package_is_refused(run: Run) -> None:
    found = run(Role.IMPLEMENT, text="Do something.")
    assert (found.outcome, "Work package" in found.detail) == (Outcome.INVALID_REQUEST, True)


def test_the_example_scenario_is_valid_and_sends_wp02_back_once(run: Run) -> None:
    quick = EXAMPLE.read_text().replace("sleep = 2.0", "sleep = 0").replace("sleep = 1.0", "sleep = 0")
    rulings = [
        verdict(
            run(Role.REVIEW, quick, prompt(number).replace("Work package: WP03", "Work package: WP02"))
        ).ruling
        for number in (1, 2)
    ]
    assert rulings == [Ruling.CHANGES_REQUESTED, Ruling.APPROVED]
    assert run(Role.IMPLEMENT, quick, prompt(1)).outcome is Outcome.CRASHED
    assert run(Role.IMPLEMENT, quick, prompt(2)).outcome is Outcome.OK
