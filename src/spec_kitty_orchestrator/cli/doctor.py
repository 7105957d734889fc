"""`doctor`: shows what would go wrong in a run, with the commands that fix it."""

import os
from collections import Counter
from time import monotonic
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks import Level
from spec_kitty_orchestrator.app.doctor import diagnose
from spec_kitty_orchestrator.app.repository import start_folder
from spec_kitty_orchestrator.cli import findings
from spec_kitty_orchestrator.cli.options import (
    Gate,
    ImplAgent,
    Json,
    RepoRoot,
    ReviewAgent,
    mission_option,
)
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json


def doctor(
    mission: Annotated[str | None, mission_option("Slug; else what every mission needs.")] = None,
    impl_agent: ImplAgent = None,
    review_agent: ReviewAgent = None,
    gate: Gate = None,
    repo_root: RepoRoot = None,
    as_json: Json = False,
) -> None:
    """Say what would go wrong in a run; nothing is changed.

    Nothing is spent either. The exit code is 5 if a run would fail.
    """
    began = monotonic()
    flags = {"impl_agents": impl_agent, "review_agents": review_agent, "gate": gate or None}
    found = anyio.run(diagnose, start_folder(repo_root), os.environ, flags, mission)
    levels = Counter(one.level for one in found.findings)
    code = PreflightError.exit_code if levels[Level.ERROR] else 0
    redactor = found.project.redactor if found.project else Redactor(secret_values(os.environ))
    if as_json:
        document = {
            "version": VERSION,
            "repository": str(found.project.root) if found.project else None,
            "mission": found.mission,
            "exit_code": code,
            "seconds": round(monotonic() - began, 3),
            "findings": [findings.document(one) for one in found.findings],
        }
        print_json(document, redactor)
    else:
        console = SteadyConsole(redactor=redactor)
        findings.show(found.findings, console)
        counted = f"{count(levels[Level.ERROR], 'error')}, {count(levels[Level.WARNING], 'warning')}"
        verdict = "a run would fail" if code else "nothing stands in the way of a run"
        console.tell(f"{counted}: {verdict}. Nothing was changed.")
    raise typer.Exit(code)
