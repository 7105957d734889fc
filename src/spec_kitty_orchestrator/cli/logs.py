"""`logs`: what agents and gates said and did, as the journal and the files of the attempts tell it."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.journals import run_here
from spec_kitty_orchestrator.app.log_follower import LogFollower
from spec_kitty_orchestrator.app.log_pages import ANY, FOUND, LogPages, Page
from spec_kitty_orchestrator.app.logs import MissionLog, Part, choose
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.quantities import seconds
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.log import LogView

__all__ = ["logs"]

_FOLLOWED = (Page.WORDS, Page.TOOLS, Page.RAW)


def logs(
    wp: Annotated[
        str | None,
        typer.Argument(metavar="WP", help="Id of a work package, for example WP03.", show_default=False),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on until the run ends; without a WP, everything that runs."),
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", help="This attempt; else the last one.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All attempts of the work package.")] = False,
    page: Annotated[
        Page,
        typer.Option(
            "--view",
            help="Words tell each step in a line, tools only those that do something, raw is the output "
            "itself; or what was asked, changed, tested, judged.",
        ),
    ] = Page.WORDS,
    failed: Annotated[
        bool, typer.Option("--failed", help="The ends of all attempts that failed, and of red gates.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Nothing older: 10m, 2h, 14:30 or an ISO time (UTC).", show_default=False
        ),
    ] = None,
    path: Annotated[
        bool, typer.Option("--path", help="Print where the files are, and nothing that is in them.")
    ] = False,
    mission: Annotated[str | None, options.mission_option("Slug; else the most recent run's.")] = None,
    repo_root: options.RepoRoot = None,
) -> None:
    """Show what agents and gates said and did, or follow it.

    All clocks are in UTC. Secrets and what acts on a terminal are left out of everything that is shown.
    """
    _check(wp, page, follow=follow, one=attempt is not None, every=every, failed=failed)
    begin = _since(since, datetime.now(UTC)) if since else None
    project = open_project(repo_root, os.environ, {})
    slug = run_here(project.root, mission)
    console = SteadyConsole(redactor=project.redactor)
    wp = wp.upper() if wp else None

    async def show() -> None:
        lines = await JsonlJournal(project.directory(slug), project.root).read()
        log, pages = MissionLog(lines), LogPages(project, LogView(console), begin)
        parts = _chosen(log.parts, wp, attempt, page, every=every or failed, follow=follow)
        if path:
            for place in pages.paths(page, [one for one in parts if one.failed or not failed]):
                console.out(str(place), highlight=False)
        elif failed:
            if not pages.failed(parts):
                console.tell(f"nothing failed in {slug}")
        else:
            # An attempt that is at work is shown by whoever follows it.
            for part in parts if wp else ():
                if not follow or part.exited:
                    await pages.show(page, part)
            if follow:
                shown = LogFollower(pages, log, slug, lambda one: wp in (None, one), page, named=wp is None)
                await shown.run(len(lines))

    anyio.run(show)


def _check(wp: str | None, page: Page, *, follow: bool, one: bool, every: bool, failed: bool) -> None:
    """Raise `UsageError` if the options do not fit together."""
    if not (wp or follow or failed):
        raise UsageError(
            "whose log? Name a work package, or give --failed for all that failed, or -f for all that run"
        )
    if failed and (follow or one or every or page is not Page.WORDS):
        raise UsageError("--failed shows the ends of all that failed: give it alone, or with a work package")
    if one and (every or not wp):
        raise UsageError("--attempt is one attempt of one work package")
    if follow and page not in _FOLLOWED:
        raise UsageError(f"-f follows {', '.join(_FOLLOWED)}; {page} is shown without it")


def _since(told: str, now: datetime) -> datetime:
    """Read a span before now, a time of today, or a whole time; without a zone it is UTC."""
    try:
        return now - timedelta(seconds=seconds(told))
    except (ValueError, OverflowError):
        pass
    for form in (told, f"{now:%Y-%m-%d}T{told}"):
        try:
            found = datetime.fromisoformat(form)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    raise UsageError(f"--since {told!r} is no time; write for example 10m, 2h, 14:30 or 2026-01-31T14:30")


def _chosen(
    known: Mapping[str, Sequence[Part]],
    wp: str | None,
    number: int | None,
    page: Page,
    *,
    every: bool,
    follow: bool,
) -> Sequence[Part]:
    """Return the attempts that are asked for, in the order in which they began."""
    if wp is None:
        return sorted((one for parts in known.values() for one in parts), key=lambda one: one.at)
    if follow and number is None and known.get(wp) == []:
        return ()
    found = FOUND.get(page, ANY)
    one = choose(known, wp, number, found.has, found.what)
    return [part for part in known[wp] if found.has(part)] if every else [one]
