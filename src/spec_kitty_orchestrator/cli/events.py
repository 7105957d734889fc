"""`events`: the events of a mission as JSON lines, from its journal, and as they come."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from spec_kitty_orchestrator.app.journals import root_around, run_here
from spec_kitty_orchestrator.app.mission_events import MissionEvents, run_to_come
from spec_kitty_orchestrator.app.status import redactor_around
from spec_kitty_orchestrator.core.documents import KINDS, to_document
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.run_events import Line, RunAborted, RunEnded
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.files import discard
from spec_kitty_orchestrator.views.json_lines import json_line

__all__ = ["events"]

POLL_S = 0.2
"""Between two looks at whether something was written."""
ALIVE_S = 1.0
"""Between two looks at whether the run is active."""


def _schema(wanted: bool) -> None:
    if wanted:
        file = resources.files("spec_kitty_orchestrator") / "events.schema.json"
        typer.echo(file.read_text(encoding="utf-8"), nl=False)
        raise typer.Exit


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    since: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEQ", help="Only those with a greater number.", show_default=False),
    ] = None,
    wp: Annotated[
        list[str] | None,
        typer.Option(metavar="WP", help="Only those of this work package; can be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only those of this kind; can be repeated.")
    ] = None,
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the most recent run's.", show_default=False),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_schema, is_eager=True, help="Print the JSON Schema of an event."),
    ] = False,
    repo_root: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The project; else the current directory's.", show_default=False),
    ] = None,
) -> None:
    """Print the events of a mission as JSON lines, or follow them.

    Each line is one object, as `orchestrate --output jsonl` prints it.

    They come from the journal. With -f a mission that was never run is waited for. Without --since the
    journal's own are printed; with it, those of journals that `--fresh` put aside, too.
    """
    del schema
    kinds = {one for told in kind or () for one in told.split(",")}
    if unknown := sorted(kinds - KINDS.keys()):
        raise UsageError(f"there is no kind of event {unknown[0]!r}; there are {', '.join(sorted(KINDS))}")
    wps = {one.upper() for told in wp or () for one in told.split(",")}
    root = root_around(Path(repo_root) if repo_root else None, os.environ)
    redactor = redactor_around(root, os.environ)
    slug = run_to_come(root, mission) if follow else run_here(root, mission)
    source = MissionEvents(root, slug, since)

    def write(line: Line) -> None:
        document = to_document(line, slug, str(root))
        if (not wps or document["wp"] in wps) and (not kinds or document["kind"] in kinds):
            sys.stdout.write(json_line(document, redactor))
            sys.stdout.flush()

    if wps and (unknown := sorted(wps.difference(known := source.work_packages()))):
        raise UsageError(f"{slug} has no work package {unknown[0]}; it has {', '.join(known) or 'none'}")
    try:
        for lines in _followed(source, _say, slug) if follow else [source.news()]:
            for line in lines:
                write(line)
    except BrokenPipeError:
        # The reader has seen enough.
        discard(sys.stdout.fileno())


def _say(message: str) -> None:
    sys.stderr.write(f"{plain(message)}\n")


def _followed(source: MissionEvents, say: Callable[[str], None], slug: str) -> Iterator[Sequence[Line]]:
    """Yield what is there, and what comes until the run has ended or the reader is gone."""
    waits = not source.known
    if waits:
        say(f"waiting for a run of {slug}")
    last: Line | None = None
    running, looked = True, -ALIVE_S
    while running or waits:
        if time.monotonic() - looked >= ALIVE_S:
            # Before the journal: what a run wrote is there once it has ended.
            running, looked = source.running, time.monotonic()
        lines = source.news()
        yield lines
        last = lines[-1] if lines else last
        if lines and waits:
            waits, running = False, True
        elif (running or waits) and _reader_is_gone():
            return
    if last is not None and not isinstance(last, RunEnded | RunAborted):
        say(f"no run of {slug} is active, and the last one did not come to its end: `resume` continues it")


def _reader_is_gone() -> bool:
    """Wait for `POLL_S`, or until nobody reads standard output any more, and tell whether that is so."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    found = watch.poll(POLL_S * 1000)
    gone = any(told & (select.POLLERR | select.POLLHUP) for _, told in found)
    if found and not gone:
        time.sleep(POLL_S)
    return gone
