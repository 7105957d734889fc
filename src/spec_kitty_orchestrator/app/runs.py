"""The runs in this repository's journals: which are unfinished, and how they ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from spec_kitty_orchestrator.app.journals import journaled, run_here
from spec_kitty_orchestrator.core.advice import take_back
from spec_kitty_orchestrator.core.model import Usage, total
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.report import told_end, when
from spec_kitty_orchestrator.core.run import RunState, fold
from spec_kitty_orchestrator.core.run_events import (
    Entry,
    HandedOver,
    Imported,
    Line,
    RunAborted,
    RunEnded,
    RunStarted,
    SettingsChanged,
    SpentBefore,
)
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import InvalidTransition, JournalError, RunActive, UsageError
from spec_kitty_orchestrator.machine import orders, process
from spec_kitty_orchestrator.machine.journal import JsonlJournal, archives
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import JOURNALS, mission_logs
from spec_kitty_orchestrator.machine.orphans import Orphan, elsewhere, find_orphans, lock_keepers

__all__ = [
    "KnownRun",
    "active_run",
    "archive_journal",
    "begun_here",
    "claims",
    "describe_end",
    "describe_run",
    "find_unfinished",
    "known_run",
    "known_runs",
    "last_start",
    "left_alone",
    "named_run",
    "only",
    "orphans",
    "pids",
    "put_aside",
    "refuse_handed_over",
    "spent_before",
]


@dataclass(frozen=True)
class KnownRun:
    """What a mission's journal says about its last start.

    Attributes:
        directory: of our own records of the mission.
        started: the last start, None if the journal holds none.
        end: what closed it; None if it was cut off or goes on.
        owner: the process that runs it now, None if none does.
        damage: why the journal cannot be read, None if it can.
        handed_over: the line that says so if it goes on elsewhere, None if here.
    """

    directory: Path
    started: RunStarted | None
    end: RunEnded | RunAborted | None
    owner: Owner | None
    damage: JournalError | None = None
    handed_over: HandedOver | None = None

    @classmethod
    def told_by(cls, directory: Path, lines: Sequence[Line], damage: JournalError | None = None) -> Self:
        """Build it from the lines of a journal in its directory."""
        owner = MissionLock(directory, directory.name).holder()
        return cls(directory, *last_start(lines), owner, damage, _handed_over(lines))

    @property
    def mission(self) -> str:
        """The slug."""
        return self.directory.name

    @property
    def aborted(self) -> bool:
        """Whether it was aborted."""
        return isinstance(self.end, RunAborted)

    @property
    def unfinished(self) -> bool:
        """Whether something may be left to do: it was begun and did not end with everything done."""
        complete = isinstance(self.end, RunEnded) and self.end.exit_code == 0
        return self.damage is not None or (self.started is not None and not complete)


async def known_run(root: Path, mission: str) -> KnownRun:
    """Read what the journal of one mission says about its last start."""
    directory = root / JOURNALS / mission
    try:
        return KnownRun.told_by(directory, await JsonlJournal(directory, root).read())
    except JournalError as damage:
        return KnownRun.told_by(directory, (), damage)


async def known_runs(root: Path) -> list[KnownRun]:
    """Read every journal, the most recent first."""
    return [await known_run(root, mission) for mission in journaled(root)]


def active_run(root: Path) -> str | None:
    """Return the slug of the most recent mission whose run is active here, None if none is."""
    known = ((one, root / JOURNALS / one) for one in journaled(root))
    return next((one for one, directory in known if MissionLock(directory, one).holder()), None)


def last_start(lines: Sequence[Line]) -> tuple[RunStarted | None, RunEnded | RunAborted | None]:
    """Return the last start of a journal, with its settings as they became, and what closed it."""
    started = end = None
    for line in lines:
        if isinstance(line, RunStarted):
            started, end = line, None
        elif isinstance(line, Entry) and isinstance(line.event, SettingsChanged) and started is not None:
            started = replace(started, settings=line.event.settings, policy=line.event.policy)
        elif isinstance(line, RunEnded | RunAborted):
            end = line
    return started, end


def _handed_over(lines: Sequence[Line]) -> HandedOver | None:
    events = (one.event for one in reversed(lines) if isinstance(one, Entry))
    last = next((one for one in events if isinstance(one, HandedOver | Imported)), None)
    return last if isinstance(last, HandedOver) else None


def refuse_handed_over(run: KnownRun) -> None:
    """Raise `RunActive` if a run goes on elsewhere."""
    if (gone := run.handed_over) is not None:
        raise RunActive(
            f"{run.mission} was handed over as the pack {gone.pack} ({gone.file}): it goes on where that was "
            "imported; to go on here, import what was exported there last, or, if nobody has imported it, "
            f"take it back: {take_back(run.mission)}"
        )


def claims(lines: Sequence[Line]) -> tuple[RunState, Mapping[str, Sequence[WorkPackage]]]:
    """Return the state of a journal's run, and the work packages in each worktree that a run claimed."""
    started, _ = last_start(lines)
    state = fold(lines, started.policy if started else Policy((), ()))
    places: dict[str, list[WorkPackage]] = {}
    for wp in state.wps.values():
        if wp.workspace is not None and wp.work.base:
            places.setdefault(wp.workspace.path, []).append(wp)
    return state, places


