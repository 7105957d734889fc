"""`python -m tests.e2e.matrix [--record] [--keep] [AGENT …]`: runs rows, and prints them as a table.

Exit code 1 if a column of a row that was run failed.
"""

# ruff: noqa: T201 - it prints

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.clis import CLIS
from tests.e2e.matrix import table
from tests.e2e.matrix.row import Missions, run_row

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "agents.md"


def main() -> int:
    """Run the rows that are named, or all."""
    parser = argparse.ArgumentParser(prog="agents-real", description=__doc__)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=", ".join(CLIS))
    parser.add_argument("--host", default="spec-kitty", help="the host's executable")
    parser.add_argument("--record", action="store_true", help="keep the rows, also in docs/agents.md")
    parser.add_argument(
        "--keep", action="store_true", help="leave the missions on the disk, as a failure does"
    )
    asked = parser.parse_args()
    unknown = set(asked.agents) - set(CLIS)
    if unknown:
        parser.error(f"no such agent: {', '.join(sorted(unknown))} (known: {', '.join(CLIS)})")
    # Not below the folder for temporary files: there codex's sandbox can start no command.
    (ROOT / ".cache").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="agents-real-", dir=ROOT / ".cache"))
    failed = True
    try:
        missions = Missions(folder, asked.host)
        matrix = table.Matrix(missions.version())
        for agent in asked.agents or CLIS:
            begun = time.monotonic()
            row = run_row(agent, missions, ROOT / ".cache" / "agents")
            print(f"{agent}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            matrix = matrix.with_rows([row], matrix.host)
            if asked.record:
                _record(row, matrix.host)
        failed = any(cell.result == "fail" for row in matrix.rows for cell in row.cells.values())
    finally:
        if asked.keep or failed:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    print(table.markdown(matrix))
    return int(failed)


def _record(row: table.Row, host: str) -> None:
    matrix = table.read().with_rows([row], host)
    table.write(matrix)
    shown = table.put_into(DOCUMENT.read_text(encoding="utf-8"), table.markdown(matrix))
    DOCUMENT.write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
