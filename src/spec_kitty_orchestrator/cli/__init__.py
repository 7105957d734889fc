"""Takes orders: the command line, and the only place where an `OrchestratorError` ends.

Whatever goes wrong becomes one message on stderr and the exit code of its class; never a traceback.
"""

import sys
from typing import Annotated

import typer

from spec_kitty_orchestrator.cli import agents, crash
from spec_kitty_orchestrator.cli.doctor import doctor
from spec_kitty_orchestrator.cli.operator import abort, retry, skip
from spec_kitty_orchestrator.cli.orchestrate import orchestrate
from spec_kitty_orchestrator.cli.resume import resume
from spec_kitty_orchestrator.cli.status import status
from spec_kitty_orchestrator.errors import InvalidTransition, OrchestratorError
from spec_kitty_orchestrator.views import words
from spec_kitty_orchestrator.views.console import SteadyConsole

PROGRAM = "spec-kitty-orchestrator"
BUG = 3

app = typer.Typer(
    name=PROGRAM,
    help="Runs whole spec-kitty missions: agents implement and review, the host keeps the lanes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(orchestrate)
app.command()(resume)
app.command()(abort)
app.command()(retry)
app.command()(skip)
app.command()(status)
app.command()(doctor)
app.add_typer(agents.app, name="agents")


def _version(wanted: bool) -> None:
    if wanted:
        from spec_kitty_orchestrator.app.build import VERSION

        typer.echo(f"{PROGRAM} {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; the console script `spec-kitty-orchestrator`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last place where anything can be caught
        sys.exit(_fail(error))


def _fail(error: Exception) -> int:
    """Tell people what went wrong and return the exit code."""
    known = [one for one in _leaves(error) if isinstance(one, OrchestratorError)]
    bugs = [one for one in _leaves(error) if not isinstance(one, OrchestratorError)]
    bugs += [one for one in known if isinstance(one, InvalidTransition)]
    console = SteadyConsole(stderr=True, highlight=False, soft_wrap=True)
    for one in known:
        for number, line in enumerate(str(one).splitlines() or [type(one).__name__]):
            prefix = "error: " if number == 0 else "       "
            console.print(f"[bold red]{prefix}[/]" if number == 0 else prefix, end="")
            console.print(words.clean(line, 4000), markup=False)
    if bugs:
        console.print("[bold red]error:[/] ", end="")
        console.print(words.clean(f"this should not happen: {bugs[0]!r}"), markup=False)
        report = crash.write_report(error)
        console.print(f"       the details are in {report}" if report else "", markup=False)
    return min((one.exit_code for one in known), default=BUG) if not bugs else BUG


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
