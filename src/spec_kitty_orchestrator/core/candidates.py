"""Who could be given a slot, and how urgent that is."""

from dataclasses import dataclass

Urgency = tuple[int, float, int, str]
"""The kind comes first, then who waited longest for an agent, then the longest chain, then the id."""

RUNNING, BEGUN, AHEAD, NEW = range(4)
"""Kinds of candidates, urgent first: an agent of an earlier start may be at work without a slot."""

Candidate = tuple[Urgency, int]
"""With the ticket of the work package that it was filed under: an older one is void."""


@dataclass(slots=True)
class Place:
    """A work package's place in the mission, its present ticket, and the limited agent that it needs."""

    order: int
    ticket: int = 0
    agent: str = ""
