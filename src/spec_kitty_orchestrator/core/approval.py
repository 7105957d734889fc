"""Whether a mission's branches hold exactly what was approved, decided from what git says of them.

Reviewers approve commits; the host merges branches, whatever they hold by then. So a branch must stand at a
commit that was approved on it and hold the others: that one then is the last.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from spec_kitty_orchestrator.core.describe import clean, count, short
from spec_kitty_orchestrator.core.model import Phase, Result, Workspace
from spec_kitty_orchestrator.core.records import dataclass, replace
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = [
    "MOST_COMMITS",
    "Approved",
    "Commit",
    "Tip",
    "alone",
    "approved",
    "approved_head",
    "built_on",
    "by_others",
    "found_at",
    "is_planning",
    "merged_by_host",
    "objection",
    "strange",
    "targets",
    "unknown",
    "unsettled",
]

MOST_COMMITS = 10
"""Of those that were not reviewed, named for people."""

MOST_PATHS = 5
LONGEST_SUBJECT = 72

_PLANNING_BRANCH = "main"
"""What the host takes for the branch of planning artifacts, whatever the target, and merges into others."""


@dataclass(frozen=True)
class Commit:
    """A commit as people know it."""

    sha: str
    author: str
    subject: str


@dataclass(frozen=True)
class Approved:
    """What may be on one branch.

    Attributes:
        workspace: of the work packages that share it.
        wps: their ids.
        heads: the commits that were approved on it, by our record.
        found: where it stood when somebody else had completed work packages of it, "" for nowhere.
    """

    workspace: Workspace
    wps: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    found: tuple[str, ...] = ()

    @property
    def branch(self) -> str:
        """Its name, without `refs/heads/`."""
        return self.workspace.branch or ""

    @property
    def known(self) -> tuple[str, ...]:
        """All commits that it may hold."""
        return (*self.heads, *filter(None, self.found))


@dataclass(frozen=True)
class Tip:
    """What git says of a branch.

    Attributes:
        head: where it stands, "" if there is no such branch.
        last: of the approved commits the one that holds the others, or else the first that it lacks.
        lacks: approved commits that it does not hold.
        unreviewed: the newest commits that it holds beyond what is known.
        more: how many of these there are besides.
        hidden_by: the ref that git takes for the branch when it is called by its name, "" for none.
        path: its worktree, "" if it has none.
        uncommitted: what the worktree holds that is not on the branch.
        merged: whether the target holds all approved commits.
        joined: whether all that it holds beyond what is known are merges that change nothing themselves.
    """

    head: str
    last: str = ""
    lacks: tuple[str, ...] = ()
    unreviewed: tuple[Commit, ...] = ()
    more: int = 0
    hidden_by: str = ""
    path: str = ""
    uncommitted: tuple[str, ...] = ()
    merged: bool = False
    joined: bool = False


def approved_head(wp: WorkPackage) -> str:
    """Return the commit whose approval by our reviewers finished a work package, "" if none did."""
    verdict = wp.review.verdict
    ours = wp.phase is Phase.FINISHED and wp.result in (Result.DONE, Result.APPROVED)
    return verdict.head if ours and verdict is not None and verdict.ruling is Ruling.APPROVED else ""


def by_others(wp: WorkPackage) -> bool:
    """Tell whether somebody else completed a work package."""
    return wp.lane.complete and not approved_head(wp)


def found_at(wp: WorkPackage, tips: Mapping[str, str] | None) -> WorkPackage:
    """Note where the branches stood when a start first found that somebody else completed a work package."""
    return replace(wp, found=(tips if wp.found is None else wp.found) if by_others(wp) else None)


def approved(wps: Iterable[WorkPackage]) -> tuple[Approved, ...]:
    """Return what may be on the branches of the complete ones among the work packages."""
    found: dict[str, Approved] = {}
    for wp in wps:
        space, head = wp.workspace, approved_head(wp)
        if not wp.lane.complete or space is None or not space.branch or not (head or _tip_known(wp)):
            continue
        one = found.get(space.branch, Approved(space))
        heads = (*one.heads, *([head] if head and head not in one.heads else ()))
        others = () if head or wp.found is None else (wp.found.get(space.branch, ""),)
        found[space.branch] = replace(one, wps=(*one.wps, wp.id), heads=heads, found=(*one.found, *others))
    return tuple(found.values())


def _tip_known(wp: WorkPackage) -> bool:
    return wp.found is not None and not is_planning(wp)


def unknown(wps: Iterable[WorkPackage]) -> tuple[str, ...]:
    """Name work packages that somebody else completed since this start began: nobody knows with what."""
    return tuple(one.id for one in wps if by_others(one) and one.found is None)


def built_on(wp: WorkPackage, wps: Mapping[str, WorkPackage]) -> tuple[Approved, ...]:
    """Return what may be on the branches whose content a work package gets when it is claimed.

    Branches on which work goes on are left out: their last commits are yet to be reviewed.
    """
    spaces = [one.workspace for one in (wp, *map(wps.get, wp.dependencies)) if one is not None]
    keys = {space.key for space in spaces if space is not None}
    settled = [one for one in approved(wps.values()) if one.workspace.key in keys]
    return tuple(one for one in settled if one.branch not in unsettled(wps))


def unsettled(wps: Mapping[str, WorkPackage]) -> frozenset[str]:
    """Return the branches on which work goes on, or was completed by others during this start."""
    return frozenset(
        wp.workspace.branch
        for wp in wps.values()
        if wp.workspace is not None
        and wp.workspace.branch
        and ((by_others(wp) and wp.found is None) or (wp.work.base and not wp.lane.complete))
    )


def targets(wp: WorkPackage, wps: Mapping[str, WorkPackage]) -> tuple[str, ...]:
    """Return the branches whose planning artifacts a work package begins on, its own target included."""
    spaces = [one.workspace for one in (wp, *map(wps.get, wp.dependencies)) if one is not None]
    found = (space.target for space in spaces if space is not None and space.planning)
    return tuple(f"refs/heads/{one}" for one in dict.fromkeys(found) if one)


def is_planning(wp: WorkPackage) -> bool:
    """Tell whether a work package is known to be a planning artifact."""
    return wp.workspace is not None and wp.workspace.planning


def merged_by_host(wps: Iterable[WorkPackage]) -> tuple[str, ...]:
    """Return the branches, besides those of lanes, that the host merges into them, whoever approved them."""
    return (f"refs/heads/{_PLANNING_BRANCH}",) if any(map(is_planning, wps)) else ()


def alone(wp: WorkPackage, wps: Mapping[str, WorkPackage]) -> bool:
    """Tell whether nobody has worked in its workspace yet, as far as we know: what is there is its own."""
    key = wp.workspace.key if wp.workspace is not None else ""
    worked_on = (one for one in wps.values() if one.id != wp.id and (one.work.base or one.lane.complete))
    return all(one.workspace is None or one.workspace.key != key for one in worked_on)


def objection(one: Approved, tip: Tip, mission: str = "", *, joins: bool = False) -> tuple[str, ...]:
    """Say in lines why a branch is not what was approved, and what a person can do; nothing if it is.

    With the name of the `mission`, this says too how commits are reviewed. Where the branch `joins` others,
    as the host lets it for a work package that it claims, a merge is no objection.
    """
    if not tip.head:
        return () if tip.merged or not one.known else _gone(one, tip)
    told: list[str] = []
    if tip.hidden_by:
        told += [
            f"{tip.hidden_by} has the name of the branch {one.branch}, and git takes it for the branch",
            f"  to remove it: {_git(tip, 'update-ref', '-d', tip.hidden_by)}",
        ]
    if tip.lacks:
        lost = ", ".join(map(short, tip.lacks))
        told += [
            f"the approved commit {lost} is no longer on {one.branch}",
            f"  to put it back: {_reset(one, tip)}",
        ]
    elif tip.head not in (*one.heads, *one.found) and not (joins and tip.joined):
        # The branch of planning artifacts follows their target.
        told += _moved(one, tip, mission) if tip.unreviewed or not one.workspace.planning else []
    if one.workspace.planning and not tip.merged:
        told += [
            f"the approved commit {short(tip.last)} is not on {one.workspace.target}",
            f"  to put it there: {shlex.join(('git', 'merge', tip.last))}",
        ]
    if tip.uncommitted:
        paths = ", ".join(clean(path) for path in tip.uncommitted[:MOST_PATHS])
        more = f" and {len(tip.uncommitted) - MOST_PATHS} more" if len(tip.uncommitted) > MOST_PATHS else ""
        told += [
            f"{tip.path} holds what is not on its branch, and is lost with it at the merge: {paths}{more}",
            f"  to keep them elsewhere: {_git(tip, 'stash', 'push', '--include-untracked')}",
        ]
    return tuple(told)


def _gone(one: Approved, tip: Tip) -> tuple[str, ...]:
    return (
        f"the branch {one.branch} is gone, which held the approved commit {short(tip.last)}",
        f"  to put it back: {shlex.join(('git', 'branch', one.branch, tip.last))}",
    )


def _moved(one: Approved, tip: Tip, mission: str) -> list[str]:
    number = len(tip.unreviewed) + tip.more
    if not number:
        return [
            f"{one.branch} stands at {short(tip.head)}; approved was {short(tip.last)}",
            f"  to put it back: {_reset(one, tip)}",
        ]
    back = ("--to", "for_review", "--force", "--note", "commits came after the approval")
    review = shlex.join(
        ("spec-kitty", "agent", "tasks", "move-task", *one.wps[-1:], *back, "--mission", mission)
    )
    return [
        f"{count(number, 'commit')} of {one.branch} {'was' if number == 1 else 'were'} not reviewed:",
        *named(tip.unreviewed, tip.more),
        f"  to look at them: {_git(tip, 'log', '-p', f'{short(tip.last)}..{one.branch}')}",
        f"  to take them off: {_reset(one, tip)}",
        *([f"  to have them reviewed: {review}"] if mission and one.heads else []),
    ]


def strange(what: str, commits: Sequence[Commit], more: int) -> list[str]:
    """Say that `what` holds commits that nobody reviewed; nothing if there are none."""
    number = len(commits) + more
    if not number:
        return []
    was = "that was" if number == 1 else "that were"
    return [f"{what} holds {count(number, 'commit')} {was} not reviewed:", *named(commits, more)]


def named(commits: Sequence[Commit], more: int) -> list[str]:
    """Name commits for people, one a line."""
    listed = [
        f"  {short(one.sha)} {clean(one.author, LONGEST_SUBJECT)}: {clean(one.subject, LONGEST_SUBJECT)}"
        for one in commits
    ]
    return [*listed, f"  and {more} more"] if more else listed


def _reset(one: Approved, tip: Tip) -> str:
    if tip.path:
        return _git(tip, "reset", "--keep", short(tip.last))
    return shlex.join(("git", "branch", "--force", one.branch, short(tip.last)))


def _git(tip: Tip, *words: str) -> str:
    return shlex.join(("git", *(("-C", tip.path) if tip.path else ()), *words))
