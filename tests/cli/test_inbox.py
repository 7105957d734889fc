"""`inbox`: what needs a person in all missions of a repository, with the evidence and the commands."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

from tests.cli.journals import SLUG, Line, event, start_line, write_journal
from tests.cli.test_status import BASE, HEAD, at_work, attempt, begin, end, mission, parked

from spec_kitty_orchestrator.app.inbox import read_inbox
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.inbox import rows
from spec_kitty_orchestrator.views.screen import Screen

OTHER = "other-01XYZ"
Project = Any  # the class lives in conftest, which tests cannot import


def rejected(wp: str) -> list[Line]:
    """Return the lines of a work package whose only review asks for changes, which parks it."""
    finding = {"severity": "major", "message": "no test", "file": "a.py", "line": 3}
    verdict: dict[str, object] = {
        "ruling": "changes_requested",
        "head": HEAD,
        "attempt_id": f"{wp}-2",
        "reviewer": "scripted",
    }
    verdict |= {"summary": "the house has no roof", "findings": [finding]}
    ok = {"outcome": "ok"}
    return [
        *at_work(wp),
        event(wp, "agent_exited", attempt_id=f"{wp}-1", report=ok),
        event(wp, "committed", evidence={"base": BASE, "head": HEAD}),
        event(wp, "submitted"),
        event(wp, "attempt_opened", attempt=attempt(wp, 2, "review", head=HEAD)),
        event(wp, "agent_exited", attempt_id=f"{wp}-2", report=ok, verdict=verdict),
        event(wp, "recorded", lane="blocked"),
        event(wp, "parked", lane="blocked"),
    ]


def other_mission(root: Path, *lines: Line) -> None:
    folder = root / ".kittify" / "orchestrator" / OTHER
    folder.mkdir(parents=True)
    told = {**mission(WP01="planned", WP02="planned", WP03="planned"), "slug": OTHER}
    every = (start_line(mission=told, policy={"impl_agents": ["a"], "review_agents": ["a"]}), *lines)
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in every))


def shown(root: Path) -> str:
    screen = Screen(io.StringIO(), Redactor(), {})
    return "\n".join(screen.lines(rows(read_inbox(root, {}))))


def test_what_holds_up_most_comes_first_whichever_mission_it_is_in(tmp_path: Path) -> None:
    begin(tmp_path, *parked("WP02", "the model is gone"), end(1))
    other_mission(tmp_path, *parked("WP01", "no room"), end(1))
    found = read_inbox(tmp_path, {})
    needed = [(one.mission, [wp.id for wp in one.wps], one.holds_up) for one in found.items if one.wps]
    assert needed == [(OTHER, ["WP01"], ("WP02", "WP03")), (SLUG, ["WP02"], ("WP03",))]
    assert found.exit_code == 1


def test_each_has_its_evidence_and_numbered_commands_that_a_shell_takes(tmp_path: Path) -> None:
    begin(tmp_path, *rejected("WP01"), end(1))
    told = shown(tmp_path)
    assert "the house has no roof" in told
    assert "- [major] a.py:3: no test" in told
    assert f".kittify/logs/{SLUG}/WP01/02-review-scripted" in told
    assert "holds up  WP02, WP03" in told
    lines = told.splitlines()
    assert [line[2] for line in lines if line[:2] == "  " and line[2:3].isdigit()] == [*"12345"]
    commands = [shlex.split(line.strip()[2:]) for line in lines if line.strip().startswith("$ ")]
    assert [words[:2] for words in commands] == [
        ["git", "diff"],
        ["spec-kitty-orchestrator", "retry"],
        ["spec-kitty-orchestrator", "approve"],
        ["spec-kitty-orchestrator", "takeover"],
        ["spec-kitty-orchestrator", "skip"],
    ]


def test_a_red_gate_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    gate = {"name": "tests", "command": ["make"], "head": HEAD, "ok": False, "seconds": 2.0, "log": "gates/1"}
    begin(
        tmp_path,
        *at_work("WP01"),
        event("WP01", "agent_exited", attempt_id="WP01-1", report={"outcome": "ok"}),
        event("WP01", "committed", evidence={"base": BASE, "head": HEAD}),
        event("WP01", "gate_failed", result=gate, tail="E  assert 1 == 2"),
        event("WP01", "budget_spent", reason="it has cost $9"),
        event("WP01", "parked", lane="blocked"),
        end(1),
        gates=({"name": "tests", "command": ["make"]},),
    )
    told = shown(tmp_path)
    assert "gate tests is red" in told
    assert "E  assert 1 == 2" in told
    assert "log       " + str(tmp_path / "gates/1") in told


def test_a_run_that_was_cut_off_is_there_to_be_resumed_but_not_one_that_was_aborted(tmp_path: Path) -> None:
    begin(tmp_path, *at_work("WP01"))
    aborted = {"line": "aborted", "at": "2026-01-02T04:00:00+00:00", "summary": ""}
    other_mission(tmp_path, *at_work("WP01"), aborted)
    found = read_inbox(tmp_path, {})
    assert [one.actions[0][1] for one in found.items] == [f"spec-kitty-orchestrator resume --mission {SLUG}"]


def test_a_damaged_journal_is_told_and_hides_nothing_of_the_others(tmp_path: Path) -> None:
    begin(tmp_path, *parked("WP02", "the model is gone"), end(1))
    folder = tmp_path / ".kittify" / "orchestrator" / OTHER
    folder.mkdir()
    (folder / "journal.jsonl").write_text('nonsense\n{"line": "end"}\n')
    told = shown(tmp_path)
    assert f"cannot be read: {OTHER}" in told
    assert "line 1 is damaged" in " ".join(told.split())
    assert "the model is gone" in told


def test_an_empty_inbox_is_one_line_and_all_is_well(project: Project) -> None:
    done = project.run("inbox", "--exit-code")
    assert (done.stdout, done.returncode) == ("No mission was run here yet\n", 0)
    lanes = {"WP01": "done", "WP02": "done", "WP03": "done"}
    write_journal(project, start_line(mission=mission(**lanes)), end(0))
    done = project.run("inbox", "--exit-code")
    assert (done.stdout, done.returncode) == ("Nothing needs you (1 mission looked at)\n", 0)


def test_programs_get_one_document(project: Project) -> None:
    lanes = {"WP01": "planned", "WP02": "planned", "WP03": "planned"}
    write_journal(project, start_line(mission=mission(**lanes)), *rejected("WP01"), end(1))
    done = project.run("inbox", "--format", "json", "--exit-code")
    assert done.returncode == 1
    (one,) = json.loads(done.stdout)["items"]
    assert one["work_packages"] == [{"id": "WP01", "title": "Lay the ground"}]
    assert one["rejection"]["findings"] == ["[major] a.py:3: no test"]
    assert one["holds_up"] == ["WP02", "WP03"]
    line = project.run("inbox", "--format", "oneline").stdout
    assert line == f"1 thing needs you in {SLUG}\n"
