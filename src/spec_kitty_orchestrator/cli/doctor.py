"""`doctor`: shows what would go wrong in a run, with the commands that fix it."""

import os
from collections import Counter
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks import Level
from spec_kitty_orchestrator.app.doctor import Diagnosis, diagnose
from spec_kitty_orchestrator.cli import findings
from spec_kitty_orchestrator.cli.options import (
    Gate,
    ImplAgent,
    Json,
    RepoRoot,
    ReviewAgent,
    mission_option,
    project_folder,
)
from spec_kitty_orchestrator.core.describe import count
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
    flags = {"impl_agents": impl_agent, "review_agents": review_agent, "gate": gate or None}
    found = anyio.run(diagnose, project_folder(repo_root), os.environ, flags, mission)
    redactor = found.project.redactor if found.project else Redactor(secret_values(os.environ))
    if as_json:
        print_json(_document(found), redactor)
    else:
        console = SteadyConsole(redactor=redactor)
        findings.show(found.findings, console)
        console.tell(_summary(found))
    raise typer.Exit(found.exit_code)


def _summary(found: Diagnosis) -> str:
    levels = Counter(one.level for one in found.findings)
    counted = f"{count(levels[Level.ERROR], 'error')}, {count(levels[Level.WARNING], 'warning')}"
    verdict = "a run would fail" if found.exit_code else "nothing stands in the way of a run"
    return f"{counted}: {verdict}. Nothing was changed."


def _document(found: Diagnosis) -> dict[str, object]:
    return {
        "version": VERSION,
        "repository": str(found.root) if found.root else None,
        "mission": found.mission,
        "exit_code": found.exit_code,
        "seconds": round(found.seconds, 3),
        "findings": [findings.document(one) for one in found.findings],
    }
