"""`status` for people and scripts: what needs them comes first, with the command to type."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import POLICY, SLUG, Line, event, start_line, write_journal

from spec_kitty_orchestrator.app.status import StatusReader
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.screen import Screen
from spec_kitty_orchestrator.views.status_rows import mission_rows, wp_rows

PLACE = {"path": "w", "prompt_path": "p", "lane_id": "a", "branch": "b", "base_ref": "c"}
BASE, HEAD = "0" * 40, "a" * 40


Project = Any  # the class lives in conftest, which tests cannot import


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def mission(**lanes: str) -> dict[str, object]:
    needs = {"WP01": [], "WP02": ["WP01"], "WP03": ["WP02"]}
    titles = {"WP01": "Lay the ground", "WP02": "Build the house", "WP03": "Paint it"}
    return {"slug": SLUG, "lanes": lanes, "dependencies": needs, "titles": titles}


def attempt(wp: str, number: int, role: str, **more: object) -> dict[str, object]:
    directory = f".kittify/logs/{SLUG}/{wp}/{number:02}-{role}-scripted"
    return {
        "id": f"{wp}-{number}",
        "number": number,
        "role": role,
        "agent": "scripted",
        "directory": directory,
    } | more


def at_work(wp: str) -> list[Line]:
    return [
        event(wp, "workspace_resolved", workspace=PLACE),
        event(wp, "scheduled", lane="planned", workspace=PLACE),
        event(wp, "claimed", workspace=PLACE, head=BASE),
        event(wp, "attempt_opened", attempt=attempt(wp, 1, "implement")),
    ]


def parked(wp: str, reason: str) -> list[Line]:
    failed = event(wp, "workspace_failed", message=reason)
    return [*at_work(wp)[:3], failed, event(wp, "parked", lane="blocked")]


def begin(root: Path, *lines: Line, gates: tuple[object, ...] = (), **lanes: str) -> Path:
    folder = root / ".kittify" / "orchestrator" / SLUG
    folder.mkdir(parents=True)
    known = {"WP01": "planned", "WP02": "planned", "WP03": "planned"} | lanes
    start = start_line(mission=mission(**known), policy={**POLICY, "gates": gates})
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (start, *lines)))
    return folder


def shown(root: Path, width: int, monkeypatch: pytest.MonkeyPatch, wp: str = "") -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    found = StatusReader(root, SLUG, {}).read()
    screen = Screen(io.StringIO(), Redactor(), {})
    if wp:
        (one,) = (one for one in found.report.wps if one.id == wp)
        return screen.lines(wp_rows(found, one))
    return screen.lines(mission_rows(found, screen.size[0]))


def output(root: Path, wp: str, text: str) -> None:
    folder = root / ".kittify" / "logs" / SLUG / wp / "01-implement-scripted"
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text(text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_needs_a_person_comes_first_with_the_command_whatever_the_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    folder = begin(tmp_path, *parked("WP02", "the model is gone"), *at_work("WP01"))
    with MissionLock(folder, SLUG):
        lines = shown(tmp_path, width, monkeypatch)
    rows = [line for line in lines if line[:1] in "!■▶·‖–✓" and line]  # noqa: RUF001 - as it is shown
    assert [row[:6] for row in rows] == ["! WP02", "▶ WP01", "‖ WP03"]
    assert any(f"$ spec-kitty-orchestrator retry WP02 --mission {SLUG} --note" in line for line in lines)
    assert max(len(line) for line in lines if "$ " not in line and "To go on" not in line) <= width
    told = " ".join(" ".join(lines).split())
    assert "the model is gone" in told
    assert "holds up WP03" in told
    assert "held up: after WP02" in told


def test_who_runs_is_told_with_its_last_step_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(tmp_path, *at_work("WP01"))
    monkeypatch.setenv("PROVIDER_API_KEY", "s3cr3t-value")
    step = {"type": "message", "ran": "curl -H ghp_" + "a1" * 18}
    output(tmp_path, "WP01", json.dumps(step) + "\n")
    with MissionLock(folder, SLUG):
        told = "\n".join(shown(tmp_path, 100, monkeypatch))
    assert "Lay the ground" in told
    assert "scripted implements, attempt 1 of 6" in told
    assert "runs curl -H [redacted]" in told


def test_output_that_is_not_below_the_logs_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stdout.log").write_text("private\n")
    opened = event("WP01", "attempt_opened", attempt=attempt("WP01", 1, "implement", directory="elsewhere"))
    folder = begin(tmp_path, *at_work("WP01")[:3], opened)
    with MissionLock(folder, SLUG):
        assert "private" not in "\n".join(shown(tmp_path, 100, monkeypatch))


def test_all_of_one_work_package_is_told_with_findings_gates_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {"name": "tests", "command": ["make"], "head": HEAD, "ok": False, "seconds": 2.0, "log": ""}
    ok, gates = {"outcome": "ok"}, ({"name": "tests", "command": ["make"]},)
    begin(
        tmp_path,
        *at_work("WP01"),
        event("WP01", "agent_exited", attempt_id="WP01-1", report=ok),
        event("WP01", "committed", evidence={"base": BASE, "head": HEAD, "stat": " a.py | 2 ++"}),
        event("WP01", "gate_failed", result=gate, tail="E  assert 1 == 2"),
        event("WP01", "attempt_opened", attempt=attempt("WP01", 2, "implement", head=HEAD)),
        event("WP01", "agent_exited", attempt_id="WP01-2", report=ok | {"usage": {"cost_usd": 0.25}}),
        gates=gates,
    )
    told = "\n".join(shown(tmp_path, 100, monkeypatch, "WP01"))
    assert " 1 implement  scripted" in told
    assert " 2 rework  scripted" in told
    assert "$0.25" in told
    assert "gate tests is red on aaaaaaaaaa after 2.0s" in told
    assert "E  assert 1 == 2" in told
    assert "a.py | 2 ++" in told
    assert f"$ spec-kitty-orchestrator logs WP01 --mission {SLUG}" in told
    assert f"$ spec-kitty-orchestrator resume --mission {SLUG}" in told


def test_styles_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    begin(tmp_path, *parked("WP02", "the model is gone"))
    found = StatusReader(tmp_path, SLUG, {}).read()
    for file, environ, styled in (
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ):
        Screen(file, Redactor(), environ).show(mission_rows(found, 80))
        assert ("\x1b[" in file.getvalue()) is styled


def test_a_screen_that_is_drawn_again_never_has_more_rows_than_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, *parked("WP02", "the model is gone"))
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("COLUMNS", "80")
    file = Terminal()
    found = StatusReader(tmp_path, SLUG, {}).read()
    Screen(file, Redactor(), {"NO_COLOR": "1"}).redraw(mission_rows(found, 80))
    assert file.getvalue().count("\n") == 7
    assert "! WP02" in file.getvalue()
    assert " lines" in file.getvalue().splitlines()[-2]


def end(code: int) -> Line:
    return {"line": "end", "at": "2026-01-02T04:00:00+00:00", "exit_code": code, "summary": "over"}


def completed_by_others(wp: str) -> list[Line]:
    made = {"base": "a" * 40, "head": "b" * 40}
    refused = {"call": "transition", "code": "TRANSITION_REJECTED", "message": "no", "lane": "done"}
    return [
        *at_work(wp),
        event(wp, "agent_exited", attempt_id=attempt(wp, 1, "implement")["id"], report={"outcome": "ok"}),
        event(wp, "committed", evidence=made),
        event(wp, "host_refused", **refused),
    ]


@pytest.mark.parametrize(
    ("lines", "lanes", "active", "code"),
    [
        ([], {}, True, 0),
        (at_work("WP01"), {}, True, 0),
        (parked("WP02", "broken"), {}, True, 1),
        (parked("WP02", "broken"), {}, False, 1),
        (at_work("WP01"), {}, False, 130),
        ([end(75)], {}, False, 75),
        ([{"line": "aborted", "at": "2026-01-02T04:00:00+00:00", "summary": ""}], {}, False, 1),
        ([end(0)], {"WP01": "done", "WP02": "done", "WP03": "approved"}, False, 0),
        ([*completed_by_others("WP01"), end(1)], {"WP02": "done", "WP03": "approved"}, False, 1),
    ],
)
def test_a_script_learns_from_the_exit_code_how_it_stands(
    tmp_path: Path, lines: list[Line], lanes: Any, active: bool, code: int
) -> None:
    folder = begin(tmp_path, *lines, **lanes)
    if active:
        with MissionLock(folder, SLUG):
            assert StatusReader(tmp_path, SLUG, {}).read().exit_code == code
    else:
        assert StatusReader(tmp_path, SLUG, {}).read().exit_code == code


def test_one_line_says_it_all_and_the_command_exits_with_the_code(project: Project) -> None:
    start = start_line(mission=mission(WP01="planned", WP02="planned", WP03="planned"), policy=POLICY)
    write_journal(project, start, *parked("WP02", "broken"))
    done = project.run("status", "--format", "oneline", "--exit-code")
    assert done.stdout == f"{SLUG}: cut off, 0 of 3 done, 1 needs you, 1 waiting, 1 held up\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["status", "inbox"])
def test_what_looks_at_journals_loads_nothing_that_takes_long(project: Project, command: str) -> None:
    write_journal(project, start_line(mission=mission(WP01="planned")), *at_work("WP01"))
    slow = ("pydantic", "anyio", "asyncio", "rich", "psutil", "filelock", "structlog")
    program = (
        "import sys; from spec_kitty_orchestrator.cli import main; sys.argv = ['x', '"
        f"{command}']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join(one for one in {slow} if one in sys.modules) or 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.root,
        env=project.env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
