"""The documentation shows the matrix as it was last run."""

from pathlib import Path

import pytest
from tests.e2e.clis import CLIS
from tests.e2e.installing import FOLDERS
from tests.e2e.matrix import table
from tests.e2e.matrix.columns import COLUMNS
from tests.e2e.matrix.row import Missions, run_row

from spec_kitty_orchestrator.agents import BUILT_IN

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
    row = run_row("codex", Missions(tmp_path / "missions", "spec-kitty"), tmp_path / "cache")
    why = f"{FOLDERS} is set, and codex is not in the folders that it names"
    assert set(row.cells.values()) == {table.Cell("not run", why)}


def test_a_cli_that_cannot_be_run_fails_every_column_and_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("codex", "node"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    row = run_row("codex", Missions(tmp_path / "missions", str(tmp_path / "no-host")), tmp_path / "cache")
    assert {cell.result for cell in row.cells.values()} == {"fail"}
