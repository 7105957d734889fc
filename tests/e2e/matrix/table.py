"""The matrix as it is recorded, and as docs/agents.md shows it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter
from tests.e2e.matrix.columns import COLUMNS

RECORD = Path(__file__).parent.parent / "data" / "matrix.json"
BEGIN, END = "<!-- the matrix: written by agents-real -->", "<!-- end of the matrix -->"

NOT_RUN: Mapping[str, str] = {
    "cursor": "its CLI needs an account, and is not on npm (the package `cursor-agent` there is another "
    "program). Verified instead: its commands, a prompt of 200 KB and its outcomes, on a program that takes "
    "the arguments and prints the events which its vendor documents",
}
"""Agents that no row can be run for here, and what was verified instead."""


@dataclass(frozen=True)
class Cell:
    """`pass`, `fail` or `not run`, with a note or the reason."""

    result: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One agent; `version` is what its CLI says."""

    agent: str
    package: str
    version: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Matrix:
    """The rows, and with which host they were run."""

    host: str
    rows: Sequence[Row] = field(default_factory=tuple)

    def with_rows(self, rows: Sequence[Row], host: str) -> "Matrix":
        """Replace rows, and add new ones, in the order of the names."""
        merged = {row.agent: row for row in (*self.rows, *rows)}
        return Matrix(host, tuple(merged[agent] for agent in sorted(merged)))


_MATRIX = TypeAdapter(Matrix)


def read(file: Path = RECORD) -> Matrix:
    """Return the recorded matrix, an empty one if there is none."""
    return _MATRIX.validate_json(file.read_bytes()) if file.is_file() else Matrix("")


def write(matrix: Matrix, file: Path = RECORD) -> None:
    """Record a matrix."""
    file.write_text(json.dumps(asdict(matrix), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def markdown(matrix: Matrix) -> str:
    """Show a matrix as a table, with what there is to say of its cells beneath."""
    lines = [f"| agent | CLI | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    notes: list[str] = []
    for row in matrix.rows:
        cells = [_cell(row.cells.get(name, Cell("not run", "")), notes) for name in COLUMNS]
        lines.append(f"| {row.agent} | `{row.package}` | {' | '.join(cells)} |")
    for agent, why in NOT_RUN.items():
        cells = [_cell(Cell("not run", why), notes)] * len(COLUMNS)
        lines.append(f"| {agent} | | {' | '.join(cells)} |")
    told = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", f"Run on spec-kitty {matrix.host}.", *(["", *told] if told else []), ""])


def _cell(cell: Cell, notes: list[str]) -> str:
    if not cell.note:
        return cell.result
    if cell.note not in notes:
        notes.append(cell.note)
    return f"{cell.result} ({notes.index(cell.note) + 1})"


def shown_in(text: str) -> str:
    """Return the table that a document shows, "" if it shows none."""
    found = re.search(f"{re.escape(BEGIN)}\n\n(.*?)\n{re.escape(END)}", text, re.DOTALL)
    return found[1] if found else ""


def put_into(text: str, table: str) -> str:
    """Return a document that shows this table in the place of the one that it shows."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"
