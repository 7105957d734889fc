"""`doctor`: shows what would go wrong in a run, each finding with the command that fixes it."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.app.doctor import diagnose
from spec_kitty_orchestrator.app.repository import start_folder
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.machine.redaction import ours
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json, tell_asking

__all__ = ["document", "show"]

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_WIDTH = max(len(level) for level in Level)


def doctor(
    mission: Annotated[str | None, options.mission_option("Slug; else what every mission needs.")] = None,
    impl_agent: options.ImplAgent = None,
    review_agent: options.ReviewAgent = None,
    gate: options.Gate = None,
    executor: options.Executor = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure_cluster: options.Insecure = None,
    repo_root: options.RepoRoot = None,
    as_json: options.Json = False,
) -> None:
    """Say what would go wrong in a run; nothing is changed.

    Nothing is spent either. The exit code is 5 if a run would fail.
    """
    began = monotonic()
    if mission is not None and not as_json:
        tell_asking("spec-kitty and the agents' CLIs", mission)
    flags = {
        "impl_agents": impl_agent,
        "review_agents": review_agent,
        "gate": gate or None,
        "executor": executor,
        "cluster_tls_ca": tls_ca,
        "cluster_tls_cert": tls_cert,
        "cluster_tls_key": tls_key,
        "cluster_insecure": insecure_cluster,
    }
    found = anyio.run(diagnose, start_folder(repo_root), os.environ, flags, mission)
    levels = Counter(one.level for one in found.findings)
    code = PreflightError.exit_code if levels[Level.ERROR] else 0
    redactor = found.project.redactor if found.project else ours()
    if as_json:
        report = {
            "version": VERSION,
            "repository": str(found.project.root) if found.project else None,
            "mission": found.mission,
            "exit_code": code,
            "seconds": round(monotonic() - began, 3),
            "findings": [document(one) for one in found.findings],
        }
        print_json(report, redactor)
    else:
        console = SteadyConsole(redactor=redactor)
        show(found.findings, console)
        counted = f"{count(levels[Level.ERROR], 'error')}, {count(levels[Level.WARNING], 'warning')}"
        verdict = "a run would fail" if code else "nothing stands in the way of a run"
        console.tell(f"{counted}: {verdict}. Nothing was changed.")
    raise typer.Exit(code)


def show(found: Iterable[Finding], console: SteadyConsole) -> None:
    """Print findings; each command has a line of its own, to be copied."""
    for one in found:
        console.tell(one.text, f"{one.level:<{_WIDTH}} ", _STYLES[one.level])
        if one.fix:
            console.tell(one.fix, " " * (_WIDTH + 3))


def document(one: Finding) -> Mapping[str, object]:
    """Return a finding as a JSON object."""
    about, fix = one.about or None, one.fix or None
    return {"id": one.id, "level": one.level, "about": about, "text": one.text, "fix": fix}
