"""Tries what the registry has today, and says what that changes of the recorded matrix."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.e2e.clis.spec import Cli
from tests.e2e.installing import NotInstalled, NotThere, newest, program_of
from tests.e2e.matrix import table
from tests.e2e.matrix.columns import COLUMNS
from tests.e2e.matrix.row import Missions, run_row


@dataclass(frozen=True)
class Latest:
    """What became of one CLI.

    Attributes:
        tested: the version that the record was made with.
        registry: the newest, "" if that is not known.
        reason: why it was not run, "" if it was.
        changed: the columns whose result is another, each with both.
        works: whether everything that held still holds.
    """

    agent: str
    tested: str
    registry: str = ""
    reason: str = ""
    changed: tuple[str, ...] = ()
    works: bool = True

    def __str__(self) -> str:
        """Say it in one line, and in one more for each column that changed."""
        said = f"{self.agent}: tested {self.tested}, registry {self.registry or 'unknown'}: "
        if self.reason:
            return said + self.reason
        if not self.changed:
            return f"{said}passes"
        return "\n  ".join((f"{said}these columns changed:", *self.changed))


def try_latest(cli: Cli, recorded: table.Matrix, missions: Missions, cache: Path) -> Latest:
    """Install the newest version of a CLI in a cache of its own, and run its row."""
    package, _, tested = cli.package.rpartition("@")
    found = Latest(cli.agent, tested)
    try:
        registry, node = newest(package)
        found = replace(found, registry=registry)
        if registry == tested:
            return replace(found, reason="the same")
        cli = replace(cli, package=f"{package}@{registry}", node=max(cli.node, node))
        program_of(cli, cache)
    except NotInstalled as why:
        return replace(found, reason=f"cannot be installed: {why}")
    except NotThere as why:
        return replace(found, reason=f"not run: {why}")
    row = run_row(cli, missions, cache)
    before = next((one for one in recorded.rows if one.agent == cli.agent), None)
    changed = tuple(_changes(before, row))
    works = not any(cell.result == "fail" for cell in row.cells.values())
    return replace(found, changed=changed, works=works)


def _changes(before: table.Row | None, now: table.Row) -> Iterator[str]:
    for name in COLUMNS:
        old = before.cells.get(name) if before else None
        new = now.cells[name]
        if old is None or (old.result, old.note) != (new.result, new.note):
            yield f"{name}: {_spelled(old)} before, now {_spelled(new)}"


def _spelled(cell: table.Cell | None) -> str:
    if cell is None:
        return "not recorded"
    return f"{cell.result} ({cell.note})" if cell.note else cell.result
