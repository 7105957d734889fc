"""Work packages that a run would leave as they are: others hold them, or their work or their file is gone.

The host tells a holder only when it refuses. Until then its event log does, which is read for advice alone:
what a run does is decided by the host's answers.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, line, warning
from spec_kitty_orchestrator.app.checks.task_files import restoring_file, without_file
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import MISSIONS, has_branch, mission_files, on_a_remote
from spec_kitty_orchestrator.app.runs import begun_here
from spec_kitty_orchestrator.core.describe import clean, command_line
from spec_kitty_orchestrator.core.model import Lane, MissionState, Workspace
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.logs import JOURNALS

__all__ = ["Stuck", "cancel_for_a_reason", "check_lanes", "stuck"]

NOBODY = ("implement-command", "unknown")
"""Holders from whom the host lets anybody take a claim over."""

_LONGEST_NAME = 100
_IN_WORK = (Lane.CLAIMED, Lane.IN_PROGRESS)
_ASKED = frozenset({*_IN_WORK, Lane.IN_REVIEW})
_OPEN = frozenset(lane for lane in Lane if not lane.complete and lane is not Lane.CANCELED)


@dataclass(frozen=True)
class Stuck:
    """A work package that a run does not take up as it is: `fix` is a command after which it does."""

    fate: str
    fix: str


def stuck(
    root: Path, state: MissionState, actor: str, begun: Collection[str], places: Mapping[str, Workspace]
) -> Mapping[str, Stuck]:
    """Return the work packages that others hold, and those whose work, or whose file, is gone.

    Args:
        root: the primary checkout.
        state: the lanes.
        actor: the run's.
        begun: those that earlier starts have taken up.
        places: where work packages are worked on, as far as is known.

    Raises:
        WorkspaceError: git cannot be asked.
    """
    by = _last_actors(root, state) if _ASKED.intersection(state.lanes.values()) else {}
    working = {by.get(wp, "") for wp, lane in state.lanes.items() if lane in _IN_WORK}
    found = {}
    for wp, lane in state.lanes.items():
        holder = by.get(wp, "")
        shown = clean(holder, _LONGEST_NAME)
        if lane in _OPEN and (restore := restoring_file(root, state.slug, wp)):
            found[wp] = Stuck(f"parked: {without_file(wp)}", restore)
        elif lane in _IN_WORK and holder not in ("", actor, *NOBODY):
            one_holder = working == {holder} and shown == holder
            fix = _as(root, state.slug, holder) if one_holder else give_back(state.slug, wp, actor)
            found[wp] = Stuck(f"left alone: {shown} holds it", fix)
        elif lane is Lane.IN_REVIEW and wp not in begun:
            whose = shown if shown and holder != actor else "somebody"
            fate = f"left alone: {whose} began the review, and no run that is known here"
            found[wp] = Stuck(fate, review_again(state.slug, wp))
        elif (
            lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW) and (place := places.get(wp)) and _is_gone(root, place)
        ):
            fix = _from_remote(root, place.branch or "") or give_back(state.slug, wp, actor)
            found[wp] = Stuck(
                f"parked: its work is gone: there is neither {place.path} nor {place.branch}", fix
            )
    return found


async def check_lanes(project: Project, state: MissionState) -> list[Finding]:
    """Name the work packages that a run would leave to others, before it begins. Raises `WorkspaceError`."""
    lanes, actor = state.lanes, project.settings.run.actor
    begun = await begun_here(project.root, state.slug) if Lane.IN_REVIEW in lanes.values() else set[str]()
    found = await to_thread.run_sync(stuck, project.root, state, actor, begun, dict[str, Workspace]())
    return [
        warning("mission.stuck", f"{wp} is {lanes[wp]}: {one.fate}", one.fix, wp) for wp, one in found.items()
    ]


def _is_gone(root: Path, place: Workspace) -> bool:
    # Without lanes both are made here.
    branch = place.branch or ""
    return branch != "" and not Path(place.path).exists() and not has_branch(root, branch)


def _from_remote(root: Path, branch: str) -> str:
    there = on_a_remote(root, branch)
    return line("git", "-C", root, "branch", branch, there) if there else ""


def give_back(slug: str, wp: str, actor: str) -> str:
    """Return the host's command that makes a work package planned again, whoever holds it."""
    words = ("spec-kitty", "orchestrator-api", "transition", "--mission", slug, "--wp", wp, "--to", "planned")
    return line(*words, "--force", "--note", "to be begun again", "--actor", actor)


def cancel_for_a_reason(slug: str, wp: str) -> str:
    """Return the host's command after which a canceled work package keeps nobody who depends on it."""
    words = ("spec-kitty", "agent", "tasks", "move-task", wp, "--mission", slug, "--to", "canceled")
    return line(*words, "--force", "--note", "nobody needs it any more")


def review_again(slug: str, wp: str) -> str:
    """Return the host's command that puts a work package under review up for review again."""
    words = ("spec-kitty", "agent", "tasks", "move-task", wp, "--mission", slug, "--to", "for_review")
    return line(*words, "--force", "--note", "to be reviewed again")


def _as(root: Path, slug: str, actor: str) -> str:
    known = (root / JOURNALS / slug / "journal.jsonl").exists()
    return command_line("resume" if known else "orchestrate", "--mission", slug, "--actor", actor)


def _last_actors(root: Path, state: MissionState) -> dict[str, str]:
    """Return by work package who moved it to the lane that it has, where the host's event log says so."""
    folder = mission_files(root, state.slug).status_checkout / MISSIONS / state.slug
    text = ""
    with suppress(OSError, ValueError):
        text = read_whole(folder / "status.events.jsonl", links=True).decode()
    moves: dict[str, tuple[str, str, str, str]] = {}
    for written in text.splitlines():
        with suppress(ValueError):
            event = json.loads(written)
            if isinstance(event, dict) and isinstance(event.get("to_lane"), str):
                wp, at, one = (str(event.get(key)) for key in ("wp_id", "at", "event_id"))
                move = (at, one, event["to_lane"], _name(event.get("actor")))
                moves[wp] = max(move, moves.get(wp, move), key=lambda known: known[:2])
    return {wp: by for wp, (_, _, lane, by) in moves.items() if state.lanes.get(wp) == lane}


def _name(actor: object) -> str:
    """Return an actor as the host compares it: a structured one by its tool, or else its role."""
    if isinstance(actor, dict):
        actor = actor.get("tool") or actor.get("role")
    return actor.strip() if isinstance(actor, str) else ""
