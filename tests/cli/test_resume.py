"""`resume`, and `orchestrate` on a mission that was run before, through the command and a host of files."""

import os
from typing import Any

import pytest
from tests.cli.journals import AT, POLICY, SLUG, agent_at_work, last_start, records, start_line
from tests.cli.journals import write_journal as journal

from spec_kitty_orchestrator.machine.lock import MissionLock

Project = Any  # the class lives in conftest, which tests cannot import


def started(slug: str = SLUG, /, **changes: object) -> dict[str, object]:
    """Write the start of a run, with changes of its settings."""
    return start_line(slug, settings={**POLICY, "actor": "me", "max_attempts": 9, **changes})


def ended(code: int) -> dict[str, object]:
    return {"line": "end", "at": AT, "exit_code": code, "summary": "0 of 1 complete"}


ABORTED: dict[str, object] = {"line": "aborted", "at": AT, "summary": "nothing ran"}


def test_without_any_run_there_is_nothing_to_resume(project: Project) -> None:
    done = project.run("resume")
    assert done.returncode == 2
    assert "there is no unfinished run here" in done.stderr


def test_a_run_that_ended_well_is_not_resumed(project: Project) -> None:
    journal(project, started(), ended(0))
    assert project.run("resume").returncode == 2


def test_a_run_goes_on_with_its_own_settings(project: Project) -> None:
    project.lanes({"WP01": "done"})
    given: dict[str, object] = {
        "max_concurrent": 3,
        "timeout": 90.0,
        "review_timeout": 45.0,
        "gate": ["make docs"],
    }
    journal(project, started(**given))
    done = project.run("resume")
    assert done.returncode == 0, done.stderr
    assert f"{SLUG}: continues the run that was cut off" in done.stdout
    now = last_start(project)
    assert now["at"] != AT
    assert now["settings"].items() >= {**given, "actor": "me", "impl_agents": ["scripted"]}.items()
    assert (now["actor"], now["policy"]["max_concurrent"]) == ("me", 3)
    assert now["policy"]["impl_agents"] == ["scripted"]
    assert [one["name"] for one in now["policy"]["gates"]] == ["make"]
    assert now["policy"]["max_attempts"] == 9


def test_flags_given_now_win_and_are_remembered(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_concurrent=3))
    done = project.run("resume", "--max-concurrent", "7", "--actor", "someone")
    assert done.returncode == 0, done.stderr
    now = last_start(project)
    assert (now["policy"]["max_concurrent"], now["actor"]) == (7, "someone")


