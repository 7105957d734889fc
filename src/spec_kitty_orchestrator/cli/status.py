"""`status`: where every work package stands, or one; from the journal, at once.

What only some of its options need is loaded for these alone.
"""

import json
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from spec_kitty_orchestrator.app.journals import journaled, root_around
from spec_kitty_orchestrator.app.status import StatusReader
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.ci import inert_json
from spec_kitty_orchestrator.views.screen import Row, Screen, stdout
from spec_kitty_orchestrator.views.status import MissionStatus
from spec_kitty_orchestrator.views.status_rows import mission_rows, wp_rows

__all__ = ["FORMATS", "JSON", "ONELINE", "TABLE"]

REDRAWN_S = 2.0
"""How often `--watch` looks."""


TABLE, JSON, ONELINE = FORMATS = ("table", "json", "oneline")


def status(
    wp: Annotated[
        str | None,
        typer.Argument(metavar="WP", help="Tell all of this one, for example WP03.", show_default=False),
    ] = None,
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the most recent run's.", show_default=False),
    ] = None,
    repo_root: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The project; else the current directory's.", show_default=False),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="|".join(FORMATS), help="For people, for programs, or in one line."),
    ] = TABLE,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code",
            help="Exit as the run would: 0 while all goes well, 1 if a work package needs you; once it has "
            "ended, with its own code (130: it was cut off; 6: it was never run).",
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look every two seconds, until the run has ended.")
    ] = False,
    host: Annotated[
        bool, typer.Option("--host", help="Ask spec-kitty for the lanes, too, which takes seconds.")
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Say what is left, too: how long and how much; takes seconds.")
    ] = False,
) -> None:
    """Show where every work package stands, and what needs you.

    This comes from the journal, at once; a mission that was never run here is asked for at spec-kitty.
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    if watch and host:
        raise UsageError("--watch looks at the journal again and again; it does not ask the host")
    root = root_around(Path(repo_root) if repo_root else None, os.environ)
    known = journaled(root)
    if mission is None and not known:
        raise UsageError("no mission was run here yet; name one with --mission")
    reader = StatusReader(root, mission or known[0], os.environ)
    screen = stdout(reader.redactor)
    found = reader.read()
    if watch:
        found = _watched(reader, screen, wp, form, found)
    if host or not reader.was_run:
        found = _asked(reader, root, quiet=form != TABLE)
    left, ahead = _forecast(root, found) if forecast else ("", None)
    if form == JSON:
        document = {**found.document(known), "forecast": ahead}
        print(inert_json(json.dumps(reader.redactor.value(document), indent=2, default=datetime.isoformat)))  # noqa: T201
    elif form == ONELINE:
        screen.show([Row(text=found.line + (f"; {left}" if left else ""), copied=True)])
    else:
        if mission is None and len(known) > 1 and wp is None:
            screen.show([Row(text=f"also run here: {', '.join(known[1:])}", style="dim", indent=2)])
        screen.show([*_rows(found, wp, screen), *([Row(text=left, indent=2)] if left else [])])
    if exit_code:
        raise typer.Exit(found.exit_code)


def _rows(found: MissionStatus, wp: str | None, screen: Screen) -> Sequence[Row]:
    if wp is None:
        return list(mission_rows(found, screen.size[0]))
    named = next((one for one in found.report.wps if one.id == wp.upper()), None)
    if named is None:
        ids = ", ".join(sorted(one.id for one in found.report.wps))
        raise UsageError(f"{wp} is no work package of this mission; it has {ids}")
    return list(wp_rows(found, named))


def _watched(
    reader: StatusReader, screen: Screen, wp: str | None, form: str, found: MissionStatus
) -> MissionStatus:
    """Look until the run has ended; on a terminal, show it meanwhile."""
    draws = screen.is_terminal and form == TABLE
    if draws:
        screen.apart(on=True)
    try:
        while found.owner is not None:
            if draws:
                screen.redraw(_rows(found, wp, screen))
            time.sleep(REDRAWN_S)
            found = reader.read()
    finally:
        if draws:
            screen.apart(on=False)
    return found


def _asked(reader: StatusReader, root: Path, *, quiet: bool) -> MissionStatus:
    """Return the status with the lanes that the host tells."""
    import anyio

    from spec_kitty_orchestrator.app.status import ask_host
    from spec_kitty_orchestrator.views.console import tell_asking

    def asking(slug: str) -> None:
        if not quiet:
            tell_asking("spec-kitty", slug, reader.redactor)

    return reader.read_with(anyio.run(ask_host, root, reader.mission, asking))


def _forecast(root: Path, found: MissionStatus) -> tuple[str, object]:
    """Say what is left of the run, and return that as a document, too."""
    import anyio

    from spec_kitty_orchestrator.app.status import forecast
    from spec_kitty_orchestrator.core.forecast import NOTHING_KNOWN, NOTHING_LEFT

    ahead = anyio.run(forecast, root, found)
    if all(one.situation.wp.lane.complete for one in found.report.wps):
        return f"No forecast: {NOTHING_LEFT}", ahead and ahead.document
    return f"What is left: {ahead}" if ahead else f"No forecast: {NOTHING_KNOWN}", ahead and ahead.document
