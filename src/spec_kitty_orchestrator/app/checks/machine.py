"""Checks of the machine: memory, disk, the programs of gates, the folders of our records."""

import os
import platform
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION, build_headroom
from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, ok, warning
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import JOURNALS, LOGS
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.gates import missing_program, of_shell


def check_program() -> Finding:
    """Report our version and that of Python."""
    return ok("program", f"spec-kitty-orchestrator {VERSION} on Python {platform.python_version()}")


async def check_resources(project: Project) -> list[Finding]:
    """Compare free memory and disk with the floors."""
    memory, disk = await build_headroom(project).shortages()
    found = []
    if memory:
        largest = "ps aux | sort -rnk 4 | head"
        found.append(error("machine.memory", f"{memory}: nothing would be started", largest))
    if disk:
        large = line("du", "-sh", "--", project.root / LOGS, project.root / ".worktrees")
        found.append(error("machine.disk", f"{disk}: nothing would be started", large))
    return found or [ok("machine.resources", "memory and disk have more free than their floors")]


def check_records(root: Path) -> list[Finding]:
    """Check that logs and the journal can be written, without writing."""
    found = []
    for folder in (root / LOGS, root / JOURNALS):
        there = next(one for one in (folder, *folder.parents) if one.exists() or one.is_symlink())
        if not there.is_dir():
            text = f"{there} is in the way of our records: it is no folder"
            found.append(error("records.writable", text, line("mv", "--", there, f"{there}.aside")))
        elif not os.access(there, os.W_OK | os.X_OK):
            found.append(
                error("records.writable", f"{there} cannot be written", line("chmod", "u+rwx", "--", there))
            )
    return found or [ok("records.writable", f"logs can be written below {root / LOGS}")]


async def check_gates(project: Project) -> list[Finding]:
    """Check that the program of each gate is there; no gate is run."""
    env = environment({}, "", passed=project.settings.run.pass_env)
    file = project.root / CONFIG_FILE
    found = []
    for gate in project.policy.gates:
        lacks = await to_thread.run_sync(missing_program, gate.command, project.root, env)
        if lacks is None:
            found.append(ok("gate.program", f"gate {gate.name}: its program is there", gate.name))
        elif os.sep in lacks:
            # A work package may create it, or another branch may have it.
            text = f"gate {gate.name}: there is no executable file {lacks} in this checkout"
            found.append(warning("gate.program", text, edit(file), gate.name))
        elif of_shell(gate.command):
            # Only a shell can tell what a line does without one of its programs.
            text = f"gate {gate.name}: {lacks} is not on PATH"
            found.append(warning("gate.program", text, edit(file), gate.name))
        else:
            text = f"gate {gate.name}: {lacks} is not on PATH, so each work package would be parked"
            found.append(error("gate.program", text, edit(file), gate.name))
    return found
