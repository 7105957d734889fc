"""Checks of the machine."""

import os
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_headroom
from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, ok, warning
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.gates import missing_program, of_shell
from spec_kitty_orchestrator.machine.logs import JOURNALS, LOGS

__all__ = ["check_commands", "check_confinement", "check_machine"]

_CONFINE_FIX = "sudo apt-get install bubblewrap"


async def check_machine(project: Project) -> list[Finding]:
    """Check memory and disk, confinement, the folders of our records, and the programs of gates."""
    return [*await _resources(project), *await check_commands(project), *_records(project.root)]


async def check_commands(project: Project) -> list[Finding]:
    """Check what agents, gates and the setup of worktrees need of the machine; each start does, too."""
    return [await to_thread.run_sync(check_confinement, project), *await _gates(project)]


def check_confinement(project: Project) -> Finding:
    """Check that the system confines agents as the settings want; not for the event loop."""
    run = project.settings.run
    functions = ", ".join(project.functions)
    if functions and run.confine == "require":
        text = f"functions of a program cannot be confined ({functions}), and confine is require"
        return error("machine.confined", text)
    if not project.unconfined:
        if run.subtasks == "agent":
            text = "[run] subtasks is agent, but a confined agent cannot tick; use report, or confine = off"
            return error("machine.confined", text, edit(project.root / CONFIG_FILE), kind=ConfigError)
        but = f", but not the functions {functions}" if functions else ""
        return ok("machine.confined", f"agents, gates and commit hooks are confined by the kernel{but}")
    text = f"agents are not confined: {project.unconfined}"
    # Where it is installed and does not work, no command is right for every system: docs/security.md.
    fix = _CONFINE_FIX if "not installed" in project.unconfined else ""
    # A run shows no fixes of its findings, and this one is wanted there too.
    text += f" ({fix})" if fix else ""
    if run.confine == "require":
        return error("machine.confined", f"{text}, and confine is require", fix)
    if run.confine == "off":
        return ok("machine.confined", text)
    return warning("machine.confined", f"{text}; they can change and read whatever you can", fix)


async def _resources(project: Project) -> list[Finding]:
    memory, disk = await build_headroom(project).shortages()
    large = line("du", "-sh", "--", project.root / LOGS, project.root / ".worktrees")
    short = {"memory": (memory, "ps aux | sort -rnk 4 | head"), "disk": (disk, large)}
    found = [
        error(f"machine.{what}", f"{reason}: nothing would be started", largest)
        for what, (reason, largest) in short.items()
        if reason
    ]
    return found or [ok("machine.resources", "memory and disk have more free than their floors")]


def _records(root: Path) -> list[Finding]:
    found = []
    for folder in (root / LOGS, root / JOURNALS):
        there = next(one for one in (folder, *folder.parents) if one.exists() or one.is_symlink())
        if not there.is_dir():
            text = f"{there} is in the way of our records: it is no folder"
            found.append(error("records.writable", text, line("mv", "--", there, f"{there}.aside")))
        elif not os.access(there, os.W_OK | os.X_OK):
            fix = line("chmod", "u+rwx", "--", there)
            found.append(error("records.writable", f"{there} cannot be written", fix))
    return found or [ok("records.writable", f"logs can be written below {root / LOGS}")]


async def _gates(project: Project) -> list[Finding]:
    env = environment({}, "", passed=project.settings.run.pass_env)
    found = []
    policy = project.policy
    # On a cluster it is the workers that need what gates run.
    here = () if project.settings.run.executor else policy.gates
    for gate in (*here, *policy.setup):
        lacks = await to_thread.run_sync(missing_program, gate.command, project.root, env)
        make, text = warning, f"{lacks} is not on PATH"
        if lacks is None:
            make, text = ok, "its program is there"
        elif os.sep in lacks:
            # A work package may create it, or another branch may have it.
            text = f"there is no executable file {lacks} in this checkout"
        elif not of_shell(gate.command):
            # Only a shell can tell what a line does without one of its programs.
            make, text = error, f"{text}, so each work package would be parked"
        fix = "" if lacks is None else edit(project.root / CONFIG_FILE)
        what = f"gate {gate.name}" if gate in policy.gates else "[run] setup"
        found.append(make("gate.program", f"{what}: {text}", fix, gate.name))
    return found
