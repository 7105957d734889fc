"""What keeps a work package that could go on from being given a slot."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """What holds a candidate up: an agent without a free seat, or a worktree that somebody has."""

    agent: str = ""
    worktree: str = ""


NEW_WORK = Obstacle()
"""Holds up whatever is not begun, because nobody may implement at present."""
