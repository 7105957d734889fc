"""Whether enough reviewers are left to agree on a commit, and what their agreement is."""

from spec_kitty_orchestrator.core.model import Policy, Role, Ruling, Verdict, WorkPackage
from spec_kitty_orchestrator.core.moves import park
from spec_kitty_orchestrator.core.reviewers import approvals, reviewers


def enough(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Go on to review if as many reviewers are left as are needed; else a person must."""
    position, agents = wp.order(Role.REVIEW, policy)
    have, left = len(approvals(wp, policy)), len(agents) - position
    if left > 0 and have + left >= policy.review_quorum:
        return wp
    if not reviewers(wp, policy):
        reason = f"no reviewer is of another family than the implementer of {wp.head}"
    else:
        reason = f"{have} of {policy.review_quorum} reviewers approved {wp.head}, and {left} are left to ask"
    why = f" ({wp.note})" if wp.note else ""
    return park(wp, f"{reason}; a person must review it{why}", blocks=False)


def joined(votes: tuple[Verdict, ...]) -> Verdict:
    """Return the approval of several reviewers as one, bound to the last one's attempt."""
    last = votes[-1]
    if len(votes) == 1:
        return last
    names = ", ".join(one.reviewer for one in votes)
    summary = "\n\n".join(f"{one.reviewer}: {one.summary}" for one in votes if one.summary)
    return Verdict(Ruling.APPROVED, last.head, last.attempt_id, names, summary)
