"""`resume`, and `orchestrate` on a mission that was run before, through the command and a host of files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.process import MARKER

SLUG = "demo-01ABC"
AT = "2026-01-02T03:04:05+00:00"
Project = Any  # the class lives in conftest, which tests cannot import


def folder(project: Project, slug: str = SLUG) -> Path:
    found: Path = project.root / ".kittify" / "orchestrator" / slug
    found.mkdir(parents=True, exist_ok=True)
    return found


def journal(project: Project, *lines: dict[str, object], slug: str = SLUG) -> Path:
    file = folder(project, slug) / "journal.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def started(slug: str = SLUG, **changes: object) -> dict[str, object]:
    policy = {"impl_agents": ["scripted"], "review_agents": ["scripted"], "max_attempts": 9}
    line = {"line": "run", "schema": 2, "at": AT, "mission": slug, "actor": "me", "policy": policy}
    return line | {"version": "0.2.0"} | changes


def ended(code: int) -> dict[str, object]:
    return {"line": "end", "at": AT, "exit_code": code, "summary": "0 of 1 complete"}


ABORTED: dict[str, object] = {"line": "aborted", "at": AT, "summary": "nothing ran"}


def last_start(project: Project) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder(project) / "journal.jsonl").read_text().splitlines()]
    found: dict[str, Any] = [line for line in lines if line["line"] == "run"][-1]
    return found


@contextmanager
def agent_at_work(project: Project) -> Iterator[int]:
    """Keep a process with the marker of an attempt of the mission."""
    directory = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-implement-scripted"
    directory.mkdir(parents=True)
    # Tests run at the same time, and an abort stops whatever carries the id.
    attempt = uuid4().hex
    (directory / "command.json").write_text(json.dumps({"attempt": attempt}))
    waits = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARKER: attempt},
    )
    with waits:
        assert waits.stdout is not None
        waits.stdout.readline()
        yield waits.pid
        waits.kill()


def test_without_any_run_there_is_nothing_to_resume(project: Project) -> None:
    done = project.run("resume")
    assert done.returncode == 2
    assert "there is no unfinished run here" in done.stderr


def test_a_run_that_ended_well_is_not_resumed(project: Project) -> None:
    journal(project, started(), ended(0))
    assert project.run("resume").returncode == 2


def test_a_run_goes_on_with_its_own_settings(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_concurrent=3, timeout_s=90.0, review_timeout_s=45.0))
    done = project.run("resume")
    assert done.returncode == 0, done.stderr
    assert f"{SLUG}: goes on with the run that was cut off" in done.stdout
    now = last_start(project)
    assert now["at"] != AT
    assert (now["actor"], now["max_concurrent"]) == ("me", 3)
    assert (now["timeout_s"], now["review_timeout_s"]) == (90.0, 45.0)
    assert now["policy"]["impl_agents"] == ["scripted"]
    assert now["policy"]["max_attempts"] == 9
    assert (now["policy"]["stop_repeats"], now["policy"]["quota_breaker"]) == (True, True)


def test_flags_given_now_win_and_are_remembered(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_concurrent=3))
    done = project.run("resume", "--max-concurrent", "7", "--actor", "someone")
    assert done.returncode == 0, done.stderr
    assert (last_start(project)["max_concurrent"], last_start(project)["actor"]) == (7, "someone")


def test_the_limits_per_agent_of_a_run_are_those_of_the_next_start(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scriptd": 1}))
    message = "--max-per-agent: unknown agent 'scriptd'; did you mean scripted?"
    assert message in project.run("resume").stderr
    assert project.run("resume", "--max-per-agent", "scripted=1").returncode == 0


def test_a_limit_per_agent_is_remembered_until_another_is_given(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scripted": 2, "codex": 1}))
    done = project.run("resume")
    assert done.returncode == 0, done.stderr
    assert last_start(project)["max_per_agent"] == {"scripted": 2, "codex": 1}
    journal(project, started(max_per_agent={"codex": 1}))
    done = project.run("resume", "--max-per-agent", "scripted=3")
    assert done.returncode == 0, done.stderr
    assert last_start(project)["max_per_agent"] == {"scripted": 3}


def test_the_limit_of_an_agents_section_is_that_of_the_file_at_each_start(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scripted": 3}))
    for most, in_force in ("max_concurrent = 1", 1), ("max_concurrent = 2", 2), ("", 3):
        bot = '[agents.my-bot]\ncommand = ["true"]\nmax_concurrent = 1\n' if most else ""
        project.configure(f"[agents.scripted]\n{most}\n{bot}")
        done = project.run("resume", "--mission", SLUG)
        assert done.returncode == 0, done.stderr
        assert last_start(project)["max_per_agent"] == {"scripted": 3}
        assert last_start(project)["limits_in_force"]["scripted"] == in_force
        journal(project, last_start(project))


def test_of_several_unfinished_runs_one_must_be_named(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(), ended(143))
    journal(project, started("other-01XYZ"), slug="other-01XYZ")
    done = project.run("resume")
    assert done.returncode == 2
    assert "choose one with --mission" in done.stderr
    assert f"{SLUG}  began 2026-01-02 03:04:05 UTC, ended" in done.stderr
    assert "other-01XYZ  began 2026-01-02 03:04:05 UTC, was cut off" in done.stderr
    assert project.run("resume", "--mission", SLUG).returncode == 0


def test_an_aborted_run_is_resumed_by_name_alone(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(), ABORTED)
    done = project.run("resume")
    assert done.returncode == 2
    assert f"--mission {SLUG}" in done.stderr
    assert "the last one was aborted" in project.run("status", "--mission", SLUG).stdout
    assert project.run("resume", "--mission", "01ABC").returncode == 0


def test_a_mission_that_was_not_run_here_cannot_be_resumed(project: Project) -> None:
    journal(project, started())
    done = project.run("resume", "--mission", "../other")
    assert done.returncode == 2
    assert "../other was not run here" in done.stderr


def test_a_run_that_is_active_is_not_resumed(project: Project) -> None:
    journal(project, started())
    with MissionLock(folder(project), SLUG):
        done = project.run("resume")
    assert done.returncode == 4
    assert f"process {os.getpid()}" in done.stderr


def test_orchestrate_goes_on_and_says_so(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(), ended(130))
    done = project.orchestrate()
    assert (
        f"{SLUG}: goes on with the run that ended 2026-01-02 03:04:05 UTC with exit code 130" in done.stdout
    )
    assert "goes on with" not in project.orchestrate().stdout


def test_a_fresh_start_keeps_the_earlier_journal_beside_the_new_one(project: Project) -> None:
    project.lanes({"WP01": "done"})
    file = journal(project, started())
    before = file.read_bytes()
    done = project.orchestrate("--fresh")
    assert done.returncode == 0, done.stderr
    (kept,) = folder(project).glob("journal-*.jsonl")
    assert kept.name in done.stdout
    assert kept.read_bytes() == before
    assert last_start(project)["at"] != AT


def test_a_fresh_start_gets_past_a_damaged_journal(project: Project) -> None:
    project.lanes({"WP01": "done"})
    (folder(project) / "journal.jsonl").write_text('nonsense\n{"line": "end"}\n')
    assert project.orchestrate().returncode == 3
    assert project.orchestrate("--fresh").returncode == 0


def test_a_fresh_start_is_refused_while_a_run_is_active(project: Project) -> None:
    file = journal(project, started())
    with MissionLock(folder(project), SLUG):
        done = project.orchestrate("--fresh")
    assert done.returncode == 4
    assert file.exists()


def test_a_fresh_start_is_refused_while_an_agent_of_the_old_run_works(project: Project) -> None:
    project.lanes({"WP01": "done"})
    file = journal(project, started())
    with agent_at_work(project) as pid:
        done = project.orchestrate("--fresh")
    assert done.returncode == 4
    assert str(pid) in done.stderr
    assert file.exists()
    assert project.orchestrate("--fresh").returncode == 0
