"""A run in a job of CI: what its log begins and ends with, and the files that the job hands on."""

import json
import re
import signal
import stat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.ci_services import buildkite_groups, github_commands, github_values, gitlab_sections
from tests.cli.journals import SLUG, records, start_line, write_journal
from tests.cli.working import ONE, at_work, host_of_one
from tests.journals import NOON, Comes, played, rejected

from spec_kitty_orchestrator.app import ci
from spec_kitty_orchestrator.app.ci import Job
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.report import Found
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.views.ci import Service

Project = Any  # the class lives in conftest, which tests cannot import
SERVICES = {"github": "GITHUB_ACTIONS", "gitlab": "GITLAB_CI", "buildkite": "BUILDKITE"}
RETRY = f"spec-kitty-orchestrator retry --cause c1 --mission {SLUG} --note"


def files(project: Project) -> tuple[Path, Path]:
    """Make the project's commands a step of GitHub's; return the files of its summary and its outputs."""
    summary, outputs = project.root.parent / "summary", project.root.parent / "outputs"
    names = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(outputs)}
    project.env.update({"GITHUB_ACTIONS": "true", **names})
    return summary, outputs


def blocked(project: Project, *wps: str) -> None:
    project.lanes(dict.fromkeys(wps or ("WP01", "WP02"), "blocked"))


@pytest.mark.parametrize("service", SERVICES)
def test_where_everything_is_blocked_the_first_five_lines_say_what_a_person_must_do(
    project: Project, service: str
) -> None:
    blocked(project)
    project.env[SERVICES[service]] = "true"
    done = project.orchestrate()
    first = done.stdout.splitlines()[:5]
    assert done.returncode == 1
    assert first[1] == "0 of 2 work packages are done; WP01 and WP02 need you."
    assert first[2] == "WP01, WP02: blocked on the host"
    assert first[3].strip().startswith(RETRY)
    assert first[4].strip() == f"spec-kitty-orchestrator resume --mission {SLUG}"


@pytest.mark.anyio
async def test_of_several_reasons_the_first_lines_have_one_and_count_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {"WP01": (), "WP02": (), "WP03": ("WP02",)}
    scripts = {wp: (Comes(), rejected(place)) * 9 for place, wp in enumerate(("WP01", "WP02"))}
    report = record(played(needs, scripts)).report(NOON, active=False)

    async def found(*_: object) -> Report:
        return report

    monkeypatch.setattr(ci, "standing", found)
    opened = open_project(project.root, project.env, {})
    lines = await Job(Service.GITHUB, opened, {}, print, print).answer(MissionState(SLUG, {}, {}))
    assert lines[0] == "0 of 3 work packages are done; WP02 and WP01 need you; WP03 waits for WP02."
    assert lines[1].startswith("WP02: ")
    assert lines[2].strip().startswith("spec-kitty-orchestrator retry WP02 ")
    assert lines[3].strip() == f"1 other reason: spec-kitty-orchestrator status --mission {SLUG}"
    assert len(lines) == 4


def test_the_summary_of_a_step_begins_with_how_it_stands(project: Project) -> None:
    blocked(project)
    summary, _ = files(project)
    project.orchestrate()
    text = summary.read_text()
    assert text.startswith("### 🔴 0 of 2 work packages are done; WP01 and WP02 need you.\n")
    assert text.index(RETRY) < text.index("| state | WP |")


def test_where_nobody_is_needed_nothing_is_said_of_that(project: Project) -> None:
    project.lanes({"WP01": "done"})
    files(project)
    done = project.orchestrate()
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == "::group::Checks before the run"


def test_github_gets_groups_that_are_closed_and_one_note_for_each_reason(project: Project) -> None:
    blocked(project)
    files(project)
    found = github_commands(project.orchestrate().stdout)
    assert [one.name for one in found] == ["group", "endgroup", "group", "endgroup", "error"]
    assert found[0].data == "Checks before the run"
    assert found[-1].properties == {"title": "WP01, WP02 need you"}
    assert RETRY in found[-1].data


def test_the_summary_of_a_run_is_outside_of_all_groups(project: Project) -> None:
    blocked(project)
    files(project)
    shown = project.orchestrate().stdout
    assert shown.rindex("::endgroup::") < shown.index(f"Mission {SLUG}: the run ended with exit code 1")


