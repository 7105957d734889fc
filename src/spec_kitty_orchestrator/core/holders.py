"""Who has which worktree to itself, whether this run works in it or somebody else does."""

from collections.abc import Set as AbstractSet

from spec_kitty_orchestrator.core.model import Lane, Phase, Result, WorkPackage

HOLDING = frozenset({Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW})
"""Lanes in which a work package has its workspace to itself, whoever works on it."""


def begun(wp: WorkPackage) -> bool:
    """Whether this run or an earlier one has taken it up and not yet left it."""
    return wp.phase not in (Phase.WAITING, Phase.FINISHED)


def held_by_others(wp: WorkPackage) -> bool:
    """Whether another actor works on it, so that its worktree must be left alone."""
    return wp.result is Result.FOREIGN and wp.lane in HOLDING


def wanted(wp: WorkPackage) -> bool:
    """Whether its worktree must be known: to work in it, or to keep out of it."""
    return wp.phase is not Phase.FINISHED or held_by_others(wp)


def holds(wp: WorkPackage) -> bool:
    """Whether it has its worktree to itself even while nobody of ours is at work in it."""
    return begun(wp) or wp.lane in HOLDING


class Holders:
    """By the key of a worktree, the work packages that have a claim to it; who works in it comes first."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[str, int]] = {}
        self._keys: dict[str, str] = {}

    def put(self, wp_id: str, order: int, key: str) -> str:
        """Let a work package hold a worktree, or none for ""; return the key that it gave up, "" if none.

        `order` decides between several that came to hold one worktree by hand.
        """
        before = self._keys.get(wp_id, "")
        if before == key:
            return ""
        self._keys[wp_id] = key
        if before:
            del self._by_key[before][wp_id]
        if key:
            self._by_key.setdefault(key, {})[wp_id] = order
        return before

    def held(self, wp_id: str) -> str:
        """Return the key of the worktree that a work package holds, "" if it holds none."""
        return self._keys.get(wp_id, "")

    def of(self, key: str, active: AbstractSet[str]) -> str:
        """Return who has a worktree, "" if nobody has."""
        claims = self._by_key.get(key)
        if not claims:
            return ""
        at_work = next((one for one in claims if one in active), "")
        return at_work or min(claims, key=claims.__getitem__)
