"""Whether the host can be used: present, of a contract that we speak, content with our policies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, ok
from spec_kitty_orchestrator.app.checks.agents import roles
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import HostError, HostIncompatible, HostMissing, HostRefusal
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.host.locate import HOST_NAME
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.ports import Host

NO_MISSION = "no-such-mission-policy-check"
"""The name of no mission; the host gives none without an id at its end."""


def host_finding(failure: HostError, project: Project, identity: str = "host") -> Finding:
    """Turn a failure of the host into a finding, with the command that fixes it or shows more of it."""
    wanted = project.settings.host.executable
    if wanted and ("/" in wanted or wanted.startswith("~")):
        wanted = str(project.root / Path(wanted).expanduser())
    match failure:
        case HostMissing() if wanted:
            fix = edit(project.root / CONFIG_FILE)
        case HostMissing():
            fix = "pipx install spec-kitty-cli"
        case HostIncompatible() if "upgrade this side" in str(failure):
            fix = "pipx install --force ."
        case HostIncompatible() if wanted:
            # How that one was installed is not known.
            fix = line(wanted, "--version")
        case HostIncompatible():
            fix = "pipx upgrade spec-kitty-cli"
        case _:
            fix = line(wanted or HOST_NAME, "orchestrator-api", "contract-version")
    return error(identity, str(failure).replace("\n", "; "), fix, kind=type(failure))


async def check_contract(project: Project, host: HostClient) -> list[Finding]:
    """Ask the host for its versions."""
    try:
        contract = await host.check_contract()
        version = await host.version()
    except HostError as failure:
        return [host_finding(failure, project)]
    return [ok("host", f"{version or 'the host'} at {host.executable} speaks contract {contract}")]


async def check_policies(project: Project, runner: ConfiguredAgents, host: HostClient) -> list[Finding]:
    """Ask the host whether it accepts the policy of each agent in each of its roles; nothing is changed."""
    found: list[Finding] = []
    for policy, who in _policies(project, runner).items():
        try:
            reason = await refusal_of(policy, project.settings.run.actor, host)
        except HostError as failure:
            return [*found, host_finding(failure, project, "host.policy")]
        for name, role in who:
            if reason:
                text = f"the host refuses the policy of {name} ({role}): {reason}"
                found.append(error("host.policy", text, edit(project.root / CONFIG_FILE), name))
            else:
                found.append(ok("host.policy", f"the host accepts the policy of {name} ({role})", name))
    return found


async def refusal_of(policy: PolicyMetadata, actor: str, host: Host) -> str:
    """Return why the host refuses a policy, "" if it accepts it; nothing is changed.

    It is sent with a change of a mission that does not exist, and the host looks at the policy first.

    Raises:
        HostError: it answered something else, or not at all.
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


def _policies(
    project: Project, runner: ConfiguredAgents
) -> Mapping[PolicyMetadata, Sequence[tuple[str, Role]]]:
    """Return each policy that a run would send, and for whom."""
    found: dict[PolicyMetadata, list[tuple[str, Role]]] = {}
    for role, names in roles(project).items():
        for name in names:
            if role not in project.agents[name][0].roles:
                continue
            found.setdefault(runner.policy(name, role), []).append((name, role))
    return found
