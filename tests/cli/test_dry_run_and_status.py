"""What `--dry-run` and `status` show, through the command and a host that answers from files."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import POLICY, SLUG, Line, event, start_line, write_journal

from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.settings import as_option

Project = Any  # the class lives in conftest, which tests cannot import


def test_a_dry_run_shows_the_plan_and_changes_nothing(project: Project) -> None:
    before = sorted(project.root.rglob("*"))
    done = project.orchestrate("--dry-run", "--max-concurrent", "2")
    assert done.returncode == 0, done.stderr
    assert f"Mission {SLUG}: 4 work packages, at most 2 at once" in done.stdout
    assert "  1  WP01\n  2  WP02, WP03\n  3  WP04\n" in done.stdout
    assert "Critical path: WP01 -> WP02 -> WP04" in done.stdout
    assert "  WP04  planned, needs WP02, WP03: implemented and reviewed" in done.stdout
    assert "--role review < prompt.md" in done.stdout
    assert "acceptable to the host" in done.stdout
    assert "nothing was changed" in done.stdout
    assert done.stderr == f"asking spec-kitty and the agents' CLIs about the mission {SLUG}\n"
    assert sorted(project.root.rglob("*")) == before


def test_a_dry_run_shows_the_limits(project: Project) -> None:
    project.configure("[run]\nmin_free_memory = '1GB'\nmin_free_disk = 0\n")
    limits = ("--max-per-agent", "codex=1", "--max-per-agent", "scripted=2")
    shown = project.orchestrate("--dry-run", *limits).stdout
    assert "at most 4 at once\n  at most 1 attempt of codex at once\n" in shown
    assert (
        "  at most 2 attempts of scripted at once\n  nothing is started with less free than 1 GB of memory\n"
        in shown
    )


def test_a_dry_run_names_only_the_floors_that_hold(project: Project) -> None:
    assert "less free than 256 MB of memory or 512 MB of disk" in project.orchestrate("--dry-run").stdout
    project.configure("[run]\nmin_free_memory = 0\nmin_free_disk = 0\n")
    assert "less free" not in project.orchestrate("--dry-run").stdout


def test_a_dry_run_says_what_would_be_adopted_and_what_is_left_alone(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "in_progress", "WP03": "blocked", "WP04": "for_review"})
    project.git("branch", "b-WP04")
    shown = project.orchestrate("--dry-run").stdout
    assert "WP01  done: nothing to do" in shown
    assert "WP02  in_progress: adopted: implementation goes on, if spec-kitty-orchestrator holds it" in shown
    assert "WP03  blocked: left alone: a person must unblock it" in shown
    assert "WP04  for_review: adopted: reviewed" in shown
    assert "  1  WP02, WP03, WP04\nCritical path: WP02\n" in shown


def refuse_a_workspace(project: Project, wp: str, reply: str, code: int) -> None:
    host = project.bin / "spec-kitty"
    refusal = f"case \"$*\" in *resolve-workspace*{wp}) echo '{reply}'; exit {code} ;; esac\n"
    host.write_text(host.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{refusal}"))


def test_a_dry_run_names_a_work_package_without_a_place_and_plans_the_others(project: Project) -> None:
    told = {"success": False, "error_code": "WP_FILE_MISSING", "data": {"message": "WP02 has no file"}}
    refuse_a_workspace(project, "WP02", json.dumps(told), 1)
    done = project.orchestrate("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "WP02  planned, needs WP01: parked: the host does not say where it is worked on" in done.stdout
    assert "WP02 has no file" in done.stdout
    assert "WP01  planned: implemented and reviewed" in done.stdout
    wrong = project.run("doctor", "--mission", SLUG).stdout
    assert "WP02 is planned: parked: the host does not say where it is worked on" in wrong


def test_the_host_is_asked_for_the_place_of_one_with_a_lane_which_tells_of_all_others(
    project: Project,
) -> None:
    place = {
        "workspace_path": f"{project.root}/.worktrees/{SLUG}-lane-a",
        "prompt_path": str(project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md"),
        "lane_id": "lane-a",
        "lane_branch": f"kitty/mission-{SLUG}-lane-a",
        "lane_base_ref": "feature/demo",
    }
    refuse_a_workspace(project, "WP01", json.dumps({"success": True, "data": place}), 0)
    mission = project.root / "kitty-specs" / SLUG
    lanes = {"lane-a": ["WP01"], "lane-b": ["WP02"], "lane-c": ["WP03", "WP04"]}
    told = [{"lane_id": lane, "wp_ids": wps} for lane, wps in lanes.items()]
    (mission / "lanes.json").write_text(json.dumps({"lanes": told}))
    for wp in ("WP02", "WP03"):
        (mission / "tasks" / f"{wp}-b.md").write_text(f"# {wp}\n")
    project.lanes({"WP01": "done", "WP02": "planned", "WP03": "in_progress", "WP04": "planned"})
    shown = project.orchestrate("--dry-run").stdout
    assert f"workspace {project.root}/.worktrees/{SLUG}-lane-b\n" in shown
    assert f"branch kitty/mission-{SLUG}-lane-c from feature/demo" in shown
    # WP04 has no file, so that only the host can say whether it can be worked on.
    assert [call.split()[-1] for call in project.calls("resolve-workspace")] == ["WP04"]
    assert "WP04  planned" in shown


def test_a_dry_run_tells_the_hosts_failure_beside_what_else_is_wrong(project: Project) -> None:
    refuse_a_workspace(project, "WP0*", "", 0)
    done = project.orchestrate("--dry-run", agents="codex")
    assert done.returncode == 3
    assert "no answer from the host to resolve-workspace" in done.stderr
    assert "agent codex is not installed" in done.stderr


def test_a_dry_run_shows_the_argv_of_an_agent_that_is_missing(project: Project) -> None:
    done = project.orchestrate("--dry-run", agents="codex")
    assert done.returncode == 5
    assert "implement: codex  NOT INSTALLED" in done.stdout
    assert "codex exec --json --sandbox workspace-write" in done.stdout


def test_a_dry_run_names_a_cycle(project: Project) -> None:
    project.lanes({"WP01": "planned", "WP02": "planned"}, {"WP01": ["WP02"], "WP02": ["WP01"]})
    assert "never: WP01, WP02 depend on each other" in project.orchestrate("--dry-run").stdout


def test_status_as_json_is_one_document_with_the_hosts_lanes(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "planned"}, {"WP02": ["WP01"]})
    done = project.run("status", "--mission", SLUG, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["mission"] == SLUG
    run = {"active": False, "pid": None, "host": None, "since": None, "last_exit_code": None}
    assert run.items() <= document["run"].items()
    assert not document["run"]["aborted"]
    assert document["exit_code"] == 6
    assert [(wp["id"], wp["lane"], wp["dependencies"]) for wp in document["work_packages"]] == [
        ("WP02", "planned", ["WP01"]),
        ("WP01", "done", []),
    ]


def begin(project: Project, *lines: Line, **policy: object) -> Path:
    """Write the journal of a start with these events, and return its folder."""
    return write_journal(project, start_line(policy={**POLICY, **policy}), *lines).parent


def implementing(wp: str) -> list[Line]:
    """Return the events of a work package whose implementer is at work."""
    place = {"path": "w", "prompt_path": "p", "lane_id": "a", "branch": "b", "base_ref": "c"}
    attempt = {"id": f"id-{wp}", "number": 1, "role": "implement", "agent": "scripted", "directory": "d"}
    return [
        event(wp, "scheduled", lane="planned", workspace=place),
        event(wp, "claimed", workspace=place, head="0" * 40),
        event(wp, "attempt_opened", attempt=attempt),
    ]


def seen(wp: str, lane: str = "planned") -> Line:
    return event(wp, "lane_seen", lane=lane, dependencies=[])


def notes(project: Project) -> dict[str, str]:
    done = project.run("status", "--mission", SLUG, "--format", "json")
    assert done.returncode == 0, done.stderr
    return {wp["id"]: wp["note"] for wp in json.loads(done.stdout)["work_packages"]}


def test_status_says_what_each_work_package_of_an_active_run_waits_for(project: Project) -> None:
    project.lanes({"WP01": "in_progress", "WP02": "planned", "WP03": "planned"}, {"WP03": ["WP01"]})
    reasons = {"WP02": "waits for scripted: at most 1 at once", "WP03": "waits for WP01"}
    waiting = event("", "waiting", reasons=reasons)
    folder = begin(project, *implementing("WP01"), *map(seen, reasons), waiting)
    with MissionLock(folder, SLUG):
        assert notes(project) == {"WP01": "", **reasons}
    assert set(notes(project).values()) == {""}, "no run is active that would hold anything back"


def test_status_comes_from_the_journal_and_asks_the_host_only_if_told(project: Project) -> None:
    begin(project, seen("WP01", "for_review"))
    project.lanes({"WP01": "done"})
    shown = project.run("status", "--mission", "01ABC").stdout
    assert "WP01  for_review, nothing runs" in shown
    assert "Lanes as of 2026-01-02 03:04:05 UTC; --host asks spec-kitty" in shown
    assert not (project.bin / "spec-kitty.d" / "calls").exists()
    shown = project.run("status", "--mission", SLUG, "--host").stdout
    assert "WP01  done" in shown
    assert "Lanes as of" not in shown


def test_status_of_a_mission_that_was_never_run_asks_the_host(project: Project) -> None:
    document = json.loads(project.run("status", "--mission", SLUG, "--format", "json").stdout)
    assert [wp["lane"] for wp in document["work_packages"]] == ["planned"] * 4
    assert document["lanes_at"] is None


def test_status_no_longer_names_a_wait_that_is_over(project: Project) -> None:
    project.lanes({"WP01": "in_progress"})
    waiting = event("", "waiting", reasons={"WP01": "waits for a slot"})
    folder = begin(project, seen("WP01"), waiting, *implementing("WP01"))
    with MissionLock(folder, SLUG):
        assert notes(project) == {"WP01": ""}


def test_status_without_a_run_asks_for_a_mission(project: Project) -> None:
    done = project.run("status")
    assert done.returncode == 2
    assert "no mission was run here yet" in done.stderr


def test_a_run_with_nothing_left_to_do_ends_well_and_never_says_merged(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "approved"})
    done = project.orchestrate()
    assert done.returncode == 0, done.stderr
    assert "on the host: 1 approved, 1 done" in done.stdout
    assert "WP01  done, not approved by a review of this orchestrator" in done.stdout
    assert "is not merged" in done.stdout
    merge = done.stdout.index(f"spec-kitty orchestrator-api merge-mission --mission {SLUG}")
    accept = done.stdout.index(f"spec-kitty orchestrator-api accept-mission --mission {SLUG} --actor")
    assert merge < accept
    assert project.git("status", "--porcelain") == ""
    later = project.run("status")
    (told, *_) = later.stdout.splitlines()
    assert told.startswith(f"Mission {SLUG}: no run is active; the last one ended 20")
    assert " UTC with exit code 0: " in told


def test_a_blocked_work_package_ends_the_run_with_1_and_the_way_on(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "blocked"})
    done = project.orchestrate()
    assert done.returncode == 1, done.stderr
    assert f"spec-kitty-orchestrator retry WP02 --mission {SLUG}" in done.stdout
    assert f"spec-kitty-orchestrator resume --mission {SLUG}" in done.stdout
    assert "merge-mission" not in done.stdout


def test_merging_is_refused_while_something_uncommitted_would_be_lost(project: Project) -> None:
    project.lanes({"WP01": "done"})
    (project.root / "kitty-specs" / SLUG / "meta.json").write_text("{}")
    done = project.orchestrate("--merge")
    assert done.returncode == 1
    assert "not merged: " in done.stdout
    assert f"kitty-specs/{SLUG}/meta.json" in done.stdout


def break_git_status(project: Project) -> None:
    """Let `git status` alone fail, as it does while another git writes the index."""
    program = project.bin / "git"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *" status --porcelain"*) echo torn >&2; exit 128 ;; esac\n'
        'exec /usr/bin/git "$@"\n'
    )
    program.chmod(0o755)


def test_the_summary_does_without_an_advice_that_git_does_not_give(project: Project) -> None:
    project.lanes({"WP01": "done"})
    break_git_status(project)
    done = project.orchestrate()
    assert done.returncode == 0, done.stderr
    assert "WP01  done" in done.stdout
    assert "What is uncommitted is not known: `git status` failed" in done.stdout


def test_nothing_is_merged_while_it_is_not_known_what_would_be_lost(project: Project) -> None:
    project.lanes({"WP01": "done"})
    break_git_status(project)
    done = project.orchestrate("--merge")
    assert done.returncode == 1, done.stderr
    assert "not merged: what is uncommitted is not known: `git status` failed" in done.stdout
    assert project.calls("merge-mission") == []


def test_the_version_is_shown(project: Project) -> None:
    done = project.run("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "spec-kitty-orchestrator")


def test_a_dry_run_shows_the_gates(project: Project) -> None:
    project.configure('[[gates]]\nname = "lint"\ncommand = ["ruff", "check", "a b"]\n')
    shown = project.orchestrate("--dry-run", "--gate", "pytest -q | tail").stdout
    assert "  lint: ruff check 'a b', at most 15m 00s\n  pytest: pytest -q | tail, at most 15m 00s\n" in shown


def test_a_dry_run_shows_the_setup_of_worktrees(project: Project) -> None:
    project.configure('[run]\nsetup = ["npm ci", ["python3", "-m", "venv", "a b"]]\nsetup_timeout = "5m"\n')
    shown = project.orchestrate("--dry-run").stdout
    lines = "  setup-1: npm ci, at most 5m 00s\n  setup-2: python3 -m venv 'a b', at most 5m 00s\n"
    assert f"Setup: run once in each new workspace, before anything else\n{lines}\n" in shown


def test_the_status_names_the_log_of_a_gate_that_runs(project: Project) -> None:
    gate = {"name": "tests", "command": ["pytest"], "timeout_s": 60.0}
    ended = event("WP01", "agent_exited", attempt_id="id-WP01", report={"outcome": "ok"})
    committed = event("WP01", "committed", evidence={"base": "0" * 40, "head": "a" * 40})
    logs = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-gate-tests"
    begun = event("WP01", "gate_begun", name="tests", head="a" * 40, log=str(logs.relative_to(project.root)))
    folder = begin(project, *implementing("WP01"), ended, committed, begun, gates=[gate])
    with MissionLock(folder, SLUG):
        assert "gate tests runs, " in project.run("status", "--mission", SLUG).stdout
    told = project.run("status", "wp01", "--mission", SLUG).stdout
    assert str(logs) in told.replace("\n", "").replace(" ", "")
    (first, *_) = json.loads(project.run("status", "--mission", SLUG, "--format", "json").stdout)[
        "work_packages"
    ]
    assert (first["phase"], first["gate_log"]) == ("gating", str(logs))


def test_a_review_by_the_implementers_own_family_is_warned_of_and_refused_on_demand(project: Project) -> None:
    done = project.orchestrate("--dry-run")
    told = "no reviewer (scripted) is of another family than the implementer scripted (scripted)"
    assert done.stdout.count(f"warning: {told}") == 1
    refused = project.orchestrate("--require-independent-review")
    assert refused.returncode == 5
    assert told in refused.stderr


def test_a_gate_with_a_secret_in_its_command_is_refused(project: Project) -> None:
    secret = "ghp_" + "a1" * 16
    refused = project.orchestrate("--dry-run", "--gate", f"curl -H {secret}")
    assert refused.returncode == 2
    assert "gate curl: its command holds what looks like a secret" in refused.stderr
    assert secret not in refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--host"),
        ("status",),
        ("retry", "WP01"),
        ("skip", "WP01"),
        ("plan", "--simulate"),
    ],
)
def test_whoever_asks_the_host_says_so_first_as_that_takes_seconds(
    project: Project, command: tuple[str, ...]
) -> None:
    told = f"asking spec-kitty about the mission {SLUG}\n"
    assert project.run(*command, "--mission", SLUG).stderr.startswith(told)


def test_output_for_programs_comes_alone(project: Project) -> None:
    for command in (("status", "--host", "--format", "json"), ("plan", "--simulate", "--json")):
        assert "asking" not in project.run(*command, "--mission", SLUG).stderr


def test_what_a_worktree_needs_can_be_given_as_options_and_is_written_as_a_line(project: Project) -> None:
    project.configure('[run]\nsetup = [["touch", "a b"], "make ready"]\n')
    done = project.orchestrate("--dry-run", "--setup", "npm ci", "--setup", "pip install -e '.[dev]'")
    assert "setup-1: npm ci, at most" in done.stdout
    assert "setup-2: pip install -e '.[dev]', at most" in done.stdout
    assert "Setup:" not in project.orchestrate("--dry-run", "--setup", "none").stdout
    written = as_option("setup", (("touch", "a b"), ("/bin/sh", "-c", "make ready")))
    assert shlex.split(written) == ["--setup", "touch 'a b' && make ready"]


def test_doctor_a_dry_run_and_a_start_miss_the_same_program_of_a_gate(project: Project) -> None:
    project.configure('[[gates]]\nname = "g"\ncommand = ["no-such-gate"]\n')
    agents = ("--impl-agent", "scripted", "--review-agent", "scripted")
    told = [
        project.run("doctor", "--mission", SLUG, *agents),
        project.orchestrate("--dry-run"),
        project.orchestrate(),
    ]
    assert [one.returncode for one in told] == [5, 5, 5]
    for one in told:
        assert "no-such-gate is not on PATH, so each work package would be parked" in one.stdout + one.stderr
    assert project.calls("start-implementation") == []