def test_the_limits_per_agent_of_a_run_are_those_of_the_next_start(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scriptd": 1}))
    message = "the run's own --max-per-agent: unknown agent 'scriptd'; did you mean scripted?"
    assert message in project.run("resume").stderr
    assert project.run("resume", "--max-per-agent", "scripted=1").returncode == 0


def test_a_limit_per_agent_is_remembered_until_another_is_given(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scripted": 2, "codex": 1}))
    done = project.run("resume")
    assert done.returncode == 0, done.stderr
    assert last_start(project)["settings"]["max_per_agent"] == {"scripted": 2, "codex": 1}
    journal(project, started(max_per_agent={"codex": 1}))
    done = project.run("resume", "--max-per-agent", "scripted=3")
    assert done.returncode == 0, done.stderr
    assert last_start(project)["settings"]["max_per_agent"] == {"scripted": 3}


def test_the_limit_of_an_agents_section_is_that_of_the_file_at_each_start(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(max_per_agent={"scripted": 3}))
    for most, in_force in ("max_concurrent = 1", 1), ("max_concurrent = 2", 2), ("", 3):
        bot = '[agents.my-bot]\ncommand = ["true"]\nmax_concurrent = 1\n' if most else ""
        project.configure(f"[agents.scripted]\n{most}\n{bot}")
        done = project.run("resume", "--mission", SLUG)
        assert done.returncode == 0, done.stderr
        assert last_start(project)["settings"]["max_per_agent"] == {"scripted": 3}
        assert last_start(project)["policy"]["max_per_agent"]["scripted"] == in_force
        journal(project, last_start(project))


def test_a_switch_that_was_given_can_be_taken_back(project: Project) -> None:
    project.lanes({"WP01": "done"})
    project.configure('[[gates]]\nname = "lint"\ncommand = "true"\n[run]\nmax_cost = 9\n')
    on: dict[str, object] = {
        "session_resume": False,
        "budget_hard": True,
        "strict_budget": True,
        "max_cost": 5.0,
    }
    journal(project, started(**on, max_tokens=7, max_per_agent={"scripted": 1}, gate=["make"]))
    back = ("--session-resume", "--no-budget-hard", "--no-strict-budget", "--max-cost", "none")
    taken = (*back, "--max-tokens", "none", "--max-per-agent", "none", "--gate", "none")
    done = project.run("resume", *taken)
    assert done.returncode == 0, done.stderr
    expected: dict[str, object] = {
        "session_resume": True,
        "budget_hard": False,
        "strict_budget": False,
        "max_cost": None,
    }
    expected |= {"max_tokens": None, "max_per_agent": {}, "gate": []}
    assert last_start(project)["settings"].items() >= expected.items()
    assert [one["name"] for one in last_start(project)["policy"]["gates"]] == ["lint"]
    # Taken back is recorded too: the file's limit does not come back with the next start.
    assert project.run("resume", "--mission", SLUG).returncode == 0
    assert last_start(project)["settings"].items() >= expected.items()


def test_gates_given_again_replace_those_that_the_run_was_given(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(gate=["make docs", "make lint"]))
    assert project.run("resume", "--gate", "pytest").returncode == 0
    assert last_start(project)["settings"]["gate"] == ["pytest"]
    refused = project.run("resume", "--mission", SLUG, "--gate", "none", "--gate", "pytest")
    assert refused.returncode == 2
    assert "--gate: none means no gates but those of the file; give it alone" in refused.stderr


@pytest.mark.parametrize("quorum", [2, "all"])
def test_a_quorum_is_that_of_the_run_until_another_is_given(project: Project, quorum: int | str) -> None:
    project.lanes({"WP01": "done"})
    (project.bin / "codex").write_text("#!/bin/sh\n")
    (project.bin / "codex").chmod(0o755)
    journal(project, started(review_agents=["scripted", "codex"], review_quorum=quorum))
    assert project.run("resume").returncode == 0
    assert last_start(project)["settings"]["review_quorum"] == quorum
    assert last_start(project)["policy"]["review_quorum"] == 2
    assert project.run("resume", "--mission", SLUG, "--review-quorum", "1").returncode == 0
    assert last_start(project)["policy"]["review_quorum"] == 1


def test_what_a_run_recorded_wins_over_variables_and_the_file_when_it_is_resumed(project: Project) -> None:
    project.lanes({"WP01": "done"})
    project.configure("[run]\nmax_attempts = 3\nmax_review_cycles = 4\n")
    project.env |= {"SKO_MAX_CONCURRENT": "5", "SKO_POLL_INTERVAL": "1m"}
    journal(project, started(max_concurrent=3))
    done = project.run("resume")
    assert done.returncode == 0, done.stderr
    own = "--impl-agent scripted --review-agent scripted --max-concurrent 3 --max-attempts 9 --actor me"
    assert f"{SLUG}: keeps its own {own}; the file and variables say otherwise now" in done.stdout
    found = last_start(project)["settings"]
    asked = ("max_concurrent", "max_attempts", "max_review_cycles", "poll_interval")
    assert [found[key] for key in asked] == [3, 9, 4, 60.0]
    assert project.orchestrate().returncode == 0
    found = last_start(project)["settings"]
    assert [found[key] for key in asked] == [5, 3, 4, 60.0]


def test_a_quorum_of_the_run_that_the_reviewers_given_now_cannot_reach_is_named(project: Project) -> None:
    journal(project, started(review_agents=["scripted", "codex"], review_quorum=2))
    done = project.run("resume", "--review-agent", "scripted")
    assert done.returncode == 2
    wrong = "[run] review_quorum: 2 approvals are more than the number of reviewers, 1"
    assert f"the run's own --review-quorum: {wrong}" in done.stderr


def test_a_recorded_setting_that_this_version_does_not_know_is_named(project: Project) -> None:
    journal(project, started(max_magic=3))
    done = project.run("resume")
    assert done.returncode == 2
    assert "started with a setting that this version does not know: max_magic" in done.stderr


def test_of_several_unfinished_runs_one_must_be_named(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(), ended(143))
    journal(project, started("other-01XYZ"), slug="other-01XYZ")
    done = project.run("resume")
    assert done.returncode == 2
    assert "choose the run to resume with --mission" in done.stderr
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
    with MissionLock(records(project), SLUG):
        done = project.run("resume")
    assert done.returncode == 4
    assert f"process {os.getpid()}" in done.stderr


def test_orchestrate_goes_on_and_says_so(project: Project) -> None:
    project.lanes({"WP01": "done"})
    journal(project, started(), ended(130))
    done = project.orchestrate()
    assert f"{SLUG}: continues the run that ended 2026-01-02 03:04:05 UTC with exit code 130" in done.stdout
    assert "goes on with" not in project.orchestrate().stdout


def test_a_fresh_start_keeps_the_earlier_journal_beside_the_new_one(project: Project) -> None:
    project.lanes({"WP01": "done"})
    file = journal(project, started())
    before = file.read_bytes()
    done = project.orchestrate("--fresh")
    assert done.returncode == 0, done.stderr
    (kept,) = records(project).glob("journal-*.jsonl")
    assert kept.name in done.stdout
    assert kept.read_bytes() == before
    assert last_start(project)["at"] != AT


def test_a_fresh_start_gets_past_a_damaged_journal(project: Project) -> None:
    project.lanes({"WP01": "done"})
    (records(project) / "journal.jsonl").write_text('nonsense\n{"line": "end"}\n')
    assert project.orchestrate().returncode == 3
    assert project.orchestrate("--fresh").returncode == 0


def test_a_fresh_start_is_refused_while_a_run_is_active(project: Project) -> None:
    file = journal(project, started())
    with MissionLock(records(project), SLUG):
        done = project.orchestrate("--fresh")
    assert done.returncode == 4
    assert file.exists()


def test_a_fresh_start_is_refused_while_an_agent_of_the_old_run_works(project: Project) -> None:
    project.lanes({"WP01": "done"})
    file = journal(project, started())
    with agent_at_work(project) as agent:
        done = project.orchestrate("--fresh")
    assert done.returncode == 4
    assert str(agent.pid) in done.stderr
    assert file.exists()
    assert project.orchestrate("--fresh").returncode == 0


def test_a_part_of_its_name_does_not_take_an_aborted_run_up(project: Project) -> None:
    # The host finds a mission by a part of its slug, too.
    journal(project, started(), ABORTED)
    agents = ("--impl-agent", "scripted", "--review-agent", "scripted")
    done = project.run("orchestrate", "--mission", "demo", *agents)
    assert done.returncode == 2
    assert f"the run of {SLUG} was aborted: name it in full" in done.stderr
    assert not project.calls("start-implementation")
