"""What the files of work packages say of themselves, read without the host."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import SLUG, Project
from tests.cli.journals import last_start

from spec_kitty_orchestrator.app.checks.task_files import restoring_file, unreadable_file
from spec_kitty_orchestrator.app.repository import task_files
from spec_kitty_orchestrator.machine.task_file import TaskFile

NOTHING = TaskFile("", ())


def read(tmp_path: Path, text: str, name: str = "WP01-a.md") -> TaskFile:
    tasks = tmp_path / "kitty-specs" / "demo" / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (tasks / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return task_files(tmp_path, "demo").get("WP01", NOTHING)


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Lay the ground", "Lay the ground"),
        ('"Parse: the grammar"', "Parse: the grammar"),
        ("'It''s here'", "It's here"),
        ("Fix #12 now", "Fix"),
        ("Über—alles", "Über—alles"),
        ("", ""),
        ("|\n  a block", ""),
        ("goes\n  on", ""),
        ('"with \\n escapes"', ""),
        ("a: b", ""),
        ("[a, b]", ""),
        ("null", ""),
        ("&anchor x", ""),
    ],
)
def test_a_title_of_one_line_is_read_and_any_other_is_left_out(
    tmp_path: Path, written: str, title: str
) -> None:
    text = f"---\nwork_package_id: WP01\ntitle: {written}\nsubtasks: [T001]\n---\n\n# WP01\ntitle: no\n"
    assert read(tmp_path, text) == TaskFile(title, ("T001",))


@pytest.mark.parametrize(
    ("written", "subtasks"),
    [
        ("subtasks: [T001, 'T002']", ("T001", "T002")),
        ("subtasks:\n- T001\n- T002", ("T001", "T002")),
        ('subtasks:\n  - "T001"  \n\n  # later\n  - T002 # last', ("T001", "T002")),
        ("subtasks: []", ()),
        ("subtasks:", ()),
        ("subtasks:\n- T001\n- id: T002", ()),
        ("subtasks: [T001,\n  T002]", ()),
        ("subtasks: T001", ()),
    ],
)
def test_a_list_of_subtasks_is_read_whole_or_left_out(
    tmp_path: Path, written: str, subtasks: tuple[str, ...]
) -> None:
    text = f"---\n{written}\ntitle: One\ndependencies: [WP00]\n---\n"
    assert read(tmp_path, text) == TaskFile("One", subtasks)


@pytest.mark.parametrize(
    "text",
    ["", "# WP01\ntitle: One\n", "---\ntitle: One\n", " ---\ntitle: One\n---\n", "---\ntitle: \udcff\n---\n"],
)
def test_a_file_without_front_matter_says_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == NOTHING


def test_a_mission_without_files_and_files_that_are_none_say_nothing(tmp_path: Path) -> None:
    assert task_files(tmp_path, "demo") == {}
    read(tmp_path, "", "WP-notes.md")
    os.mkfifo(tmp_path / "kitty-specs" / "demo" / "tasks" / "WP01-a.md")
    assert task_files(tmp_path, "demo") == {"WP01": NOTHING}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(st.sampled_from("abT0:-#[]'\",|> \t"), max_size=12) | st.just("subtasks:")))
def test_nothing_that_a_file_holds_is_more_than_a_list_of_words(tmp_path: Path, lines: list[str]) -> None:
    found = read(tmp_path, "\n".join(["---", *lines, "title: T", "---"]))
    assert all(found.subtasks)
    assert "\n" not in found.title


def test_a_run_journals_titles_and_subtasks_of_the_mission_s_work_packages(project: Project) -> None:
    tasks = project.root / "kitty-specs" / SLUG / "tasks"
    (tasks / "WP01-a.md").write_text("---\ntitle: Lay the ground\nsubtasks: [T001, T002]\n---\n# WP01\n")
    (tasks / "WP09-gone.md").write_text("---\ntitle: Not of this mission\n---\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    project.lanes({"WP01": "done", "WP02": "done"})
    done = project.orchestrate()
    assert done.returncode == 0, done.stderr
    started = last_start(project)["mission"]
    assert started["titles"] == {"WP01": "Lay the ground"}
    assert started["subtasks"] == {"WP01": ["T001", "T002"]}
    assert started["lanes"] == {"WP01": "done", "WP02": "done"}


def two_files(root: Path, second: str) -> Path:
    """Write one file that is in order and another one, which is returned."""
    read(root, "---\nwork_package_id: WP01\ntitle: One\nlane: a\n---\n# One\n")
    read(root, second, "WP02-b.md")
    return root / "kitty-specs" / "demo" / "tasks" / "WP02-b.md"


EXTRA = "Extra inputs are not permitted [type=extra_forbidden"
INVALID = "ValidationError: 1 validation error for WPMetadata"


@pytest.mark.parametrize(
    ("second", "exception", "told"),
    [
        (
            '---\nwork_package_id: WP02\ntitle: "a" b\n---\n',
            (
                "FrontmatterError: Invalid YAML in FILE: mapping values are not allowed here in "
                '"<unicode string>", line 2, column 12: title: "a" b ^ (line: 2)'
            ),
            "line 3: mapping values are not allowed here",
        ),
        (
            "---\nwork_package_id: WP02\n",
            "FrontmatterError: Malformed frontmatter (no closing ---): FILE",
            "line 1: Malformed frontmatter (no closing ---)",
        ),
        (
            "---\nwork_package_id: WP02\nodd_key: 1\n---\n",
            (
                f"{INVALID} odd_key Extra inputs are not permitted "
                "[type=extra_forbidden, input_value=1, input_type=int]"
            ),
            "line 3: odd_key: Extra inputs are not permitted",
        ),
        (
            "---\nlane: N/A\n---\n",
            (
                f"{INVALID} lane Value error, not a number: 'N/A' "
                "[type=value_error, input_value='N/A', input_type=str]"
            ),
            "line 2: lane: Value error, not a number: 'N/A'",
        ),
        (
            "---\ntitle: Two\n---\n",
            (
                f"{INVALID} work_package_id Field required "
                "[type=missing, input_value={'title': 'Two', ...: 1}, input_type=dict]"
            ),
            "line 1: work_package_id: Field required",
        ),
    ],
)
def test_the_file_and_the_line_that_the_host_cannot_read_are_found_with_its_reason(
    tmp_path: Path, second: str, exception: str, told: str
) -> None:
    file = two_files(tmp_path, second)
    found = unreadable_file(tmp_path, "demo", exception.replace("FILE", str(file)))
    assert found is not None
    assert found.text == f"the host cannot read kitty-specs/demo/tasks/WP02-b.md, {told}"
    assert found.id == "mission.files"
    assert found.fix == f"${{EDITOR:-vi}} {file}" or "odd_key" in exception


def test_files_with_an_id_that_is_not_in_their_names_are_mended_with_one_line(tmp_path: Path) -> None:
    second = two_files(tmp_path, "---\ntitle: Two\nwork_package_id: 01HXYZ\n---\nwork_package_id: later\n")
    third = second.with_name("WP03.md")
    third.write_text("---\nwork_package_id: 'x/y'\n---\n")
    exception = (
        f"{INVALID} work_package_id Value error, Invalid work_package_id: '01HXYZ' "
        "[type=value_error, input_value='01HXYZ', input_type=str]"
    )
    found = unreadable_file(tmp_path, "demo", exception)
    assert found is not None
    assert "WP02-b.md, line 3: work_package_id: Value error, Invalid" in found.text
    before = second.with_name("WP01-a.md").read_text()
    subprocess.run(["/bin/sh", "-ec", found.fix], check=True)
    assert second.read_text() == "---\ntitle: Two\nwork_package_id: WP02\n---\nwork_package_id: later\n"
    assert third.read_text() == "---\nwork_package_id: WP03\n---\n"
    assert second.with_name("WP01-a.md").read_text() == before


@pytest.mark.parametrize("exception", ["", "KeyError: 'WP01'", f"{INVALID} unknown Field [type=x"])
def test_a_crash_over_something_else_names_no_file(tmp_path: Path, exception: str) -> None:
    two_files(tmp_path, "---\ntitle: Two\n---\n")
    assert unreadable_file(tmp_path, "demo", exception) is None


@given(exception=st.text(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_host_crashes_with_can_be_read(tmp_path: Path, exception: str) -> None:
    two_files(tmp_path, "---\ntitle: Two\n---\n")
    unreadable_file(tmp_path, "demo", f"{INVALID} {exception}")


def test_a_start_names_the_file_that_the_host_cannot_read(project: Project) -> None:
    file = project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md"
    crash = f"Traceback (most recent call last):\n  File x\nFrontmatterError: no closing ---: {file}\n"
    project.answer("mission-state", "", 1, crash)
    done = project.orchestrate()
    assert done.returncode == 5
    assert "the host cannot read kitty-specs/demo-01ABC/tasks/WP01-a.md" in done.stderr
    assert f"${{EDITOR:-vi}} {file}" in " ".join(done.stderr.split())
    # A read that crashes in the same words twice is not made a third time.
    assert len(project.calls("mission-state")) == 2


def without_the_file_of(project: Project, wp: str, *, saved: bool) -> Path:
    """Delete the file of a work package, as people do; the host then says that it does not know it."""
    file = project.root / "kitty-specs" / SLUG / "tasks" / f"{wp}-b.md"
    file.write_text(f"# {wp}\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    file.unlink()
    if saved:
        project.git("commit", "-qam", "less")
    told = {"message": f"Work package '{wp}' not found in {SLUG}"}
    refused = json.dumps({"success": False, "error_code": "WP_NOT_FOUND", "data": told})
    host = project.bin / "spec-kitty"
    refusal = f"[ -e {file} ] || case \"$*\" in *resolve-workspace*{wp}) echo '{refused}'; exit 1 ;; esac\n"
    host.write_text(host.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{refusal}", 1))
    return file


@pytest.mark.parametrize("saved", [True, False])
def test_a_deleted_file_is_named_with_the_command_that_brings_it_back(project: Project, saved: bool) -> None:
    file = without_the_file_of(project, "WP02", saved=saved)
    asked = ("doctor", "--mission", SLUG, "--impl-agent", "scripted", "--review-agent", "scripted", "--json")
    (found,) = (one for one in json.loads(project.run(*asked).stdout)["findings"] if one["about"] == "WP02")
    assert found["text"] == "WP02 is planned: parked: its file tasks/WP02*.md is missing"
    assert "parked: its file tasks/WP02*.md is missing" in project.orchestrate("--dry-run").stdout
    subprocess.run(["/bin/sh", "-ec", found["fix"]], cwd=project.root, env=project.env, check=True)
    assert file.read_text() == "# WP02\n"
    assert project.git("status", "--porcelain", "--untracked-files=no") == ""
    assert "is missing" not in project.run(*asked).stdout


def test_a_file_that_git_never_knew_is_told_as_missing_without_a_command(project: Project) -> None:
    without_the_file_of(project, "WP02", saved=False)
    project.git("reset", "-q", "--hard", "HEAD~1")
    told = project.run("doctor", "--mission", SLUG).stdout
    assert "its file tasks/WP02*.md is missing" in told
    assert f"${{EDITOR:-vi}} {project.root}/kitty-specs/{SLUG}/tasks/WP02.md" in told


def test_the_file_of_another_work_package_is_not_taken_for_a_deleted_one(project: Project) -> None:
    without_the_file_of(project, "WP021", saved=True)
    assert restoring_file(project.root, SLUG, "WP02") == ""
    assert restoring_file(project.root, SLUG, "WP021").endswith("tasks/WP021-b.md")


OBJECTION = {
    "error": "Requirement mapping validation failed",
    "missing_requirement_refs_wps": ["WP01"],
    "unmapped_functional_requirements": ["FR-001", "FR-002", "FR-003", "FR-004"],
    "unknown_requirement_refs": {},
}


def test_where_the_host_is_to_finalize_tasks_it_is_asked_first_what_it_objects_to(project: Project) -> None:
    project.git("branch", "-m", "main")
    meta = project.root / "kitty-specs" / SLUG / "meta.json"
    meta.write_text(json.dumps({"mission_slug": SLUG, "target_branch": "main", "mid8": "01ABC"}))
    project.git("commit", "-qam", "to main")
    project.answer("finalize-tasks", json.dumps({"message": "All validations passed."}))
    asked = ("doctor", "--mission", SLUG, "--json")

    def target() -> dict[str, str]:
        found = json.loads(project.run(*asked).stdout)["findings"]
        return next(one for one in found if one["id"] == "mission.target")

    before = target()
    project.answer("finalize-tasks", json.dumps(OBJECTION), 1)
    after = target()
    told = (
        "Requirement mapping validation failed; missing requirement refs wps: WP01; "
        "unmapped functional requirements: FR-001, FR-002, FR-003 and 1 more"
    )
    words = f"; the host does not finalize its tasks as they are: {told}"
    assert (after["level"], after["text"]) == ("error", before["text"] + words)
    file = project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md"
    assert after["fix"] == f"${{EDITOR:-vi}} {file} && {before['fix']}"
    started = project.orchestrate()
    assert started.returncode == 5
    assert told in " ".join(started.stderr.split())


def test_a_file_without_subtasks_is_told_before_anybody_is_paid_and_the_mend_works(project: Project) -> None:
    tasks = project.root / "kitty-specs" / SLUG / "tasks"
    (tasks / "WP01-a.md").write_text("---\ntitle: One\n---\n# WP01\n")
    (tasks / "WP02-b.md").write_text("---\ntitle: Two\nsubtasks: []\n---\n# WP02\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    done = project.orchestrate()
    assert done.returncode == 5
    text, fix = done.stderr.strip().split("\n")[-2:]
    assert text.endswith(f"does not name its subtasks: kitty-specs/{SLUG}/tasks/WP01-a.md")
    subprocess.run(["sh", "-c", fix], cwd=project.root, env=project.env, check=True, capture_output=True)
    assert (tasks / "WP01-a.md").read_text() == "---\nsubtasks: []\ntitle: One\n---\n# WP01\n"
    assert project.git("status", "--porcelain", "--", "kitty-specs") == ""
    assert "mission.files" not in project.run("doctor", "--mission", SLUG, "--json").stdout


def test_keys_that_the_host_does_not_know_are_taken_out_of_all_files_by_one_line(project: Project) -> None:
    tasks = project.root / "kitty-specs" / SLUG / "tasks"
    (tasks / "WP01-a.md").write_text("---\nid: 1\ntitle: One\ndepends_on:\n- WP02\n---\n# WP01\n")
    (tasks / "WP02-b.md").write_text("---\ntitle: Two\nid: 2\n---\n# WP02\nid: 2\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    errors = f"id {EXTRA}, input_value=1, input_type=int] depends_on {EXTRA}, input_value=['WP02'], in=list]"
    told = "ValidationError: 2 validation errors for WPMetadata"
    found = unreadable_file(project.root, SLUG, f"{told} {errors}")
    assert found is not None
    subprocess.run(
        ["sh", "-c", found.fix], cwd=project.root, env=project.env, check=True, capture_output=True
    )
    first, second = (tasks / "WP01-a.md").read_text(), (tasks / "WP02-b.md").read_text()
    assert first == "---\n# id: 1\ntitle: One\n# depends_on:\n# - WP02\n---\n# WP01\n"
    assert second == "---\ntitle: Two\n# id: 2\n---\n# WP02\nid: 2\n"
    assert project.git("status", "--porcelain", "--", "kitty-specs") == ""


OUTLINE = """\
## Work Package WP01: One
- [ ] T001 here
  - [ ] T003: below another one
