"""`agents`: lists the available agents, and checks that one keeps the contract of agents."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from spec_kitty_orchestrator.app.agent_check import CheckedAgent, check_agent
from spec_kitty_orchestrator.app.agent_list import ListedAgent, list_agents
from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.app.checks.agent_programs import LoginState
from spec_kitty_orchestrator.app.checks.agents import correction
from spec_kitty_orchestrator.cli.findings import document, show
from spec_kitty_orchestrator.cli.options import Json, RepoRoot, project_folder
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json

agents = typer.Typer(add_completion=False, rich_markup_mode=None)

_LOGINS = {LoginState.YES: "yes", LoginState.NO: "no", LoginState.UNKNOWN: "unknown"}


@agents.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    repo_root: RepoRoot = None,
    as_json: Json = False,
) -> None:
    """List the available agents, or check one.

    The list says whether each is installed, what it may do, and what is wrong with it; nothing is spent.
    Outside of a repository the settings of none apply.
    """
    if context.invoked_subcommand is not None:
        return
    found = anyio.run(lambda: list_agents(project_folder(repo_root), os.environ, anywhere=repo_root is None))
    listed, broken, redactor = found.agents, found.broken, found.redactor
    if as_json:
        plugins = {"unusable_plugins": [document(one) for one in broken]} if broken else {}
        print_json({"agents": [_document(one) for one in listed], **plugins}, redactor)
        return
    console = SteadyConsole(redactor=redactor)
    console.print(_overview(listed))
    console.print()
    console.print(_permissions(listed))
    absent = [one for one in listed if one.installed.path is None]
    if absent:
        console.print("\nNot installed")
        for one in absent:
            how = one.agent.install or correction(one.name, one.agent)
            console.tell(f"  {one.name}: {how}")
    wrong = [*broken, *(found for one in listed for found in one.findings if _is_wrong(found))]
    if wrong:
        console.print()
        show(wrong, console)


def _is_wrong(found: Finding) -> bool:
    """Return whether a finding is worth showing; an agent that is not installed is no fault."""
    return found.level is not Level.OK and found.id != "agent.installed"


def _overview(listed: Sequence[ListedAgent]) -> Table:
    table = _table("agent", "version", "cost", "session", "logged in", "program")
    for one in listed:
        found, spec = one.installed, one.agent
        there = found.path is not None
        cost = "told, limited" if spec.caps_cost else "told"
        table.add_row(
            Text(one.name, style="bold"),
            Text(clean(found.version, 40) or ("unknown" if spec.versions else "-"))
            if there
            else Text("not installed", style="red"),
            Text(cost if spec.reports_cost else "not told"),
            Text("resumed" if spec.resumes else "new each time"),
            Text(_LOGINS[found.login] if there else "-"),
            Text(clean(found.path or found.program, 300)),
        )
    return table


def _permissions(listed: Sequence[ListedAgent]) -> Table:
    table = _table("agent", "role", "sandbox", "network", "approval")
    for one in listed:
        for number, (role, policy) in enumerate(one.policies.items()):
            table.add_row(
                Text("" if number else one.name, style="bold"),
                Text(role.value),
                *(Text(clean(each)) for each in (policy.sandbox_mode, policy.network_mode)),
                Text(clean(policy.approval_mode)),
            )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


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
        "roles": {
            role.value: {
                "sandbox": policy.sandbox_mode,
                "network": policy.network_mode,
                "approval": policy.approval_mode,
            }
            for role, policy in one.policies.items()
        },
        "reports_cost": spec.reports_cost,
        "caps_cost": spec.caps_cost,
        "resumes": spec.resumes,
        "logged_in": found.login.value if found.path else None,
        "logged_in_by": found.login_by or None,
        "findings": [document(each) for each in one.findings],
    }


@agents.command()
def check(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="Its name, as --impl-agent takes it.", show_default=False)],
    trial: Annotated[
        bool,
        typer.Option(
            "--run", help="Run it too, on a harmless task in a temporary repository. This can cost money."
        ),
    ] = False,
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

    async def look() -> CheckedAgent:
        start = project_folder(repo_root)
        return await check_agent(start, os.environ, agent, anywhere=repo_root is None, trial=trial)

    found = anyio.run(look)
    redactor = found.redactor
    if as_json:
        print_json(_check_document(found), redactor)
    else:
        _show_check(found, SteadyConsole(redactor=redactor), trial=trial)
    if not found.ok:
        raise typer.Exit(PreflightError.exit_code)


def _show_check(found: CheckedAgent, console: SteadyConsole, *, trial: bool) -> None:
    for one in found.checks:
        label, style = ("ok      ", "green") if one.ok else ("failed  ", "red")
        console.tell(f"{one.name}: {one.text}", label, style)
    if found.kept:
        console.tell(f"The trial is kept in {found.kept}")
    if trial and not found.tried:
        console.tell("It was not run: what failed comes first")
    if not trial and found.ok:
        console.tell("It was not run; --run tries it on a harmless task, which can cost money")


def _check_document(found: CheckedAgent) -> dict[str, object]:
    return {
        "agent": found.name,
        "ok": found.ok,
        "tried": found.tried,
        "kept": str(found.kept) if found.kept else None,
        "checks": [{"name": one.name, "ok": one.ok, "text": one.text} for one in found.checks],
    }
