"""The settings that decisions depend on; frozen for the length of a start and kept in the journal."""

import shlex
from collections.abc import Mapping
from enum import StrEnum

from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.records import dataclass, field

__all__ = ["LONGEST_GATE_S", "Budget", "Gate", "OnRateLimit", "Patience", "Policy"]

LONGEST_GATE_S = 900.0
"""Seconds that a gate may take for which nothing else was said."""


class OnRateLimit(StrEnum):
    """What a run does when an agent's quota is used up."""

    WAIT = "wait"
    FALLBACK = "fallback"
    STOP = "stop"


@dataclass(frozen=True)
class Gate:
    """A command that must succeed on a commit before a review of it is paid for.

    Attributes:
        name: unique; part of the name of its logs.
        command: the argv; a line of the operator's for the shell is `/bin/sh -c LINE`.
        timeout_s: after which it is stopped, in seconds.
    """

    name: str
    command: tuple[str, ...]
    timeout_s: float = LONGEST_GATE_S

    @property
    def line(self) -> str:
        """The command as a person writes it in a shell."""
        of_shell = self.command[:2] == ("/bin/sh", "-c") and len(self.command) > 2
        return self.command[2] if of_shell else shlex.join(self.command)


@dataclass(frozen=True)
class Patience:
    """What a run does about quotas that are used up.

    Attributes:
        on_rate_limit: wait for the agent, let another one of the order work meanwhile, or end the run.
        max_wait_s: how long a run that waits for nothing but quotas goes on, in seconds.
    """

    on_rate_limit: OnRateLimit = OnRateLimit.FALLBACK
    max_wait_s: float = 6 * 3600.0


@dataclass(frozen=True)
class Budget:
    """The limits of a run; None where there is none.

    Attributes:
        max_cost_usd: US dollars, over all runs of the mission, as far as agents tell.
        max_tokens: tokens sent and received, over all runs of the mission.
        max_duration_s: seconds since this start began.
        max_cost_per_wp_usd: US dollars for one work package, over all starts; beyond that it is parked.
        hard: stop attempts at work when a limit is reached, instead of only starting nothing new.
        strict: refuse agents that do not tell what they cost, where a cost is limited.
    """

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_duration_s: float | None = None
    max_cost_per_wp_usd: float | None = None
    hard: bool = False
    strict: bool = False

    @property
    def limits_cost(self) -> bool:
        """Whether anything depends on what agents cost."""
        return self.max_cost_usd is not None or self.max_cost_per_wp_usd is not None


@dataclass(frozen=True)
class Policy:
    """What decides, besides what happened.

    Attributes:
        impl_agents: in the order of fallback, at least one.
        review_agents: in the order of fallback, at least one.
        max_concurrent: how many work packages hold a slot at once.
        max_per_agent: how many attempts of an agent run at once, by its name; one that is missing has no
            limit.
        max_attempts: implement attempts per work package, over all agents.
        max_review_cycles: rejections per work package before it is parked.
        max_unusable: reviews without a usable verdict, per commit, before the next reviewer is asked.
        finish_lane: `done`, or `approved` to let the host's merge close work packages.
        tick_subtasks: whether subtasks that a report names as done are ticked on the agent's word.
        retry_base_s: first back-off, in seconds; it doubles up to `retry_cap_s`.
        gates: commands that must succeed on a commit, in this order, before a review of it is paid for.
        setup: commands that must succeed in a new worktree, in this order, before anything else runs there.
        families: the vendor of each agent, by its name.
        independent_review: whether a reviewer of an implementer's family is never used, not only as the last.
        review_quorum: how many reviewers must approve the same commit.
        session_resume: whether rework goes on with the implementer's session where that is possible.
        resuming: agents that can go on with a session.
        without_shell: agents whose reviewer cannot run `git diff`.
        confined: whether the system confines agents: they can neither commit nor tick.
        patience: what to do about quotas that are used up.
        budget: what may be spent.
    """

    impl_agents: tuple[str, ...]
    review_agents: tuple[str, ...]
    max_concurrent: int = 4
    max_per_agent: Mapping[str, int] = field(default_factory=dict)
    max_attempts: int = 6
    max_review_cycles: int = 3
    max_unusable: int = 2
    finish_lane: Lane = Lane.DONE
    tick_subtasks: bool = True
    retry_base_s: float = 10.0
    retry_cap_s: float = 300.0
    gates: tuple[Gate, ...] = ()
    setup: tuple[Gate, ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    independent_review: bool = False
    review_quorum: int = 1
    session_resume: bool = True
    resuming: tuple[str, ...] = ()
    without_shell: tuple[str, ...] = ()
    confined: bool = False
    patience: Patience = field(default_factory=Patience)
    budget: Budget = field(default_factory=Budget)