## WP02: Two (after WP01)
- [x] T002 here
- [ ] T003 here too
## Notes
"""


def test_a_subtask_below_another_work_package_is_warned_of_and_the_mend_works(project: Project) -> None:
    folder = project.root / "kitty-specs" / SLUG
    (folder / "tasks" / "WP01-a.md").write_text("---\nsubtasks: [T001]\n---\n# WP01\n")
    (folder / "tasks" / "WP02-b.md").write_text("---\nsubtasks: [T002, T003, T004]\n---\n# WP02\n")
    (folder / "tasks.md").write_text(OUTLINE)
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    found = json.loads(project.run("doctor", "--mission", SLUG, "--json").stdout)["findings"]
    (one,) = [one for one in found if one["id"] == "mission.files"]
    assert one["level"] == "warning"
    assert one["text"].endswith(f"in kitty-specs/{SLUG}/tasks.md, T003 of WP02 stands below WP01")
    assert one["text"] in project.run("orchestrate", "--mission", SLUG, "--dry-run").stdout.replace("\n", "")
    subprocess.run(
        ["sh", "-c", one["fix"]], cwd=project.root, env=project.env, check=True, capture_output=True
    )
    mended = OUTLINE.replace("- [ ] T003: below", "- T003: below")
    assert (folder / "tasks.md").read_text() == mended
    assert "mission.files" not in project.run("doctor", "--mission", SLUG, "--json").stdout


def test_two_files_of_one_work_package_are_told(project: Project) -> None:
    tasks = project.root / "kitty-specs" / SLUG / "tasks"
    (tasks / "WP01-b.md").write_text("# WP01\n")
    found = json.loads(project.run("doctor", "--mission", SLUG, "--json").stdout)["findings"]
    (one,) = [one for one in found if one["id"] == "mission.files"]
    assert one["text"].endswith("the file of WP01: WP01-a.md, WP01-b.md")
    project.lanes({"WP01": "approved", "WP02": "planned"})
    assert "mission.files" not in project.run("doctor", "--mission", SLUG, "--json").stdout
