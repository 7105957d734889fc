"""Whether the host can be used: present, of a contract that we speak, content with our policies."""

import re
from functools import partial
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, noted, ok
from spec_kitty_orchestrator.app.checks.agents import selected
from spec_kitty_orchestrator.app.checks.task_files import stops_upgrade
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import PROJECT
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.model import PolicyMetadata
from spec_kitty_orchestrator.errors import (
    HostError,
    HostIncompatible,
    HostMissing,
    HostRefusal,
    ProjectIncompatible,
)
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.host.locate import HOST_NAME
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.ports import Host

__all__ = ["check_policies", "check_project", "fix_of_host"]

NO_MISSION = "no-such-mission-policy-check"
"""The name of no mission; the host gives none without an id at its end."""

PROJECT_IS_OLDER = 4
"""The exit code of a host that changes nothing in a project before it is upgraded."""
_UPGRADE = re.compile(r"Upgrade your CLI: ((?:pipx?|uv|brew)(?: [\w.-]+)+)", re.ASCII)


def fix_of_host(project: Project, failure: Exception) -> str:
    """Return the command that fixes a failure of the host or shows more of it, "" for another failure."""
    wanted = project.settings.host.executable
    if wanted and ("/" in wanted or wanted.startswith("~")):
        wanted = str(project.root / Path(wanted).expanduser())
    match failure:
        case HostMissing():
            return edit(project.root / CONFIG_FILE) if wanted else "pipx install spec-kitty-cli"
        case ProjectIncompatible(code=code, words=words):
            if code == PROJECT_IS_OLDER:
                upgrade = f"{line('cd', project.root)} && {line(wanted or HOST_NAME, 'upgrade')}"
                _, before = stops_upgrade(project.root)
                return f"{before} && {upgrade}" if before else upgrade
            if named := _UPGRADE.search(words):
                return named[1]
            return edit(project.root / PROJECT / "metadata.yaml")
        case HostIncompatible() if "upgrade this side" in str(failure):
            return "pipx install --force ."
        case HostIncompatible():
            # How one that the settings name was installed is not known.
            return line(wanted, "--version") if wanted else "pipx upgrade spec-kitty-cli"
        case HostError() | TimeoutError():
            return line(wanted or HOST_NAME, "orchestrator-api", "contract-version")
    return ""


async def check_project(project: Project, host: HostClient) -> None:
    """Ask whether the host makes any change in this project; none is made.

    Raises:
        ProjectIncompatible: it makes none. Of an older project it tells what would stop its upgrade.
    """
    try:
        await host.check_project()
    except ProjectIncompatible as failure:
        stops = ""
        if failure.code == PROJECT_IS_OLDER:
            stops, _ = await to_thread.run_sync(stops_upgrade, project.root)
        if not stops:
            raise
        words = f"{failure.words}; the upgrade would stop at {stops}"
        raise ProjectIncompatible(failure.code, words) from None


async def check_policies(project: Project, runner: ConfiguredAgents, host: Host) -> list[Finding]:
    """Ask the host whether it accepts the policy of each agent in each of its roles; nothing is changed."""
    found: list[Finding] = []
    reasons: dict[PolicyMetadata, str] = {}
    with noted(found, "host.policy", fix=partial(fix_of_host, project)):
        for role, name in selected(project):
            if role not in project.agents[name][0].roles:
                continue
            policy = runner.policy(name, role)
            if policy not in reasons:
                reasons[policy] = await _refusal(policy, project.settings.run.actor, host)
            if reasons[policy]:
                text = f"the host refuses the policy of {name} ({role}): {reasons[policy]}"
                found.append(error("host.policy", text, edit(project.root / CONFIG_FILE), name))
            else:
                found.append(ok("host.policy", f"the host accepts the policy of {name} ({role})", about=name))
    return found


async def _refusal(policy: PolicyMetadata, actor: str, host: Host) -> str:
    """Return why the host refuses a policy, "" if it accepts it.

    It is sent with a change of a mission that does not exist, and the host looks at the policy first.
    """
    try:
        await host.start_review(NO_MISSION, "WP00", actor, policy)
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            return ""
        if refusal.code.startswith("POLICY_"):
            return f"{refusal.code}: {refusal.message}"
        raise
    raise HostError(f"the host began a review of {NO_MISSION}, which should not exist")
