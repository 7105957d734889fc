"""Whether an implementer goes on with its own session, which knows the work and costs less than a new one."""

import re
from dataclasses import replace

from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Policy, Role, WorkPackage

_USABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")
"""It comes from an agent's output and goes into an argv, where it must never be taken for an option."""


def remember(wp: WorkPackage, attempt: Attempt, report: AgentReport) -> WorkPackage:
    """Keep the session of an implementer that ended in order; any other end makes the next one begin anew."""
    if attempt.role is not Role.IMPLEMENT:
        return wp
    others = {agent: one for agent, one in wp.sessions.items() if agent != attempt.agent}
    # A session that was taken up again and failed is not taken up a second time.
    sound = report.outcome is Outcome.OK or (report.outcome is Outcome.FAILED and not attempt.session)
    if sound and report.session and _USABLE.fullmatch(report.session):
        others[attempt.agent] = report.session
    return replace(wp, sessions=others)


def session_for(wp: WorkPackage, agent: str, policy: Policy) -> str:
    """Return the session that an agent's next implement attempt goes on with, "" for a new one."""
    if not policy.session_resume or agent not in policy.resuming:
        return ""
    return wp.sessions.get(agent, "")
