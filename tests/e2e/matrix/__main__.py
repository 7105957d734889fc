"""`python -m tests.e2e.matrix [--record | --latest] [--keep] [AGENT …]`: runs rows, and prints a table.

With `--latest` it runs what npm's registry has today instead, and prints what that changes. Exit code 1 if a
column of a row that was run failed.
"""

# ruff: noqa: T201 - it prints

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.clis import CLIS
from tests.e2e.clis.spec import Cli
from tests.e2e.matrix import table
from tests.e2e.matrix.latest import try_latest
from tests.e2e.matrix.row import Missions, run_row

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "agents.md"


def main() -> int:
    """Run the rows that are named, or all."""
    parser = argparse.ArgumentParser(prog="agents-real", description=__doc__)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=", ".join(CLIS))
    parser.add_argument("--host", default="spec-kitty", help="the host's executable")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--record", action="store_true", help="keep the rows, also in docs/agents.md")
    which.add_argument("--latest", action="store_true", help="try what npm's registry has today")
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
        run = _latest if asked.latest else _rows
        failed = not run([CLIS[agent] for agent in asked.agents or CLIS], missions, record=asked.record)
    finally:
        if asked.keep or failed:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return int(failed)


def _rows(clis: Sequence[Cli], missions: Missions, *, record: bool) -> bool:
    matrix = table.Matrix(missions.version())
    for cli in clis:
        with _timed(cli):
            row = run_row(cli, missions, ROOT / ".cache" / "agents")
        matrix = matrix.with_rows([row], matrix.host)
        if record:
            _record(row, matrix.host)
    print(table.markdown(matrix))
    return not any(cell.result == "fail" for row in matrix.rows for cell in row.cells.values())


def _latest(clis: Sequence[Cli], missions: Missions, *, record: bool) -> bool:
    # Beside the cache of the tested ones, which other runs use meanwhile.
    cache = ROOT / ".cache" / "agents-latest"
    recorded, works = table.read(), True
    for cli in clis:
        with _timed(cli):
            found = try_latest(cli, recorded, missions, cache)
        print(found, flush=True)
        works = works and found.works
    return works


@contextmanager
def _timed(cli: Cli) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"{cli.agent}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def _record(row: table.Row, host: str) -> None:
    matrix = table.read().with_rows([row], host)
    table.write(matrix)
    shown = table.put_into(DOCUMENT.read_text(encoding="utf-8"), table.markdown(matrix))
    DOCUMENT.write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