def test_gitlab_gets_sections_that_are_closed_and_variables(project: Project) -> None:
    blocked(project)
    project.env["GITLAB_CI"] = "true"
    done = project.orchestrate()
    assert [kind for kind, _ in gitlab_sections(done.stdout)] == ["start", "end"] * 3
    file = records(project) / "ci.env"
    assert "ORCHESTRATOR_NEEDS_YOU=2\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_buildkite_gets_groups(project: Project) -> None:
    blocked(project)
    project.env["BUILDKITE"] = "true"
    assert buildkite_groups(project.orchestrate().stdout) == [
        "--- Checks before the run",
        f"+++ The run of {SLUG}",
        "+++ What needs you: 1 note",
    ]


def test_off_is_a_run_like_elsewhere_and_a_service_can_be_named(project: Project) -> None:
    blocked(project)
    summary, outputs = files(project)
    assert github_commands(project.orchestrate("--ci", "off").stdout) == []
    assert not summary.exists()
    assert not outputs.exists()
    del project.env["GITHUB_ACTIONS"]
    assert github_commands(project.orchestrate("--ci", "github").stdout) != []
    assert summary.exists()


def test_the_summary_and_the_outputs_are_appended_on_lines_of_their_own(project: Project) -> None:
    blocked(project)
    summary, outputs = files(project)
    summary.write_text("of another tool, without an end")
    outputs.write_text("other=1")
    project.orchestrate()
    assert summary.read_text().startswith("of another tool, without an end\n### 🔴 ")
    first, _, rest = outputs.read_text().partition("\n")
    assert first == "other=1"
    found = github_values(rest)
    assert found["report"] == f".kittify/orchestrator/{SLUG}/report.html"
    assert found["headline"] == "0 of 2 work packages are done; WP01 and WP02 need you"
    assert RETRY in found["next"]


def test_a_summary_never_grows_beyond_what_github_shows(project: Project) -> None:
    blocked(project)
    summary, _ = files(project)
    summary.write_text("x" * (1024 * 1024 - 1000))
    done = project.orchestrate()
    assert summary.stat().st_size < 1024 * 1024
    assert "warning: the summary of this step is full" in done.stdout
    assert done.returncode == 1


def test_files_of_the_service_that_cannot_be_written_are_warnings(project: Project) -> None:
    project.lanes({"WP01": "done"})
    files(project)
    project.env["GITHUB_OUTPUT"] = project.env["GITHUB_STEP_SUMMARY"] = str(project.root)
    done = project.orchestrate()
    assert done.returncode == 0
    assert len(re.findall("warning: GITHUB_(?:OUTPUT|STEP_SUMMARY): .* cannot be written", done.stdout)) == 2


def test_a_start_that_is_refused_says_why_where_people_look(project: Project) -> None:
    summary, outputs = files(project)
    project.lanes({})
    done = project.orchestrate()
    assert done.returncode != 0
    (error,) = [one for one in github_commands(done.stdout) if one.name == "error"]
    assert error.properties == {"title": "the run did not start"}
    assert "sees no work packages" in error.data
    assert "sees no work packages" in summary.read_text()
    assert github_values(outputs.read_text())["resumable"] == "false"
    # What was held back until the answer came is not lost.
    assert "asking spec-kitty for the mission" in done.stdout.split("::group::")[1]


