"""`notify`, and a run that tells people, to real servers and without a word of what is secret."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import SLUG
from tests.webhooks import answers, server

Project = Any  # the class lives in conftest, which tests cannot import
SECRET = "of-nobody-else-8f3a"
GONE = "no-such-program"


def bodies(asked: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(one.partition(b"\r\n\r\n")[2]) for one in asked]


def test_without_places_it_says_how_to_name_one(project: Project) -> None:
    done = project.run("notify", "--test")
    assert done.returncode == 2
    assert "has no [[notify]]; docs/notifications.md" in done.stderr


def test_it_lists_the_places_without_their_secrets(project: Project) -> None:
    project.configure(
        f"""
        [[notify]]
        url = "https://example.test/{SECRET}"
        token = "${{TOKEN}}"
        [[notify]]
        on = ["slow"]
        url = "${{HOOK}}"
        format = "slack"
        [[notify]]
        command = ["no-such-program"]
        [[notify]]
        bell = true
        """
    )
    project.env["TOKEN"] = "tk_Xo93mAqz"
    done = project.run("notify")
    assert done.returncode == 0
    unusable = "it cannot be used"
    assert done.stdout.splitlines() == [
        "cloudevents: cloudevents at example.test, on needs_person, ended",
        f"slack: slack at ${{HOOK}}, on slow; {unusable}: the variable HOOK is not set",
        f"command: the command {GONE}, on needs_person, ended; {unusable}: there is no program {GONE}",
        f"bell: the terminal, on needs_person, ended; {unusable}: there is no terminal",
    ]


def test_a_test_message_goes_to_each_place_and_what_became_of_it_is_said(project: Project) -> None:
    with server(answers("200 OK")) as (good, asked), server(answers("404 Gone", "no_team")) as (bad, _):
        project.configure(
            f"""
            [[notify]]
            name = "good"
            url = "{good}/${{HOOK}}"
            [[notify]]
            name = "bad"
            url = "{bad}"
            format = "slack"
            [[notify]]
            command = ["/bin/sh", "-c", "cat > told"]
            """
        )
        project.env["HOOK"] = SECRET
        done = project.run("notify", "--test", "--mission", SLUG)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"good (cloudevents at {good}/${{HOOK}}) was told",
        "bad (slack at 127.0.0.1) was not told: it answered 404: no_team",
        "command (the command /bin/sh) was told",
        "1 of 3 places could not be told",
    ]
    (event,) = bodies(asked)
    assert asked[0].startswith(f"POST /hook/{SECRET} ".encode())
    assert event["type"] == "spec-kitty-orchestrator.test"
    assert event["subject"] == SLUG
    assert json.loads((project.root / "told").read_text()) == event


def test_doctor_says_what_is_wrong_with_places_and_tells_nobody(project: Project) -> None:
    project.configure('[[notify]]\nurl = "${HOOK}"\n')
    done = project.run("doctor", "--json", "--impl-agent", "scripted", "--review-agent", "scripted")
    (one,) = [one for one in json.loads(done.stdout)["findings"] if one["id"] == "notify.place"]
    assert one["level"] == "warning"
    assert "the variable HOOK is not set" in one["text"]
    project.env["HOOK"] = "https://example.test/x"
    done = project.run("doctor", "--json", "--impl-agent", "scripted", "--review-agent", "scripted")
    (one,) = [one for one in json.loads(done.stdout)["findings"] if one["id"] == "notify.place"]
    assert (one["level"], "notify --test" in one["text"]) == ("ok", True)


def test_commands_and_addresses_of_a_repository_count_only_once_they_are_trusted(
    project: Project, tmp_path: Path
) -> None:
    del project.env["SKO_TRUST_SETTINGS"]
    project.env["HOME"] = str(tmp_path / "home")
    project.configure("[[notify]]\nbell = true\n")
    assert project.run("notify").returncode == 0
    project.configure('[[notify]]\nurl = "https://example.test/${AWS_SECRET_ACCESS_KEY}"\n')
    done = project.run("notify", "--test")
    assert done.returncode == 5
    assert '[notify] {"url": "https://example.test/${AWS_SECRET_ACCESS_KEY}"}' in done.stderr


def everything_written(project: Project) -> str:
    files = [one for one in project.root.rglob("*") if one.is_file() and "orchestrator.toml" not in one.name]
    return "".join(one.read_bytes().decode("utf-8", "replace") for one in files)


@pytest.mark.parametrize("status", ["200 OK", "500 Oh"])
def test_a_run_tells_its_end_and_nothing_that_it_writes_holds_an_address_or_a_token(
    project: Project, status: str
) -> None:
    project.lanes({"WP01": "done"})
    with server(answers(status, f"bad {SECRET}")) as (url, asked):
        project.configure(f'[[notify]]\nurl = "{url}/${{HOOK}}"\ntoken = "${{OTHER}}"\n')
        project.env |= {"HOOK": SECRET, "OTHER": "tk_Xo93mAqz"}
        done = project.orchestrate("--output", "plain")
    assert done.returncode == 0, done.stderr
    told = bodies(asked)
    assert [one["data"]["title"] for one in told[:1]] == ["1 of 1 work package is done"]
    assert b"authorization: bearer tk_xo93maqz" in asked[0].lower()
    written = done.stdout + done.stderr + everything_written(project)
    assert SECRET not in written
    assert "tk_Xo93mAqz" not in written
    assert ("warning: cloudevents could not be told" in done.stdout) is (status == "500 Oh")
    events = [json.loads(one) for one in project.run("events").stdout.splitlines()]
    (kept,) = [one for one in events if one["kind"] == "notified"]
    assert (kept["data"]["on"], bool(kept["data"]["problem"])) == ("ended", status == "500 Oh")
    assert [one["kind"] for one in events][-2:] == ["run_ended", "notified"]


def test_a_place_that_cannot_be_used_is_said_once_and_the_run_goes_on(project: Project) -> None:
    project.lanes({"WP01": "done"})
    project.configure('[[notify]]\nurl = "${HOOK}"\n[[notify]]\nbell = true\n')
    done = project.orchestrate("--output", "plain")
    assert done.returncode == 0
    why = "warning: cloudevents is told nothing of this run: the variable HOOK is not set"
    assert done.stdout.count(why) == 1
    assert "bell" not in done.stdout


def test_a_place_that_never_answers_holds_up_the_end_for_seconds_only(project: Project) -> None:
    project.lanes({"WP01": "done"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        project.configure(f'[[notify]]\nurl = "http://127.0.0.1:{silent.getsockname()[1]}"\n')
        done = project.orchestrate("--output", "plain")
    assert done.returncode == 0
    assert "warning: cloudevents did not take all messages within 5 s after the run" in done.stdout
