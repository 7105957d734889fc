"""What the scheduler knows of a mission, kept in order while it changes.

Each answer costs what changed since the last one, not the size of the mission: a work package is looked at
when something that it waits for happens, and otherwise lies in the heap of what holds it up. Built from
scratch, a board gives the same answers as one that was kept up to date.
"""

import math
from collections.abc import Mapping
from heapq import heappop, heappush

from spec_kitty_orchestrator.core.candidates import AHEAD, BEGUN, NEW, RUNNING, Candidate, Place
from spec_kitty_orchestrator.core.holders import HOLDING, Holders, begun, holds, wanted
from spec_kitty_orchestrator.core.model import Lane, Phase, WorkPackage, Workspace
from spec_kitty_orchestrator.core.needs import Needs
from spec_kitty_orchestrator.core.obstacles import NEW_WORK, Obstacle
from spec_kitty_orchestrator.core.plans import Finished, Idle, Stalled, Start
from spec_kitty_orchestrator.core.seats import Seats


class Board:
    """Who works, who waits for what, and who is next. Change it through its methods only.

    Attributes:
        wps: every work package of the mission, with the lane last seen.
        workspaces: those resolved so far; a work package without one cannot start yet.
        active: ids that are driven at present: each holds a slot, but for one that is claimed ahead.
        resting: ids that wait, each with the time at which it may go on.
        ahead: the id that is or was claimed before there is a slot for it, "" if none is.
        stirred: set when an answer may have become another one; whoever asks again clears it.
    """

    def __init__(
        self, chains: Mapping[str, int] | None = None, per_agent: Mapping[str, int] | None = None
    ) -> None:
        """Make an empty board.

        Args:
            chains: for each id, the length of the longest chain that starts with it.
            per_agent: how many attempts of an agent may run at once; an agent that is missing has no limit.
        """
        self.wps: dict[str, WorkPackage] = {}
        self.workspaces: dict[str, Workspace] = {}
        self.active: set[str] = set()
        self.resting: dict[str, float] = {}
        self.ahead = ""
        self.stirred = True
        self.seats = Seats(per_agent or {})
        self._new_waits, self._new_until = "", math.inf
        self._chains = chains or {}
        self._now = -math.inf
        self._places: dict[str, Place] = {}
        self._needs = Needs()
        self._holders = Holders()
        self._left: dict[str, None] = {}
        self._unresolved: set[str] = set()
        self._unknown: dict[str, None] = {}
        self._adrift: set[str] = set()
        self._ready: list[Candidate] = []
        self._held_up: dict[Obstacle, list[Candidate]] = {}
        self._alarms: list[tuple[float, str, int]] = []
        self._questions: list[tuple[bool, int, str]] = []

    def put(self, wp: WorkPackage, agent: str = "") -> None:
        """Take a new state of a work package; `agent` is whose attempt it runs or needs next, "" for none."""
        place = self._places.setdefault(wp.id, Place(len(self._places)))
        place.agent = agent if self.seats.limited(agent) else ""
        self.wps[wp.id] = wp
        for one in self._needs.put(wp):
            if one != wp.id:
                self._file(one)
        if wp.open_attempt is not None and place.agent:
            self.seats.sit(wp.id, place.agent)
        self._file(wp.id)

    def resolve(self, wp_id: str, workspace: Workspace) -> None:
        """Learn where a work package is worked on."""
        self.workspaces[wp_id] = workspace
        if wp_id in self.wps:
            self._file(wp_id)

    def begin(self, wp_id: str) -> None:
        """Give a slot to a work package, and a seat at its agent."""
        self._activate(wp_id)
        if self.ahead == wp_id:
            self.ahead = ""
        self.seats.sit(wp_id, self._places[wp_id].agent)

    def stop(self, wp_id: str, rests_until: float | None = None) -> None:
        """Take back what a work package was given; it may rest before it goes on."""
        self.active.discard(wp_id)
        if rests_until is not None:
            self.resting[wp_id] = rests_until
        if self.wps[wp_id].open_attempt is None:
            self.vacate(wp_id)
        self._file(wp_id)
        self._pass_on(self._holders.held(wp_id), wp_id)
        self.stirred = True

    def admit(self, wp_id: str, agent: str) -> bool:
        """Give a work package that holds a slot a seat at an agent, or a place in the agent's queue."""
        if not self.seats.seated(wp_id, agent):
            self.vacate(wp_id)
        if self.seats.ask(wp_id, agent):
            return True
        self.seats.enqueue(wp_id, agent)
        return False

    def vacate(self, wp_id: str) -> None:
        """Take back a work package's seat at its agent."""
        agent = self.seats.leave(wp_id)
        if agent:
            self._promote(Obstacle(agent=agent))

    def hold_new(self, reason: str, until: float = math.inf) -> None:
        """Begin no new work for this reason, to be asked for again at `until`; "" lets it begin."""
        self._new_waits, self._new_until = reason, until
        if not reason:
            for candidate in self._held_up.pop(NEW_WORK, ()):
                heappush(self._ready, candidate)

    def rouse(self, wp_id: str) -> None:
        """End a rest before its time."""
        if wp_id in self.resting and wp_id not in self.active:
            self.resting[wp_id] = -math.inf
            self._file(wp_id)

    def plan(self, limit: int, now: float) -> Start | Idle | Finished | Stalled:
        """Give the free slots out; whoever is named in the answer holds one from now on."""
        self._ring(now)
        chosen = self._give(limit)
        if chosen:
            return Start(chosen)
        if not self._left:
            return Idle(None) if self.active else Finished()
        until = self._next_alarm()
        if NEW_WORK in self._held_up:
            until = min(self._new_until, math.inf if until is None else until)
        if self.active or self.resolving or until is not None:
            return Idle(until)
        return Stalled(self.reasons())

    def go_on(self, limit: int, now: float) -> tuple[str, ...]:
        """Give free slots to what was begun alone; whoever is named in the answer holds one from now on."""
        self._ring(now)
        return self._give(limit, BEGUN)

    def could_start(self, limit: int, now: float) -> bool:
        """Tell whether `plan` would give out a slot; it is asked where that needs a permission first."""
        self._ring(now)
        return self.free(limit) > 0 and (self.ahead in self.active or self._next() is not None)

    def claim_ahead(self, limit: int) -> str:
        """Choose who is claimed while every slot is taken, "" if nobody should be; it is `active` then.

        It is the one that would start next, if that is planned and its workspace is free.
        """
        candidate = None if self.ahead or self.free(limit) > 0 else self._next(for_attempt=False)
        if candidate is None or self.wps[candidate[0][-1]].lane is not Lane.PLANNED or candidate[0][0] < NEW:
            return ""
        heappop(self._ready)
        self.ahead = candidate[0][-1]
        self._activate(self.ahead)
        return self.ahead

    @property
    def resolving(self) -> bool:
        """Whether somebody could go on if it were known who works where."""
        return bool(self._unresolved or self._unknown)

    def waits_for_others(self, limit: int) -> bool:
        """Tell whether a slot is free and somebody outside this run may bring about a use of it."""
        if self.free(limit) <= 0:
            return False
        held = (self._holders.of(one.worktree, self.active) for one in self._held_up if one.worktree)
        return bool(self._adrift) or any(one and self.wps[one].phase is Phase.FINISHED for one in held)

    def to_resolve(self, most: int, *, at_leisure: bool) -> list[str]:
        """Return whose workspaces are to be learned next.

        Those come first that could start in them or hold them already; the others, one at a time, only
        `at_leisure`.
        """
        found: dict[str, None] = {}
        while self._questions and len(found) < most:
            later, _, one = self._questions[0]
            if one in self.workspaces or not wanted(self.wps[one]) or later is not self._can_wait(one):
                heappop(self._questions)
                continue
            if later and (found or not at_leisure):
                break
            heappop(self._questions)
            found[one] = None
            if later:
                break
        return list(found)

    def why(self, wp_id: str) -> str:
        """Say what a work package waits for, "" if it only needs a slot."""
        wp = self.wps[wp_id]
        if not self._runnable(wp):
            return "waits for " + ", ".join(
                f"{one} ({self.wps[one].lane})" if one in self.wps else f"{one} (not in the mission)"
                for one in wp.dependencies
                if one not in self.wps or not self.wps[one].lane.complete
            )
        if self.resting.get(wp_id, self._now) > self._now:
            return wp.rests or wp.note or "rests before the next try"
        if wp_id not in self.workspaces:
            return "its workspace is not resolved yet"
        if self._unknown and not begun(wp):
            return f"waits to learn which workspace {next(iter(self._unknown))} holds"
        obstacle = self._obstacle(wp_id)
        if obstacle is None:
            return ""
        if obstacle == NEW_WORK:
            return self._new_waits
        if obstacle.agent:
            return self.seats.refusal(obstacle.agent)
        return f"its workspace is held by {self._holders.of(obstacle.worktree, self.active)}"

    def reasons(self, otherwise: str = "") -> dict[str, str]:
        """Say for each work package left what it waits for, or `otherwise`."""
        return {one: self.why(one) or otherwise for one in self._left}

    def free(self, limit: int) -> int:
        """Count the slots that are not taken."""
        return limit - len(self.active) + (self.ahead in self.active)

    def _give(self, limit: int, least_urgent: int = NEW) -> tuple[str, ...]:
        chosen: list[str] = []
        while self.free(limit) > 0:
            candidate = self._next()
            kind = NEW if candidate is None else candidate[0][0]
            if kind > least_urgent:
                break
            if self.ahead in self.active and kind > BEGUN:
                # It goes on without a stop when its claim is acknowledged.
                self.ahead = ""
                continue
            if candidate is None:
                break
            chosen.append(heappop(self._ready)[0][-1])
            self.begin(chosen[-1])
        return tuple(chosen)

    def _file(self, wp_id: str) -> None:
        """Put a work package where it belongs by all that is known now."""
        if wp_id in self.active:
            return
        wp, place = self.wps[wp_id], self._places[wp_id]
        place.ticket += 1
        self._hold(wp)
        self._unresolved.discard(wp_id)
        self._adrift.discard(wp_id)
        if self.ahead == wp_id and not begun(wp):
            self.ahead = ""
        if wp_id not in self.workspaces and wanted(wp):
            heappush(self._questions, (self._can_wait(wp_id), -self._chains.get(wp_id, 1), wp_id))
            self.stirred = True
        if wp.phase is Phase.FINISHED:
            if self._left.pop(wp_id, 0) is None:
                self.stirred = True
            self.seats.forget(wp_id)
        else:
            self._left[wp_id] = None
            self._await(wp, place)
        # It may have been the one that was promoted: then it is the next one's turn.
        self._promote_beside(wp_id)

    def _await(self, wp: WorkPackage, place: Place) -> None:
        if not self._runnable(wp):
            if self._needs.adrift(wp.id):
                self._adrift.add(wp.id)
                self.stirred = True
        elif self.resting.get(wp.id, self._now) > self._now:
            heappush(self._alarms, (self.resting[wp.id], wp.id, place.ticket))
            self.stirred = True
        elif wp.id not in self.workspaces:
            self._unresolved.add(wp.id)
        else:
            urgency = self._kind(wp), self.seats.rank(wp.id), -self._chains.get(wp.id, 1), wp.id
            heappush(self._ready, (urgency, place.ticket))
            self.stirred = True

    def _kind(self, wp: WorkPackage) -> int:
        if wp.open_attempt is not None:
            return RUNNING
        return NEW if not begun(wp) else AHEAD if wp.id == self.ahead else BEGUN

    def _activate(self, wp_id: str) -> None:
        self.active.add(wp_id)
        self._left.pop(wp_id, None)
        self._places[wp_id].ticket += 1
        self._hold(self.wps[wp_id])

    def _hold(self, wp: WorkPackage) -> None:
        workspace = self.workspaces.get(wp.id)
        if workspace is None and wp.lane in HOLDING and wanted(wp):
            self._unknown[wp.id] = None
            return
        if self._unknown.pop(wp.id, 0) is None:
            self.stirred = True
        has = workspace is not None and (wp.id in self.active or holds(wp))
        key = workspace.key if workspace is not None and has else ""
        self._pass_on(self._holders.put(wp.id, self._places[wp.id].order, key), wp.id)

    def _pass_on(self, key: str, by: str) -> None:
        """Let whoever is next in a workspace be looked at."""
        holder = self._holders.of(key, self.active)
        if not holder and key:
            self._promote(Obstacle(worktree=key))
        elif holder and holder != by:
            self._file(holder)

    def _promote(self, obstacle: Obstacle) -> None:
        """Make the most urgent of those that an obstacle held up a candidate again."""
        heap = self._held_up.get(obstacle)
        if heap is None or not self.seats.room(obstacle.agent):
            return
        while heap:
            candidate = heappop(heap)
            if self._valid(candidate):
                heappush(self._ready, candidate)
                self.stirred = True
                break
        if not heap:
            del self._held_up[obstacle]

    def _promote_beside(self, wp_id: str) -> None:
        workspace = self.workspaces.get(wp_id)
        if workspace is not None and not self._holders.of(workspace.key, self.active):
            self._promote(Obstacle(worktree=workspace.key))
        if self._places[wp_id].agent:
            self._promote(Obstacle(agent=self._places[wp_id].agent))

    def _next(self, *, for_attempt: bool = True) -> Candidate | None:
        """Return the first candidate that nothing holds up, now the first of the heap; None if there is none.

        Without `for_attempt`, new work is not held up by an agent: it is not to be run yet.
        """
        while self._ready:
            candidate = self._ready[0]
            wp_id = candidate[0][-1]
            if not self._valid(candidate):
                heappop(self._ready)
                continue
            new = candidate[0][0] == NEW
            if self._unknown and new:
                return None
            obstacle = self._obstacle(wp_id)
            if obstacle is None or (obstacle.agent and new and not for_attempt):
                return candidate
            heappush(self._held_up.setdefault(obstacle, []), heappop(self._ready))
            self._promote_beside(wp_id)
        return None

    def _valid(self, candidate: Candidate) -> bool:
        return self._places[candidate[0][-1]].ticket == candidate[1]

    def _obstacle(self, wp_id: str) -> Obstacle | None:
        wp = self.wps[wp_id]
        if self._new_waits and not begun(wp) and wp.lane not in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
            return NEW_WORK
        key = self.workspaces[wp_id].key
        if self._holders.of(key, self.active) not in ("", wp_id):
            return Obstacle(worktree=key)
        agent = self._places[wp_id].agent
        if agent and not self.seats.seated(wp_id) and not self.seats.room(agent):
            return Obstacle(agent=agent)
        return None

    def _runnable(self, wp: WorkPackage) -> bool:
        """Whether nothing but a workspace could be missing."""
        return begun(wp) or wp.lane is not Lane.PLANNED or not self._needs.missing(wp.id)

    def _can_wait(self, wp_id: str) -> bool:
        """Whether nobody could start at once if the work package's workspace were known."""
        return self._needs.missing(wp_id) > 0 and wp_id not in self._unknown

    def _ring(self, now: float) -> None:
        """Take up those whose rest is over."""
        self._now = now
        while self._alarms and self._alarms[0][0] <= now:
            _, one, ticket = heappop(self._alarms)
            if self._places[one].ticket == ticket:
                self._file(one)

    def _next_alarm(self) -> float | None:
        while self._alarms and self._places[self._alarms[0][1]].ticket != self._alarms[0][2]:
            heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None