async def begun_here(root: Path, mission: str) -> set[str]:
    """Return the work packages whose worktrees earlier runs claimed; none if the journal is damaged."""
    try:
        _, claimed = claims(await JsonlJournal(root / JOURNALS / mission, root).read())
    except JournalError:
        return set()
    return {wp.id for wps in claimed.values() for wp in wps}


async def named_run(root: Path, mission: str | None) -> KnownRun:
    """Return the run of a mission, found as in `run_here`, which also says what this raises."""
    return await known_run(root, run_here(root, mission))


async def find_unfinished(root: Path, mission: str | None) -> KnownRun:
    """Find the run to resume: the one that was named, or the only unfinished one.

    Raises:
        UsageError: there is none, or several.
        RunActive: it is active, or goes on elsewhere.
        JournalError: its journal is damaged.
    """
    run = _only_unfinished(await known_runs(root)) if mission is None else await named_run(root, mission)
    if run.damage is not None:
        raise run.damage
    refuse_handed_over(run)
    return run


def _only_unfinished(known: Sequence[KnownRun]) -> KnownRun:
    runs = [one for one in known if one.unfinished]
    if found := only([one for one in runs if not (one.owner or one.aborted)], "choose the run to resume"):
        return found
    if active := [one for one in runs if one.owner]:
        raise RunActive(f"nothing to resume: {active[0].mission} {describe_run(active[0])}")
    aborted = ", ".join(one.mission for one in runs if one.aborted)
    hint = f"aborted, resumed only by name: --mission {aborted}" if aborted else "`orchestrate` starts one"
    raise UsageError(f"there is no unfinished run here; {hint}")


def only(runs: Sequence[KnownRun], choose: str) -> KnownRun | None:
    """Return the only one of some runs, None of none. Raises `UsageError` if there are several."""
    if len(runs) > 1:
        listing = "\n".join(f"  {one.mission}  {describe_run(one)}" for one in runs)
        raise UsageError(f"{choose} with --mission:\n{listing}")
    return runs[0] if runs else None


def describe_run(run: KnownRun) -> str:
    """Describe the state of a run."""
    if run.damage is not None:
        return f"journal damaged: {run.damage}"
    begun = f"began {when(run.started.at)}" if run.started else "never began"
    active = f"active: process {run.owner.pid} on {run.owner.host}" if run.owner else ""
    return f"{begun}, {active or describe_end(run)}"


def describe_end(run: KnownRun) -> str:
    """Describe how a run that is not active ended."""
    end = run.end
    if isinstance(end, RunEnded):
        return told_end(end.at, end.exit_code, end.summary)
    return told_end(end.at if end is not None else None, None, "")


def orphans(root: Path, mission: str) -> list[Orphan]:
    """Find the running processes of a mission's attempts, whoever started them."""
    return find_orphans(mission_logs(root, mission))


def pids(found: Iterable[Orphan]) -> str:
    """List the numbers of processes for people."""
    return ", ".join(str(one.child.pid) for one in found)


def left_alone(root: Path, mission: str) -> str:
    """Say which processes hold locks of a mission's attempts but are known to be nobody's, "" if none do."""
    found = ", ".join(map(str, lock_keepers(mission_logs(root, mission))))
    return (
        f"left alone, as they may be anybody's: processes {found}, which hold locks of agents"
        if found
        else ""
    )


def archive_journal(root: Path, mission: str) -> Path | None:
    """Rename a mission's journal, if there is one, so that a run starts over; the caller holds the lock.

    Raises `RunActive` while an agent of the old run works.
    """
    if alive := orphans(root, mission):
        raise RunActive(
            f"agents of the old run of {mission} are still running (processes {pids(alive)}): "
            f"continue without --fresh, or stop them with `spec-kitty-orchestrator abort --mission {mission}`"
        )
    if places := elsewhere(mission_logs(root, mission)):
        raise RunActive(process.out_of_reach(f"an agent of the old run of {mission}", places[0]))
    orders.forget_taken(root / JOURNALS / mission)
    return put_aside(root / JOURNALS / mission / "journal.jsonl")


def put_aside(journal: Path) -> Path | None:
    """Rename a journal, if it is there, so that it still tells what its runs cost."""
    archived = journal.with_name(f"journal-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl")
    return journal.rename(archived) if journal.exists() else None


async def spent_before(root: Path, mission: str) -> tuple[SpentBefore, list[Path]]:
    """Return what the runs used whose journals were put aside, and the journals that do not tell it."""
    used: list[Usage] = []
    cost_of: dict[str, float] = {}
    silent: list[Path] = []
    for file in archives(root / JOURNALS / mission):
        try:
            state = fold(await JsonlJournal(file.parent, root, name=file.name).read(), Policy((), ()))
        except (JournalError, InvalidTransition):
            silent.append(file)
        else:
            # What it was told of runs before it is in their own journals.
            used.append(replace(state, spent_before=Usage()).spent)
            for wp in state.wps.values():
                cost_of[wp.id] = cost_of.get(wp.id, 0.0) + wp.cost_usd - wp.cost_before_usd
    return SpentBefore(total(used), {wp: cost for wp, cost in cost_of.items() if cost}), silent
