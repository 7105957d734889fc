"""The version of a CLI, read from whatever it prints."""

import pytest
from packaging.version import Version

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.versions import compare, read_version, spelled_range


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
    ("version", "compared"),
    [
        ("0.168.9", "older"),
        ("0.169", "tested"),
        ("0.170.4", "tested"),
        ("0.171.0-alpha.3", "tested"),
        ("0.171.0", "tested"),
        ("0.171.1", "newer"),
        ("1.0.0", "newer"),
        ("2025.09.18-7ae6800", "newer"),
    ],
)
def test_a_version_between_the_oldest_and_the_newest_tested_counts_as_tested(
    version: str, compared: str
) -> None:
    assert compare(version, ("0.169.0", "0.169.4", "0.171.0")) == compared


def test_one_tested_version_is_a_range_too() -> None:
    assert compare("0.36.0", ("0.36.0",)) == "tested"
    assert (spelled_range(("0.36.0",)), spelled_range(("1.0", "1.5", "2.0"))) == ("0.36.0", "1.0 to 2.0")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_tested_versions_of_each_agent_are_told_oldest_first(name: str) -> None:
    tested = find(name).versions
    assert list(tested) == sorted(tested, key=Version)
