"""`trust`: says that the programs which a repository's own files name may run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.runs import known_runs
from spec_kitty_orchestrator.app.trust import named_programs, revoke
from spec_kitty_orchestrator.app.trust import trust as record
from spec_kitty_orchestrator.cli.options import RepoRoot
from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["trust"]


def trust(
    repo_root: RepoRoot = None,
    show: Annotated[bool, typer.Option("--show", help="Only list what would run.")] = False,
    withdraw: Annotated[bool, typer.Option("--revoke", help="Trust nothing of this repository.")] = False,
) -> None:
    """Trust the programs that the repository's own files name.

    What they name now is listed and may run from then on; whatever is changed or added later is asked for
    again. In CI, the variable SKO_TRUST_SETTINGS=1 says the same for one start.
    """
    root = find_repo_root(repo_root)
    console = SteadyConsole()
    if withdraw:
        revoke(root)
        console.tell(f"nothing that files of {root} name runs any more before you trust it again")
        return
    named = named_programs(root, *anyio.run(_recorded, root))
    if not named.programs:
        console.tell(f"the files of {root} name no programs; nothing needs your trust")
        return
    for one in named.programs:
        console.tell(f"  {one}")
    if show:
        console.tell("these may run" if named.trusted else "these may not run before you trust them")
        return
    record(named)
    console.tell("these may run from now on")


async def _recorded(root: Path) -> list[Mapping[str, object]]:
    """Return the settings of the runs that journals here know, each of which `resume` would go on with."""
    return [run.started.settings for run in await known_runs(root) if run.started is not None]
