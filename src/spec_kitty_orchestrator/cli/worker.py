"""`worker`: lets this machine run agents for missions that are driven elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["worker"]


def worker(
    address: Annotated[str, typer.Argument(help="Of the scheduler: tls://HOST:8786 or dask://HOST:8786.")],
    resources: Annotated[
        str | None,
        typer.Option(
            metavar="AGENT=N,AGENT=N",
            help="Which agents may run here, and how many at once; by default those that are installed.",
            show_default=False,
        ),
    ] = None,
    slots: Annotated[int, typer.Option(min=1, max=256, help="Of each installed agent at once.")] = 4,
    state_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What is kept here: repositories, worktrees, attempts; on a disk of this machine.",
            show_default="~/.local/state/spec-kitty-orchestrator",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address of this machine for the others.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of this worker; by default that of the machine.", show_default=False)
    ] = None,
    tls_ca: Annotated[str, typer.Option(metavar="FILE", help="The authority, for tls://.")] = "",
    tls_cert: Annotated[str, typer.Option(metavar="FILE", help="The certificate of this machine.")] = "",
    tls_key: Annotated[
        str, typer.Option(metavar="FILE", help="Its key, which no confined agent reads.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure-cluster", help="Allow connections of other machines without TLS.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when the scheduler goes away, instead of waiting for it.")
    ] = False,
) -> None:
    """Run agents here for missions that are driven elsewhere.

    On SIGTERM or Ctrl-C it stops its agents and hands their work back first; a second signal ends it at once.
    """
    from time import strftime

    import anyio

    from spec_kitty_orchestrator.app.worker import Wanted, work

    wanted = Wanted(
        address=address,
        resources=resources,
        slots=slots,
        folder=state_folder,
        bind=host,
        name=name,
        tls={"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key},
        insecure=insecure,
        once=once,
    )

    def tell(line: str) -> None:
        typer.echo(f"{strftime('%Y-%m-%d %H:%M:%S')} {line}")

    raise typer.Exit(anyio.run(work, wanted, tell))
