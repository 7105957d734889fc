"""A journal -> the state of its run. Used at every start: going on is not a special case.

The journal's events happen again under the policy that was in force; what comes out is the state in which the
run was left, with the pending command of each work package. A start then joins it with the host's lanes:

=============  ====================================================================
lane           what a start does with a work package that is not finished
=============  ====================================================================
planned        waits for its dependencies, is claimed
claimed        claimed again: harmless for the same actor, refused for another
in_progress    goes on where the journal left it; else as `claimed`
for_review     is reviewed
in_review      its review goes on if we began it; otherwise it is somebody else's
approved       is left alone: dependents can start
done           is left alone
blocked        is left alone and reported
canceled       is left alone and reported
=============  ====================================================================

An attempt that is open, work that is not yet submitted and a verdict that is not yet recorded go first,
whatever the lane: the host's answer settles it. Gates go on in every lane in which they could have begun.
"""

from collections.abc import Iterable
from functools import reduce

from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import begin, happened
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.ports import Entry, Line, RunStarted


def fold(lines: Iterable[Line], policy: Policy) -> RunState:
    """Return the state in which a journal left its mission's run; `policy` is used until its first start.

    Raises:
        InvalidTransition: the journal was written by a version with other edges.
    """
    return reduce(replayed, lines, RunState(policy))


def replayed(state: RunState, line: Line) -> RunState:
    """Return the state after one more line of a journal. Raises `InvalidTransition`."""
    if isinstance(line, RunStarted):
        return begin(state, line.policy, line.mission, line.at)
    if isinstance(line, Entry):
        return happened(state, line.at, line.wp_id, line.event)[0]
    return state
