"""Which branches of a mission will conflict, where they meet, and what a person can do about it.

The host merges the branches of what a work package needs when it is claimed, and all of them at the end. Two
that conflict there stop it, so that is told as soon as both hold work.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from spec_kitty_orchestrator.core.describe import describe
from spec_kitty_orchestrator.core.graph import waves
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import ConflictForecast
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = ["advice", "mend", "moved", "news", "pairs"]

Pair = tuple[str, str]

MOST_ADVICE = 5
"""Conflicts of which the summary says what to do; each mend can settle others."""


def branch(wp: WorkPackage) -> str:
    """Return the branch that a work package's commits are on, "" if that is not known."""
    space = wp.workspace
    return space.branch or "" if space is not None and not space.planning else ""


def moved(before: RunState, after: RunState, wp_id: str) -> bool:
    """Tell whether a work package has a new commit, so that its branch may conflict with others."""
    known, wp = before.wps.get(wp_id), after.wps.get(wp_id)
    return wp is not None and wp.work.head != (known.work.head if known is not None else "")


def pairs(state: RunState, wp_id: str = "") -> tuple[Pair, ...]:
    """Return the pairs of branches that are to be looked at for a work package; without it, those known."""
    if not wp_id:
        return tuple(one.branches for one in state.conflicts)
    here = branch(state.wps[wp_id])
    if not here:
        return ()
    return tuple(_pair(here, other) for other in _with_work(state) if other != here)


def news(state: RunState, found: Mapping[Pair, tuple[str, ...]]) -> list[ConflictForecast]:
    """Return what is new in the conflicts that git tells of pairs of branches."""
    known = {one.branches: one for one in state.conflicts}
    names, told = _with_work(state), []
    for pair, files in found.items():
        before = known.get(pair)
        one, other = (names.get(each, "") for each in pair)
        if not (one and other):
            # Somebody took it out of the mission.
            files = ()
        if files == (before.files if before is not None else ()):
            continue
        ids = (one, other) if before is None or (one and other) else (before.wp, before.other)
        told.append(ConflictForecast(*ids, pair, files, _needed_by(state, pair)))
    return told


def advice(told: Iterable[ConflictForecast], wps: Iterable[WorkPackage], mission: str) -> list[str]:
    """Say in lines which branches conflict, and how a person ends that so that everything goes on."""
    known, lines = {one.id: one for one in wps}, []
    for number, one in enumerate(told):
        lines.append(describe(one))
        if number < MOST_ADVICE and one.wp in known and one.other in known:
            for words, command in mend(known[one.wp], known[one.other], mission):
                lines += [f"{words}:", f"  {command}"]
    return lines


def mend(one: WorkPackage, other: WorkPackage, mission: str) -> tuple[tuple[str, str], ...]:
    """Return how a person ends that two branches conflict, in steps, each with the command for it."""
    # What is reviewed anyway takes the other one in; else what comes later.
    into, merged = (one, other) if other.lane.complete and not one.lane.complete else (other, one)
    if into.workspace is None:
        return ()
    git = ("git", "-C", into.workspace.path)
    merge = f"To mend it while no agent works on {into.id}, merge {merged.id} into it"
    steps = [
        (merge, shlex.join((*git, "merge", "--no-edit", branch(merged)))),
        ("Resolve and `git add` what conflicts, and commit", shlex.join((*git, "commit", "--no-edit"))),
    ]
    if into.lane.complete:
        back = ("--to", "for_review", "--force", "--note", f"{merged.id} was merged into it")
        words = ("spec-kitty", "agent", "tasks", "move-task", into.id, *back, "--mission", mission)
        steps.append((f"Then have {into.id} reviewed again, with what it holds now", shlex.join(words)))
    return tuple(steps)


def _with_work(state: RunState) -> dict[str, str]:
    """Return the branches that hold work, each with the last work package that worked on it."""
    begun = (wp for wp in state.wps.values() if wp.work.head or wp.lane.complete)
    return {branch(wp): wp.id for wp in begun if branch(wp) and wp.lane is not Lane.CANCELED}


def _needed_by(state: RunState, pair: Sequence[str]) -> str:
    """Return the work package in which two branches meet first, "" if they meet in the merge of all."""
    brings: dict[str, frozenset[str]] = {}
    for wave in waves({wp.id: wp.dependencies for wp in state.wps.values()}):
        for wp in map(state.wps.__getitem__, wave):
            needed = (brings.get(one, frozenset()) for one in wp.dependencies)
            brings[wp.id] = frozenset({branch(wp)}).union(*needed)
            if wp.lane is Lane.PLANNED and not wp.work.base and brings[wp.id].issuperset(pair):
                return wp.id
    return ""


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)
