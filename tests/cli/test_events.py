"""Events for other programs: what a run prints with `--output jsonl`, and what `events` reads later."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from tests.cli.journals import AT, SLUG, Line, event, read_journal, start_line, write_journal
from tests.cli.working import LIMIT_S, MAIN, ONE, at_work, environment, host_of_one

from spec_kitty_orchestrator.app.mission_events import MissionEvents
from spec_kitty_orchestrator.core.events import Submitted
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.machine.journal import JsonlJournal

Project = Any  # the class lives in conftest, which tests cannot import


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_prints_each_line_of_its_journal_as_an_object_and_everything_else_elsewhere(
    project: Project,
) -> None:
    project.lanes({"WP01": "approved"})
    done = project.orchestrate("--output", "jsonl")
    assert done.returncode == 0
    told = documents(done.stdout)
    assert [one["kind"] for one in told] == ["run_started", "run_ended"]
    assert [one["seq"] for one in told] == [line["seq"] for line in read_journal(project)]
    assert {(one["schema"], one["mission"]) for one in told} == {(1, SLUG)}
    assert f"asking spec-kitty for the mission {SLUG}" in done.stderr
    assert "Accept after the merge" in done.stderr


def test_plain_lines_can_be_asked_for_and_a_live_table_needs_a_terminal(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    assert f"run   {SLUG}: 1 work package" in project.orchestrate("--output", "plain").stdout
    done = project.orchestrate("--output", "live")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output live needs a terminal; `plain` and `jsonl` do not\n"


def test_a_dry_run_has_no_events(project: Project) -> None:
    done = project.orchestrate("--dry-run", "--output", "jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "so there are no events" in done.stderr


def numbered(*lines: Line, begin: int = 1) -> list[Line]:
    return [{**line, "seq": number} for number, line in enumerate(lines, start=begin)]


def story(begin: int = 1) -> list[Line]:
    """A run of two work packages that was cut off."""
    mission = {"slug": SLUG, "lanes": {"WP01": "planned", "WP02": "planned"}, "dependencies": {}}
    deferred = event("WP01", "deferred", reason="a slot", waits_for="slot")
    tick = event("WP02", "subtasks_ticked", ids=["T001"])
    return numbered(start_line(mission=mission), deferred, tick, event("", "signaled", number=2), begin=begin)


END: Line = {"line": "end", "at": AT, "exit_code": 0, "summary": "2 of 2 complete"}


def test_events_prints_what_the_run_printed(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    told = project.orchestrate("--output", "jsonl").stdout
    again = project.orchestrate("--output", "jsonl").stdout
    done = project.run("events")
    assert (done.returncode, done.stdout, done.stderr) == (0, told + again, "")
    assert project.run("events", "-f", "--mission", SLUG).stdout == told + again


def test_events_can_be_chosen_by_number_work_package_and_kind(project: Project) -> None:
    write_journal(project, *story())

    def numbers(*args: str) -> list[int]:
        return [one["seq"] for one in documents(project.run("events", *args).stdout)]

    assert numbers() == [1, 2, 3, 4]
    assert numbers("--since", "2") == [3, 4]
    assert numbers("--since", "4") == []
    assert numbers("--wp", "wp02") == [3]
    assert numbers("--wp", "WP01", "--wp", "WP02") == [2, 3]
    assert numbers("--kind", "signaled", "--kind", "run_started") == [1, 4]
    assert numbers("--kind", "signaled,deferred", "--wp", "WP01") == [2]


def test_what_is_not_there_to_be_chosen_is_answered_with_what_is(project: Project) -> None:
    write_journal(project, *story())
    done = project.run("events", "--wp", "WP09")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {SLUG} has no work package WP09; it has WP01, WP02\n"
    done = project.run("events", "--kind", "sent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: there is no kind of event 'sent'; there are agent_back, agent_exited,"
    )
    done = project.run("events", "--mission", "no-such")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no-such was not run here; run here: {SLUG}; `orchestrate` starts it\n"


def test_nobody_who_reads_on_misses_what_a_run_that_started_over_put_aside(project: Project) -> None:
    aside = write_journal(project, *story())
    aside.rename(aside.with_name("journal-20260102T000000.000000Z.jsonl"))
    write_journal(project, *numbered(*story(), END, begin=5))

    def numbers(*args: str) -> list[int]:
        return [one["seq"] for one in documents(project.run("events", *args).stdout)]

    assert numbers() == [5, 6, 7, 8, 9]
    assert numbers("--since", "2") == [3, 4, 5, 6, 7, 8, 9]
    assert numbers("--since", "6") == [7, 8, 9]
    assert numbers("--since", "0", "--kind", "run_started") == [1, 5]


def test_a_torn_last_line_is_no_event(project: Project) -> None:
    journal = write_journal(project, *story())
    whole = project.run("events").stdout
    with journal.open("a") as file:
        file.write('{"seq":5,"line":"ev')
    done = project.run("events", "-f")
    assert done.stdout == whole
    assert done.stderr.endswith("the last one did not come to its end: `resume` continues it\n")


def test_secrets_and_the_place_of_the_repository_are_left_out(project: Project) -> None:
    project.env["MY_TOKEN"] = "hunter2hunter2"
    said = event("WP01", "deferred", reason="it said hunter2hunter2")
    gate = event(
        "WP01", "gate_begun", name="lint", head="a", log=str(project.root / ".kittify" / "logs" / "x")
    )
    write_journal(project, *numbered(*story(), said, gate))
    last = documents(project.run("events", "--since", "4").stdout)
    assert last[0]["data"]["reason"] == "it said [redacted]"
    assert last[1]["data"]["log"] == ".kittify/logs/x"


def test_the_schema_is_printed_in_any_folder(project: Project, tmp_path: Path) -> None:
    done = project.run("events", "--schema", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "Event"


def follower(project: Project, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*MAIN, "events", "-f", *args],
        cwd=project.root,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_who_follows_waits_for_the_first_run_and_gets_each_event_once_until_it_has_ended(
    project: Project,
) -> None:
    host_of_one(project)
    with follower(project, "--mission", SLUG) as follows:
        assert follows.stdout is not None
        assert follows.stderr is not None
        assert follows.stderr.readline() == f"waiting for a run of {SLUG}\n"
        with at_work(project, *ONE, "--output", "jsonl") as working:
            while '"attempt_opened"' not in follows.stdout.readline():
                pass
            working.let_the_agent_end()
            code, told = working.ended()
        assert code == 0, told
        followed, _ = follows.communicate(timeout=LIMIT_S)
    printed = [line for line in told.splitlines() if line.startswith('{"schema"')]
    last = json.loads(followed.splitlines()[-1])
    assert (follows.returncode, last["kind"]) == (0, "run_ended")
    assert followed.splitlines() == printed[-len(followed.splitlines()) :]
    assert project.run("events").stdout.splitlines() == printed


def test_a_killed_run_and_the_one_that_resumes_it_print_the_lines_of_the_journal(project: Project) -> None:
    host_of_one(project)
    with at_work(project, *ONE, "--output", "jsonl") as working:
        with follower(project) as follows:
            assert follows.stdout is not None
            while '"attempt_opened"' not in follows.stdout.readline():
                pass
            working.run.kill()
            _, said = follows.communicate(timeout=LIMIT_S)
        assert (follows.returncode, "`resume` continues it" in said) == (0, True)
        _, first = working.ended()
        working.let_the_agent_end()
        second = project.run("resume", "--output", "jsonl")
    assert second.returncode == 0, second.stderr
    printed = [line for line in first.splitlines() if line.startswith('{"schema"')]
    assert project.run("events").stdout.splitlines() == [*printed, *second.stdout.splitlines()]
    numbers = [json.loads(line)["seq"] for line in printed] + [one["seq"] for one in documents(second.stdout)]
    assert numbers == list(range(1, len(numbers) + 1))
    since = project.run("events", "--since", str(numbers[len(printed) - 1])).stdout
    assert since == second.stdout


def test_a_reader_that_has_had_enough_ends_the_one_who_follows_and_not_the_run(project: Project) -> None:
    host_of_one(project)
    with at_work(project, *ONE, "--output", "jsonl") as working:
        with follower(project) as follows:
            assert follows.stdout is not None
            assert '"run_started"' in follows.stdout.readline()
            follows.stdout.close()
            assert follows.wait(LIMIT_S) == 0
            assert follows.stderr is not None
            assert follows.stderr.read() == ""
        working.let_the_agent_end()
        assert working.ended()[0] == 0


ONE_EVENT = Entry(datetime(2026, 1, 2, tzinfo=UTC), "WP01", Submitted())


def keep(journal: JsonlJournal, count: int) -> None:
    async def append() -> None:
        for _ in range(count):
            await journal.append(ONE_EVENT)

    anyio.run(append)


def test_who_follows_gets_each_event_once_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    directory = tmp_path / ".kittify" / "orchestrator" / SLUG
    path = directory / "journal.jsonl"
    source = MissionEvents(tmp_path, SLUG)

    def news() -> list[int]:
        return [line.seq for line in source.news()]

    assert news() == []
    keep(JsonlJournal(directory, tmp_path), 2)
    assert news() == [1, 2]
    # What came before it was put aside, and after.
    keep(JsonlJournal(directory, tmp_path), 2)
    path.rename(directory / "journal-20260102T000000.000000Z.jsonl")
    assert news() == []
    keep(JsonlJournal(directory, tmp_path), 2)
    assert news() == [3, 4, 5, 6]
    # Somebody removed it while a run wrote, which puts it back.
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)
    keep(JsonlJournal(directory, tmp_path), 1)
    assert news() == [7]
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":8,"line":"ev')
    assert news() == []
    keep(JsonlJournal(directory, tmp_path), 1)
    assert news() == [8]


def test_a_damaged_journal_is_one_clear_line(project: Project) -> None:
    journal = write_journal(project, *story())
    with journal.open("a") as file:
        file.write("}{\n" + json.dumps(numbered(END, begin=5)[0]) + "\n")
    done = project.run("events")
    assert (done.returncode, done.stdout) == (3, "")
    assert "line 5 is damaged" in done.stderr
    assert done.stderr.count("\n") == 1
