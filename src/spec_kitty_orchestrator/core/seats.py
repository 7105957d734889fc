"""How many attempts of one agent run at once, and who comes first when it has room again."""

import math
from collections.abc import Mapping


class Seats:
    """The seats at each limited agent. A work package sits at one agent at most.

    Args:
        per_agent: how many attempts of an agent may run at once; an agent that is missing has no limit.
    """

    def __init__(self, per_agent: Mapping[str, int]) -> None:
        self._per_agent = per_agent
        self._taken = dict.fromkeys(per_agent, 0)
        self._seats: dict[str, str] = {}
        self._queue: dict[str, tuple[int, str]] = {}
        self._waiting = dict.fromkeys(per_agent, 0)
        self._came = 0

    def limited(self, agent: str) -> bool:
        """Tell whether an agent has a limit."""
        return agent in self._per_agent

    def room(self, agent: str) -> bool:
        """Tell whether an agent has a free seat."""
        return agent not in self._per_agent or self._taken[agent] < self._per_agent[agent]

    def seated(self, wp_id: str, agent: str = "") -> bool:
        """Tell whether a work package has a seat, at this agent if one is named."""
        return wp_id in self._seats and agent in ("", self._seats[wp_id])

    def ask(self, wp_id: str, agent: str) -> bool:
        """Give a seat to a work package that has none at this agent, unless others came first."""
        if self._seats.get(wp_id) == agent or not self.limited(agent):
            return True
        if not self.room(agent) or self._waiting[agent]:
            return False
        self.sit(wp_id, agent)
        return True

    def sit(self, wp_id: str, agent: str) -> None:
        """Let a work package have a seat, whether there is room or not: its attempt may be running."""
        self.forget(wp_id)
        if self.limited(agent) and self._seats.get(wp_id) != agent:
            self.leave(wp_id)
            self._seats[wp_id] = agent
            self._taken[agent] += 1

    def leave(self, wp_id: str) -> str:
        """Free a work package's seat; return the agent, "" if it had none."""
        agent = self._seats.pop(wp_id, "")
        if agent:
            self._taken[agent] -= 1
        return agent

    def enqueue(self, wp_id: str, agent: str) -> None:
        """Put a work package behind those that wait for an agent already."""
        self._came += 1
        self._queue[wp_id] = self._came, agent
        self._waiting[agent] += 1

    def forget(self, wp_id: str) -> None:
        """Take a work package out of its queue."""
        if wp_id in self._queue:
            self._waiting[self._queue.pop(wp_id)[1]] -= 1

    def rank(self, wp_id: str) -> float:
        """Return a work package's place among those that wait; infinity if it does not."""
        return self._queue[wp_id][0] if wp_id in self._queue else math.inf

    def refusal(self, agent: str) -> str:
        """Say that an agent has no room for another attempt."""
        return f"waits for {agent}: at most {self._per_agent[agent]} at once"
