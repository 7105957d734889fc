"""Attempt directories and the run's log."""

import json
import logging
import stat
from pathlib import Path

import pytest
from structlog.contextvars import bound_contextvars

from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.log import LOGGER_NAME, get_logger
from spec_kitty_orchestrator.machine import logs
from spec_kitty_orchestrator.machine.redaction import Redactor


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(root: Path, number: int = 1, role: Role = Role.IMPLEMENT, agent: str = "codex") -> tuple[int, str]:
    found, directory = logs.open_directory(root, "034-demo", "WP01", number, role, agent)
    assert mode(directory) == 0o700
    return found, str(directory.relative_to(root))


def test_an_attempt_has_a_private_directory_that_git_ignores(tmp_path: Path) -> None:
    assert opened(tmp_path) == (1, ".kittify/logs/034-demo/WP01/01-implement-codex")
    assert (tmp_path / ".kittify/logs/.gitignore").read_text() == "*\n"
    assert mode(tmp_path / ".kittify/logs") == 0o700
    assert mode(tmp_path / ".kittify/logs/034-demo/WP01") == 0o700


def test_a_directory_that_was_only_prepared_is_used_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    (tmp_path / first[1] / "prompt.md").write_text("x")

    assert opened(tmp_path) == first


def test_a_number_under_which_anything_was_started_is_never_used_again(tmp_path: Path) -> None:
    _, first = opened(tmp_path)
    (tmp_path / first / "stdout.log").touch()
    _, third = opened(tmp_path, 3, Role.REVIEW)
    (tmp_path / third / "stdout.log").touch()

    assert opened(tmp_path) == (2, ".kittify/logs/034-demo/WP01/02-implement-codex")
    assert opened(tmp_path, 3) == (4, ".kittify/logs/034-demo/WP01/04-implement-codex")


@pytest.mark.parametrize("name", ["../../etc", "/abs", "..", "", "a b", "x" * 300, ".hidden", "é", "\ud800"])
def test_a_strange_name_becomes_one_part_of_a_path(name: str) -> None:
    part = logs.path_part(name)

    assert len(Path(part).parts) == 1
    assert not part.startswith(".")
    assert len(part) <= 100
    assert part != logs.path_part(name + "-other")


def test_a_plain_name_stays_as_it_is() -> None:
    assert logs.path_part("034-My_feature.v2") == "034-My_feature.v2"


def test_the_log_is_private_json_lines_without_secrets_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = logs.mission_logs(tmp_path, "m") / "orchestrator.log"

    with logs.configure_logging(tmp_path, "m", Redactor(["hunter22"])), bound_contextvars(wp="WP01"):
        get_logger().info("said hunter22", argv=["--pass", "hunter22"], env={"X": "hunter22"}, n=1)
        get_logger().error("failed", exc_info=ValueError("hunter22"))
    get_logger().info("after the end")

    first, second = map(json.loads, path.read_text().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "said [redacted]",
        "argv": ["--pass", "[redacted]"],
        "env": {"X": "[redacted]"},
        "n": 1,
        "wp": "WP01",
        "level": "info",
    }
    assert second["exception"].endswith("ValueError: [redacted]")
    assert mode(path) == 0o600
    assert capfd.readouterr() == ("", "")


def test_a_log_that_is_not_configured_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger().error("nobody listens")

    assert capfd.readouterr() == ("", "")


def test_a_second_run_appends_and_the_logger_is_left_as_it_was(tmp_path: Path) -> None:
    logger = logging.getLogger(LOGGER_NAME)
    before = (logger.level, logger.propagate, list(logger.handlers))

    for number in (1, 2):
        with logs.configure_logging(tmp_path, "m"):
            get_logger().info("run", number=number)

    lines = (logs.mission_logs(tmp_path, "m") / "orchestrator.log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]
    assert (logger.level, logger.propagate, logger.handlers) == before
