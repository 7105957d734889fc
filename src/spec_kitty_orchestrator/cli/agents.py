"""`agents`: lists the available agents, and checks that one keeps the contract of agents."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from spec_kitty_orchestrator.app.agents import ListedAgent, list_agents, try_agent
from spec_kitty_orchestrator.app.checks import Level
from spec_kitty_orchestrator.app.repository import start_folder
from spec_kitty_orchestrator.cli.doctor import document, show
from spec_kitty_orchestrator.cli.options import Json, RepoRoot
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.core.model import PolicyMetadata
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json

__all__ = ["check", "overview"]

_TRIAL = "Run it too, on a harmless task in a temporary repository. This can cost money."

agents: typer.Typer = typer.Typer(add_completion=False, rich_markup_mode=None)


@agents.callback(invoke_without_command=True)
def overview(context: typer.Context, repo_root: RepoRoot = None, as_json: Json = False) -> None:
    """List the available agents, or check one.

    The list says whether each is installed, what it may do, and what is wrong with it; nothing is spent.
    Outside of a repository the settings of none apply.
    """
    if context.invoked_subcommand is not None:
        return
    look = partial(list_agents, start_folder(repo_root), os.environ, anywhere=repo_root is None)
    listed, broken, redactor = anyio.run(look)
    if as_json:
        plugins = {"unusable_plugins": [document(one) for one in broken]} if broken else {}
        print_json({"agents": [_document(one) for one in listed], **plugins}, redactor)
        return
    console = SteadyConsole(redactor=redactor)
    console.print(_table(_OVERVIEW, map(_overview, listed)))
    console.print()
    console.print(_table(_PERMISSIONS, _permissions(listed)))
    findings = [found for one in listed for found in one.findings]
    if absent := [found for found in findings if found.id == "agent.installed"]:
        console.print("\nNot installed")
        for found in absent:
            console.tell(f"  {found.about}: {found.fix}" if found.fix else f"  {found.text}")
    if wrong := [*broken, *(one for one in findings if one.level is not Level.OK and one not in absent)]:
        console.print()
        show(wrong, console)


_ABSENT = "not installed"
_OVERVIEW = ("agent", "version", "cost", "session", "logged in", "program")
_PERMISSIONS = ("agent", "role", "sandbox", "network", "approval")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for name, *cells in rows:
        texts = (Text(clean(cell, 300), "red" if cell == _ABSENT else "") for cell in cells)
        table.add_row(Text(name, style="bold"), *texts)
    return table


def _overview(one: ListedAgent) -> Sequence[str]:
    found, agent = one.installed, one.agent
    cost = ("told, limited" if agent.caps_cost else "told") if agent.reports_cost else "not told"
    session = "resumed" if agent.resumes else "new each time"
    if found.path is None:
        return one.name, _ABSENT, cost, session, "-", found.program
    version = clean(found.version, 40) or ("unknown" if agent.versions else "-")
    return one.name, version, cost, session, found.login, found.path


def _permissions(listed: Sequence[ListedAgent]) -> Iterator[Sequence[str]]:
    for one in listed:
        for number, (role, policy) in enumerate(one.policies.items()):
            yield "" if number else one.name, role.value, *_modes(policy).values()


def _modes(policy: PolicyMetadata) -> Mapping[str, str]:
    modes = (policy.sandbox_mode, policy.network_mode, policy.approval_mode)
    return dict(zip(_PERMISSIONS[2:], modes, strict=True))


def _document(one: ListedAgent) -> Mapping[str, object]:
    found, spec = one.installed, one.agent
    return {
        "name": one.name,
        "family": spec.family,
        "installed": found.path is not None,
        "program": found.program,
        "path": found.path,
        "version": found.version or None,
        "versions_tried": list(spec.versions),
        "install": spec.install or None,
        "roles": {role.value: _modes(policy) for role, policy in one.policies.items()},
        "reports_cost": spec.reports_cost,
        "caps_cost": spec.caps_cost,
        "resumes": spec.resumes,
        "logged_in": found.login if found.path else None,
        "logged_in_by": found.login_by or None,
        "findings": [document(each) for each in one.findings],
    }


@agents.command()
def check(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="Its name, as --impl-agent takes it.", show_default=False)],
    trial: Annotated[bool, typer.Option("--run", help=_TRIAL)] = False,
    repo_root: RepoRoot = None,
    as_json: Json = False,
) -> None:
    """Check that an agent keeps the contract of agents.

    That is its words, how it reads output, and with --run that it works.

    Outside of a repository the settings of none apply. Exit code 5 if something is wrong.
    """
    # The same options can stand before the word `check`.
    before = context.parent.params if context.parent else {}
    repo_root, as_json = repo_root or before.get("repo_root"), as_json or before.get("as_json", False)
    place, anywhere = start_folder(repo_root), repo_root is None
    found = anyio.run(partial(try_agent, place, os.environ, agent, anywhere=anywhere, trial=trial))
    if as_json:
        kept = str(found.kept) if found.kept else None
        checks = [asdict(one) for one in found.checks]
        told = {"agent": agent, "ok": found.ok, "tried": found.tried, "kept": kept, "checks": checks}
        print_json(told, found.redactor)
    else:
        console = SteadyConsole(redactor=found.redactor)
        for one in found.checks:
            label, style = ("ok      ", "green") if one.ok else ("failed  ", "red")
            console.tell(f"{one.name}: {one.text}", label, style)
        if found.kept:
            console.tell(f"The trial is kept in {found.kept}")
        if trial and not found.tried:
            console.tell("It was not run: what failed comes first")
        if not trial and found.ok:
            console.tell("It was not run; --run tries it on a harmless task, which can cost money")
    if not found.ok:
        raise typer.Exit(PreflightError.exit_code)
