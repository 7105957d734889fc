"""The documentation shows the matrix as it was last run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.clis import CLIS
from tests.e2e.clis.spec import Cli
from tests.e2e.installing import FOLDERS
from tests.e2e.matrix import latest, table
from tests.e2e.matrix.columns import COLUMNS
from tests.e2e.matrix.latest import try_latest
from tests.e2e.matrix.row import Missions, run_row

from spec_kitty_orchestrator.agents import BUILT_IN, find

DOCUMENT = Path(__file__).parents[2] / "docs" / "agents.md"


def test_the_documentation_shows_the_matrix_that_was_recorded() -> None:
    assert table.shown_in(DOCUMENT.read_text(encoding="utf-8")) == table.markdown(table.read())


def test_every_agent_has_a_row_or_a_reason_why_it_has_none() -> None:
    shown = [row.agent for row in table.read().rows] + list(table.NOT_RUN)
    assert sorted(shown) == sorted(set(BUILT_IN) - {"scripted"})


def test_no_column_of_the_record_failed() -> None:
    cells = {(row.agent, name): cell for row in table.read().rows for name, cell in row.cells.items()}
    assert {where: cell for where, cell in cells.items() if cell.result == "fail"} == {}


def test_every_row_of_the_record_has_every_column() -> None:
    assert [list(row.cells) for row in table.read().rows] == [list(COLUMNS)] * len(table.read().rows)


@pytest.mark.parametrize("row", table.read().rows, ids=lambda row: row.agent)
def test_a_row_was_run_with_the_version_that_its_cli_is_installed_in(row: table.Row) -> None:
    assert row.package == CLIS[row.agent].package
    assert row.version == row.package.rpartition("@")[2]


@pytest.mark.parametrize("agent", CLIS)
def test_the_newest_version_that_users_are_told_is_the_one_of_the_matrix(agent: str) -> None:
    assert find(agent).versions[-1] == CLIS[agent].package.rpartition("@")[2]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts an npm with such a script on PATH."""
    monkeypatch.delenv(FOLDERS, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "node").write_text("#!/bin/sh\necho v22.0.0\n")

    def write(script: str) -> None:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        for name in ("npm", "node"):
            (tmp_path / name).chmod(0o755)

    return write


VIEW = """[ $1 = view ] && { echo '{"version": "9.9.9", "engines": {"node": ">=20"}}'; exit; }
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            f"{VIEW}echo 'npm error npm error notarget No matching version found for a@1.' >&2; exit 1",
            "registry 9.9.9: cannot be installed: No matching version found for a@1.",
        ),
        (
            "echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1",
            "registry unknown: not run: npm's registry does not tell the newest version: 404 Not Found",
        ),
        ("echo '\"1.6.0\"'", "registry 1.6.0: the same"),
    ],
)
def test_what_the_registry_has_and_cannot_be_run_is_told_with_the_reason(
    tmp_path: Path, npm: Callable[[str], None], script: str, said: str
) -> None:
    npm(script)
    found = try_latest(
        CLIS["pi"], table.read(), Missions(tmp_path / "missions", "spec-kitty"), tmp_path / "c"
    )
    assert str(found) == f"pi: tested 1.6.0, {said}"
    assert found.works


def test_what_a_newer_version_changes_is_told_column_by_column(
    tmp_path: Path, npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(f"{VIEW}mkdir -p node_modules/.bin; touch node_modules/.bin/pi; chmod +x node_modules/.bin/pi")
    (before,) = [row for row in table.read().rows if row.agent == "pi"]
    ran: list[str] = []

    def run(cli: Cli, _missions: Missions, _cache: Path) -> table.Row:
        ran.append(cli.package)
        changed = {"key refused": table.Cell("fail", "it said 401"), "200 KB": table.Cell("pass", "almost")}
        return replace(before, cells={**before.cells, **changed})

    monkeypatch.setattr(latest, "run_row", run)
    missions = Missions(tmp_path / "missions", "spec-kitty")
    found = try_latest(CLIS["pi"], table.read(), missions, tmp_path / "cache")
    assert ran == ["@earendil-works/pi-coding-agent@9.9.9"]
    assert str(found).splitlines() == [
        "pi: tested 1.6.0, registry 9.9.9: these columns changed:",
        "  key refused: pass before, now fail (it said 401)",
        "  200 KB: pass before, now pass (almost)",
    ]
    assert not found.works


def test_a_document_is_changed_nowhere_but_in_its_table() -> None:
    text = f"a\n\n{table.BEGIN}\n\nold\n{table.END}\n\nb\n"
    changed = table.put_into(text, "new\n")
    assert changed == f"a\n\n{table.BEGIN}\n\nnew\n\n{table.END}\n\nb\n"
    assert table.shown_in(changed) == "new\n"


def test_notes_stand_once_below_the_table_and_are_numbered_in_its_cells() -> None:
    cells = {name: table.Cell("fail", "it said no") for name in COLUMNS}
    shown = table.markdown(table.Matrix("1.2.3", (table.Row("a", "b@1", "1", cells),)))
    row = next(line for line in shown.splitlines() if line.startswith("| a |"))
    assert row.count("fail (1)") == len(COLUMNS)
    assert shown.count("it said no") == 1
    assert "\n1. it said no\n" in shown


def test_a_cli_that_is_not_there_is_not_run_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    row = run_row(CLIS["codex"], Missions(tmp_path / "missions", "spec-kitty"), tmp_path / "cache")
    why = f"{FOLDERS} is set, and codex is not in the folders that it names"
    assert set(row.cells.values()) == {table.Cell("not run", why)}


def test_a_cli_that_cannot_be_run_fails_every_column_and_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("codex", "node"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    row = run_row(
        CLIS["codex"], Missions(tmp_path / "missions", str(tmp_path / "no-host")), tmp_path / "cache"
    )
    assert {cell.result for cell in row.cells.values()} == {"fail"}