def test_files_for_test_reports_and_code_scanning_are_written_with_their_folder(project: Project) -> None:
    blocked(project)
    done = project.orchestrate("--junit", "build/junit.xml", "--sarif", "build/findings.sarif")
    assert done.returncode == 1
    suite = ElementTree.parse(project.root / "build/junit.xml").getroot()
    assert suite.get("failures") == "2"
    assert json.loads((project.root / "build/findings.sarif").read_text())["version"] == "2.1.0"
    for name in ("junit.xml", "findings.sarif"):
        assert stat.S_IMODE((project.root / "build" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(("option", "path"), [("--junit", "."), ("--sarif", "p/x.sarif")])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_asked(
    project: Project, option: str, path: str
) -> None:
    blocked(project)
    (project.root / "p").write_text("a file")
    done = project.orchestrate(option, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {option} {path}: no file can be written there; name another one\n"


def test_an_interrupted_run_leaves_them_too(project: Project) -> None:
    host_of_one(project)
    summary, outputs = files(project)
    with at_work(project, *ONE, "--junit", "junit.xml") as working:
        working.run.send_signal(signal.SIGINT)
        assert working.agent_is_gone()
        code, told = working.ended()
    assert code == 130, told
    assert ElementTree.parse(project.root / "junit.xml").find(".//testcase/skipped") is not None
    found = github_values(outputs.read_text())
    assert (found["exit-code"], found["resumable"]) == ("130", "true")
    assert f"spec-kitty-orchestrator resume --mission {SLUG}" in summary.read_text()
    # Another job goes on, and nobody is needed.
    assert [one.name for one in github_commands(told) if "title" in one.properties] == ["warning"]


def test_with_events_on_stdout_the_service_is_told_on_stderr(project: Project) -> None:
    blocked(project)
    files(project)
    done = project.orchestrate("--output", "jsonl")
    assert [json.loads(line)["mission"] for line in done.stdout.splitlines()]
    assert github_commands(done.stdout) == []
    assert [one.name for one in github_commands(done.stderr)][-1] == "error"


HOSTILE = "::add-mask::a ##[error]b ::set-output name=x::y"


def test_no_title_in_the_log_of_a_job_is_a_command(project: Project) -> None:
    tasks = project.root / "kitty-specs" / SLUG / "tasks"
    for wp in ("WP01", "WP02"):
        (tasks / f"{wp}-x.md").write_text(f'---\nwork_package_id: {wp}\ntitle: "{HOSTILE}"\n---\n')
    blocked(project)
    summary, _ = files(project)
    done = project.orchestrate("--verbose")
    assert {one.name for one in github_commands(done.stdout + done.stderr)} == {"group", "endgroup", "error"}
    assert "add-mask" in summary.read_text()
    reports = [("report", "--format", form) for form in ("md", "json", "junit")]
    for args in (("status",), ("status", "--format", "json"), *reports):
        shown = project.run(*args).stdout
        if args[-1] == "json":
            assert HOSTILE in str(json.loads(shown))
        assert "add-mask" in shown
        assert github_commands(shown) == [], args


AGENT = """#!/bin/sh
echo "$*" >>"$0.calls"; cat >"$0.$1"
{then}
"""


def buildkite(project: Project, then: str = "") -> Path:
    """Put a `buildkite-agent` into PATH; return the file of its calls, beside which is what it reads."""
    program = Path(project.bin, "buildkite-agent")
    program.write_text(AGENT.format(then=then))
    program.chmod(0o755)
    project.env["BUILDKITE"] = "true"
    return program.with_name("buildkite-agent.calls")


def test_buildkite_shows_the_summary_as_an_annotation_and_keeps_the_figures(project: Project) -> None:
    blocked(project)
    calls = buildkite(project)
    project.orchestrate()
    assert calls.read_text().splitlines() == [
        f"annotate --context spec-kitty-orchestrator-{SLUG} --style error",
        "meta-data set spec-kitty-orchestrator",
    ]
    page = calls.with_name("buildkite-agent.annotate").read_text()
    assert page.startswith("### 🔴 0 of 2 work packages are done")
    assert "mermaid" not in page
    assert json.loads(calls.with_name("buildkite-agent.meta-data").read_text())["needs-you"] == "2"


def test_an_agent_of_buildkites_that_fails_is_a_warning(project: Project) -> None:
    project.lanes({"WP01": "done"})
    buildkite(project, "exit 3")
    done = project.orchestrate()
    assert done.returncode == 0
    assert done.stdout.count("failed with exit code 3") == 2


def test_an_agent_of_buildkites_that_hangs_is_given_up(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    buildkite(project, "exec sleep 1000")
    journal = write_journal(project, start_line())
    environ: dict[str, str] = {**project.env, "PATH": f"{project.bin}:/usr/bin:/bin"}
    opened = open_project(project.root, environ, {})
    monkeypatch.setattr(ci, "AGENT_LIMIT_S", 0.2)
    report = record(()).report(NOON, active=False)
    Job(Service.BUILDKITE, opened, environ, said.append, said.append).deliver(Found(report, journal))
    assert [one.partition(": ")[0] for one in said] == ["warning", "warning"]
    assert "buildkite-agent annotate" in said[0]
