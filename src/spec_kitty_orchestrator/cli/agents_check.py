"""`agents check`: tells the author of an agent whether it keeps the contract of agents."""

from typing import Annotated

import typer

from spec_kitty_orchestrator.agents import find


def check(
    agent: Annotated[str, typer.Argument(help="Its name, as --impl-agent takes it.", show_default=False)],
) -> None:
    """Check that an agent keeps the contract: its settings, its command lines, how it reads output."""
    find(agent)
