"""What the files of work packages say of themselves, read without the host."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import SLUG, Project
from tests.cli.journals import last_start

from spec_kitty_orchestrator.app.repository import TaskFile, task_files

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
