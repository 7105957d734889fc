"""What the host is told that an agent may do, computed from the command that is really used."""

from spec_kitty_orchestrator.agents.spec import Agent, AgentCommand, AgentSettings, Permissions
from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role

ORCHESTRATOR_ID = "spec-kitty-orchestrator"
CUSTOM = "custom"
"""What the policy says of modes that a person's own arguments decide."""


def policy_of(
    agent: Agent, settings: AgentSettings, role: Role, command: AgentCommand, version: str
) -> PolicyMetadata:
    """Tell what `command` really allows; `version` is ours."""
    words = {word.partition("=")[0] for word in command.argv}
    allowed = agent.permissions(role)
    if settings.extra_args:
        # What somebody adds may loosen or tighten what the module asks for: we cannot vouch for it.
        allowed = Permissions(CUSTOM, CUSTOM, CUSTOM)
    return PolicyMetadata(
        orchestrator_id=ORCHESTRATOR_ID,
        # Build metadata is free text, and the host refuses some words in it.
        orchestrator_version=version.partition("+")[0],
        agent_family=agent.family,
        approval_mode=allowed.approval_mode,
        sandbox_mode=allowed.sandbox_mode,
        network_mode=allowed.network_mode,
        dangerous_flags=tuple(flag for flag in BANNED_FLAGS if flag in words),
    )
