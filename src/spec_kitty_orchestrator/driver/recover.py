"""Host lanes + journal -> work packages. Used at every start: going on is not a special case.

The journal's events are stepped through again under the policy that was in force; what comes out is the
state in which each work package was left, with its pending command. The lane decides the rest:

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

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import anyio.lowlevel

from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Policy, Result, WorkPackage
from spec_kitty_orchestrator.core.moves import SETTLED, enter, reopen
from spec_kitty_orchestrator.core.reviewers import reviewers
from spec_kitty_orchestrator.ports import Entry, Line, RunStarted

STEPS_AT_ONCE = 100
"""Lines of a journal, or work packages, between two looks at the event loop: about 5 ms."""

Item = TypeVar("Item")


async def in_steps(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield the items, with looks at the event loop in between."""
    for place, item in enumerate(items):
        yield item
        if place % STEPS_AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()


def fold(lines: Iterable[Line], policy: Policy) -> dict[str, WorkPackage]:
    """Step through a journal again; `policy` is used until its first `RunStarted`.

    Raises:
        InvalidTransition: the journal was written by a version with other edges.
    """
    wps: dict[str, WorkPackage] = {}
    for known in _folded(lines, policy):
        wps = known
    return wps


async def fold_in_steps(lines: Iterable[Line], policy: Policy) -> dict[str, WorkPackage]:
    """Do the same as `fold` without keeping the event loop for long."""
    wps: dict[str, WorkPackage] = {}
    async for known in in_steps(_folded(lines, policy)):
        wps = known
    return wps


def _folded(lines: Iterable[Line], policy: Policy) -> Iterator[dict[str, WorkPackage]]:
    wps: dict[str, WorkPackage] = {}
    for line in lines:
        if isinstance(line, RunStarted):
            policy = line.policy
            wps = {one.id: fitted(one, policy) for one in wps.values()}
        elif isinstance(line, Entry):
            wp = wps.get(line.wp_id) or WorkPackage(line.wp_id)
            wps[line.wp_id], _ = step(wp, line.event, policy)
        yield wps


def fitted(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Start from the first agent again where the fallback order has become shorter than the position."""
    if wp.stand_in >= 0:
        wp = replace(wp, stand_in=-1)
    if wp.impl_agent >= len(policy.impl_agents):
        wp = replace(wp, impl_agent=0)
    return wp if wp.review_agent < len(reviewers(wp, policy)) else replace(wp, review_agent=0)


def start(state: MissionState, folded: Mapping[str, WorkPackage], policy: Policy) -> dict[str, WorkPackage]:
    """Join the mission's lanes with what the journal knows; what was parked gets a new chance."""
    return {wp.id: wp for wp in _joined(state, folded, policy)}


async def start_in_steps(
    state: MissionState, folded: Mapping[str, WorkPackage], policy: Policy
) -> dict[str, WorkPackage]:
    """Do the same as `start` without keeping the event loop for long."""
    wps: dict[str, WorkPackage] = {}
    async for wp in in_steps(_joined(state, folded, policy)):
        wps[wp.id] = wp
    return wps


def _joined(state: MissionState, folded: Mapping[str, WorkPackage], policy: Policy) -> Iterator[WorkPackage]:
    for wp_id, lane in state.lanes.items():
        wp = fitted(folded.get(wp_id) or WorkPackage(wp_id), policy)
        wp = replace(wp, dependencies=state.dependencies[wp_id], lane=lane)
        if wp.phase is Phase.FINISHED and not _agrees(wp):
            wp = reopen(wp)
        yield seen(wp, lane)


def seen(wp: WorkPackage, lane: Lane) -> WorkPackage:
    """Bring a work package that nobody works on into line with the lane that the host tells."""
    wp = wp if wp.lane is lane else replace(wp, lane=lane)
    if wp.phase is Phase.WAITING and (lane in SETTLED or (lane is Lane.IN_REVIEW and not wp.base)):
        return enter(wp)
    if wp.phase is Phase.FINISHED and lane.complete and not _agrees(wp):
        return enter(wp)
    return wp


def _agrees(wp: WorkPackage) -> bool:
    if wp.result is Result.PARKED:
        return wp.lane is Lane.BLOCKED or (wp.skipped and not wp.lane.complete)
    if wp.result in (Result.DONE, Result.APPROVED):
        return wp.lane.complete
    return wp.result is not None and wp.result.value == wp.lane.value
