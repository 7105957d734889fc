"""`agents`: what can implement and review here, and whether an agent keeps its contract."""

import typer

from spec_kitty_orchestrator.cli.agents_check import check

app = typer.Typer(help="The agents that can be chosen, and how well they fit.")
app.command()(check)


@app.callback(invoke_without_command=True)
def agents() -> None:
    """List the agents that can be chosen."""
