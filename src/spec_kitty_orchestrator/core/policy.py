"""The settings that decisions depend on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spec_kitty_orchestrator.core.gates import Gate
from spec_kitty_orchestrator.core.words import Lane


@dataclass(frozen=True)
class Policy:
    """The settings that decisions depend on; frozen for the length of a run and kept in the journal.

    Attributes:
        impl_agents: in the order of fallback, at least one.
        review_agents: in the order of fallback, at least one.
        max_attempts: implement attempts per work package, over all agents.
        max_review_cycles: rejections per work package before it is parked.
        max_unusable: reviews without a usable verdict, per commit, before it is parked in review.
        finish_lane: `done`, or `approved` to let the host's merge close work packages.
        tick_subtasks: whether subtasks that a report names as done are ticked on the agent's word.
        retry_base_s: first back-off, in seconds; it doubles up to `retry_cap_s`.
        gates: commands that must succeed on a commit, in this order, before a review of it is paid for.
        families: the vendor of each agent, by its name; empty in journals of earlier versions.
        independent_review: whether a reviewer of an implementer's family is never used, not only as the last.
        review_quorum: how many reviewers must approve the same commit.
        session_resume: whether rework goes on with the implementer's session where that is possible.
        resuming: agents that can go on with a session.
        without_shell: agents whose reviewer cannot run `git diff`.
        stop_repeats: whether the same findings, or the same content, twice in a row park a work package.
        quota_breaker: whether an agent whose quota is used up rests for everybody; else a limit is a failure
            of the attempt that met it.

    What decides differently from an earlier version is off where a journal does not name it, so that a
    journal of that version is read by its own rules.
    """

    impl_agents: tuple[str, ...]
    review_agents: tuple[str, ...]
    max_attempts: int = 6
    max_review_cycles: int = 3
    max_unusable: int = 2
    finish_lane: Lane = Lane.DONE
    tick_subtasks: bool = True
    retry_base_s: float = 10.0
    retry_cap_s: float = 300.0
    gates: tuple[Gate, ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    independent_review: bool = False
    review_quorum: int = 1
    session_resume: bool = True
    resuming: tuple[str, ...] = ()
    without_shell: tuple[str, ...] = ()
    stop_repeats: bool = False
    quota_breaker: bool = False
