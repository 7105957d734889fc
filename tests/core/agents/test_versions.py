"""The version of a CLI, read from whatever it prints."""

import pytest

from spec_kitty_orchestrator.agents.versions import major, read_version, tried


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("2.1.197 (Claude Code)\n", "2.1.197"),
        ("codex-cli 0.169.0\n", "0.169.0"),
        ("GitHub Copilot CLI 1.0.102.\nRun 'copilot update' to check for updates.\n", "1.0.102"),
        ("0.36.0 (commit 7c61e5bb)\n", "0.36.0"),
        ("warning: no config\nv1.2.3-beta.1\n", "1.2.3-beta.1"),
        ("2025.09.18-7ae6800\n", "2025.09.18-7ae6800"),
        ("", ""),
        ("usage: bot PROMPT\n", ""),
        ("listening on 127.0.0.1.5.6\n", ""),
        ("\x1b]0;evil\x07 no version here \ud800\n", ""),
        ("1" * 100_000, ""),
    ],
)
def test_the_first_version_in_the_output_is_taken_and_nothing_else(printed: str, version: str) -> None:
    assert read_version(printed) == version


@pytest.mark.parametrize(
    ("version", "promise"),
    [("2.1.197", "2"), ("0.169.0", "0.169"), ("0.36", "0.36"), ("1.0.102-rc.1", "1"), ("0.5-beta", "0.5")],
)
def test_the_minor_counts_as_the_major_before_one(version: str, promise: str) -> None:
    assert major(version) == promise


@pytest.mark.parametrize(
    ("version", "known"),
    [("2.9.0", True), ("3.0.0", False), ("0.169.4", True), ("0.170.0", False), ("", False), ("new", False)],
)
def test_a_version_was_tried_if_its_major_was(version: str, known: bool) -> None:
    assert tried(version, ("0.169.0", "2.1.197")) is known


def test_nothing_was_tried_of_an_agent_that_names_no_versions() -> None:
    assert not tried("1.0.0", ())
