"""Unpacks a run that was exported in another clone, so that the next start goes on here as after a crash.

Everything is looked at before anything is changed. The journal takes its place last: whoever is cut off
before has the old state, and does the same again.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks.clone import check_clone, define_drivers
from spec_kitty_orchestrator.app.export import settings_digest
from spec_kitty_orchestrator.app.journals import run_here
from spec_kitty_orchestrator.app.repository import MISSIONS
from spec_kitty_orchestrator.app.runs import known_run
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.describe import clean, command_line, short
from spec_kitty_orchestrator.core.documents import PATHS
from spec_kitty_orchestrator.core.run_events import Entry, HandedOver, Imported, Line
from spec_kitty_orchestrator.errors import JournalError, UsageError, WorkspaceError
from spec_kitty_orchestrator.machine import pack, transfer
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.files import (
    make_hidden_folder,
    make_private_folder,
    open_file,
    read_record,
    replacing,
    write_record,
)
from spec_kitty_orchestrator.machine.git import BRANCHES
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import JOURNALS, LOGS, make_logs_root, mission_logs
from spec_kitty_orchestrator.machine.repository import Repository
from spec_kitty_orchestrator.machine.rescue import ref_name

__all__ = ["import_run", "take_back"]

MADE = "import.json"
"""In a mission's folder while an import goes on: the worktrees that it makes, and nobody has worked in."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Arrival:
    """A pack, unpacked into a folder, on its way into a clone."""

    root: Path
    folder: Path
    manifest: pack.Manifest
    repository: Repository
    lines: Sequence[Line]

    @property
    def directory(self) -> Path:
        """Of our own records of the mission."""
        return self.root / JOURNALS / self.manifest.mission


async def take_back(root: Path, mission: str | None, say: Say) -> None:
    """Let a run that was handed over go on here after all, as nobody has taken the pack up.

    Raises `UsageError` if it was not handed over.
    """
    run = await known_run(root, run_here(root, mission))
    with MissionLock(run.directory, run.mission):
        run = await known_run(root, run.mission)
        if run.handed_over is None:
            raise UsageError(f"{run.mission} was not handed over: there is nothing to take back")
        event = Imported(run.handed_over.pack)
        await JsonlJournal(run.directory, root).append(Entry(SystemClock().now(), "", event))
    say(f"{run.mission}: goes on here; do not import the pack {event.pack} any more")
    say(f"To go on: {command_line('resume', '--mission', run.mission)}")


async def import_run(root: Path, file: Path, say: Say) -> None:
    """Unpack a run; doing it again is harmless. `say` gets lines for people.

    Raises:
        RunActive: a run of the mission is active here.
        UsageError: the file is no pack, or the run cannot go on in this clone.
        OrchestratorError: it did not succeed; what was there is as it was, and it can be done again.
    """
    mission = (await to_thread.run_sync(pack.read_manifest, file)).mission
    directory = root / JOURNALS / mission
    _no_links(root, directory)
    with MissionLock(directory, mission):
        for left in directory.glob(".import-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(await to_thread.run_sync(partial(tempfile.mkdtemp, prefix=".import-", dir=directory)))
        try:
            arrival = await _looked_at(root, file, folder)
            if await _is_here(arrival, say):
                return
            await _take_up(arrival, say)
        except OSError as error:
            raise WorkspaceError(f"{file} cannot be unpacked: {error.strerror or error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _looked_at(root: Path, file: Path, folder: Path) -> _Arrival:
    manifest = await to_thread.run_sync(pack.unpack, file, folder)
    damaged = f"{file} is damaged or was changed"
    if wrong := _strange_path(folder / pack.JOURNAL, manifest.mission):
        raise UsageError(f"{damaged}: its journal names the place {wrong!a}")
    names = transfer.strange_refs(manifest.refs, manifest.mission, manifest.target)
    if names:
        raise UsageError(f"{damaged}: {clean(names[0])} is no ref of the mission {manifest.mission}")
    for one in manifest.checkouts:
        if BRANCHES + one.branch not in manifest.refs or (one.snapshot and one.snapshot not in manifest.refs):
            raise UsageError(f"{damaged}: it lacks what belongs into {one.path or 'the checkout'}")
    try:
        lines = await JsonlJournal(folder, root).read()
    except JournalError as error:
        raise UsageError(f"{file}: {str(error).replace(str(folder), 'its')}") from None
    if not lines or _packed(lines) != manifest.pack:
        raise UsageError(f"{damaged}: its journal does not end with the hand-over")
    return _Arrival(root, folder, manifest, await Repository.open(root), lines)


def _packed(lines: Sequence[Line]) -> str:
    match lines[-1]:
        case Entry(event=HandedOver(pack=pack)):
            return pack
    return ""


_PLACES: Mapping[str, tuple[str, ...]] = {
    "directory": (str(LOGS),),
    "log": (str(LOGS),),
    "path": (".worktrees",),
    "prompt_path": (".worktrees", MISSIONS),
    "aside": (".kittify/set-aside",),
}
"""Where in the repository the paths of a journal lie, by the field."""
assert _PLACES.keys() == PATHS


def _strange_path(journal: Path, mission: str) -> str:
    """Return a path that no journal of the mission has, "" if there is none."""
    with open_file(journal) as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                return ""  # Whoever reads the journal says so.
            if isinstance(record, dict) and record.get("line") == "run":
                told = record.get("mission")
                slug = told.get("slug") if isinstance(told, dict) else ""
                if slug != mission:
                    return f"the mission {slug}"
            for name, path in _paths(record):
                parts = Path(path).parts
                if path and (
                    ".." in parts or not any(Path(path).is_relative_to(one) for one in _PLACES[name])
                ):
                    return path
    return ""


def _paths(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if name in PATHS:
            yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            if key != "settings":
                yield from _paths(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one, name)


def _no_links(root: Path, place: Path) -> None:
    """Write through no link that the repository holds. Raises `UsageError`."""
    for one in (place, *place.parents):
        if one == root:
            return
        if one.is_symlink():
            raise UsageError(f"{one} is a link, through which nothing is unpacked: remove it")


async def _is_here(arrival: _Arrival, say: Say) -> bool:
    """Tell whether the run is here already. Raises `UsageError` if the one that is here went another way."""
    mission, here = arrival.manifest.mission, list[object]()
    try:
        here = [_identity(one) for one in await JsonlJournal(arrival.directory, arrival.root).read()]
    except JournalError as error:
        raise UsageError(f"the journal that is here cannot be compared: {error}") from None
    packed = [_identity(one) for one in arrival.lines]
    if here == packed[: len(here)]:
        return False
    beyond = here[len(packed) :]
    if here[: len(packed)] != packed:
        raise UsageError(
            f"the run of {mission} here is another one than that of the pack: "
            f"move {arrival.directory / pack.JOURNAL} away to go on with the pack's"
        )
    if beyond[1:]:
        raise UsageError(
            f"the run of {mission} has gone on here since this pack: nothing is changed; "
            f"export it where it went on last, or go on here: {command_line('resume', '--mission', mission)}"
        )
    say(f"{mission}: the pack {arrival.manifest.pack} was imported before; nothing is changed")
    return True


def _identity(line: Line) -> object:
    if isinstance(line, Entry):
        return line.seq, line.at, line.wp_id, line.event.kind
    return line.seq, line.at, line.line


async def _take_up(arrival: _Arrival, say: Say) -> None:
    manifest, repository = arrival.manifest, arrival.repository
    await _read_objects(arrival)
    await _of_one_history(arrival)
    made, kept = await _made_before(arrival), await _kept(arrival)
    moves, wrong = await transfer.moves(repository.primary, manifest.refs)
    wrong += [found for one in manifest.checkouts if (found := await _blocked(arrival, one, made, kept))]
    if wrong:
        listed = "\n".join(f"  {one}" for one in wrong)
        raise UsageError(
            f"the run of {manifest.mission} cannot go on in this clone:\n{listed}\n"
            "take a clone without them, or put them aside"
        )
    new = [one for one in manifest.checkouts if one.path and _is_new(arrival, one, made)]
    make_hidden_folder(arrival.directory)
    paths = sorted({*made, *(one.path for one in new)})
    write_record(arrival.directory / MADE, {"pack": manifest.pack, "made": paths})
    for place, snapshot in kept.items():
        if (git := await repository.peek(place)) is not None:
            await transfer.take_away(git, snapshot)
    for one in moves:
        await transfer.move(repository, one)
    for checkout in manifest.checkouts:
        await _check_out(arrival, checkout)
    await to_thread.run_sync(define_drivers, arrival.root)
    await to_thread.run_sync(_logs, arrival)
    await _journal(arrival)
    (arrival.directory / MADE).unlink(missing_ok=True)
    for text in [*_told(arrival), *await to_thread.run_sync(_lacking, arrival)]:
        say(text)
    say(f"To go on: {command_line('resume', '--mission', manifest.mission)}")


async def _read_objects(arrival: _Arrival) -> None:
    git, refs = arrival.repository.primary, arrival.manifest.refs
    tips = sorted(set(refs.values()))
    bundle = arrival.folder / pack.BUNDLE
    if not bundle.exists():
        await transfer.complete(git, tips)
        return
    needed = await to_thread.run_sync(transfer.needed_by, bundle)
    lacking = [one for one in needed if not await git.sha(one)]
    if lacking:
        shallow = (await git.ask("rev-parse", "--is-shallow-repository")).text == "true"
        more = "git fetch --unshallow" if shallow else f"git fetch origin {lacking[0]}"
        raise UsageError(
            f"this clone lacks the commit {short(lacking[0])}, on which the run of "
            f"{arrival.manifest.mission} builds: another repository, or an older clone of it; try: {more}"
        )
    await transfer.read_bundle(git, bundle, tips)


async def _of_one_history(arrival: _Arrival) -> None:
    """Check that the mission belongs to this repository. Raises `UsageError`."""
    git, manifest = arrival.repository.primary, arrival.manifest
    tip = manifest.refs.get(BRANCHES + manifest.target, "") or next(iter(manifest.refs.values()), "")
    if (await git.ask("merge-base", "HEAD", tip)).rc != 0:
        raise UsageError(
            f"{arrival.root} has another history than the run of {manifest.mission}: it is a clone of "
            "another repository"
        )
    meta = await git.ask("cat-file", "blob", f"{tip}:{MISSIONS}/{manifest.mission}/meta.json")
    told = ""
    try:
        told = json.loads(meta.stdout).get("target_branch") if meta.rc == 0 else ""
    except (ValueError, AttributeError, RecursionError):
        told = ""
    if told != manifest.target:
        raise UsageError(
            f"the pack was changed: {manifest.mission} is not for the branch {clean(manifest.target)}"
        )


async def _kept(arrival: _Arrival) -> Mapping[Path, str]:
    """Return the commits that hold what was not committed here when the run left this clone."""
    git, kept = arrival.repository.primary, dict[Path, str]()
    for one in arrival.manifest.checkouts:
        place = arrival.root / one.path
        snapshot = await git.sha(ref_name(arrival.manifest.mission, transfer.SNAPSHOTS, place.name))
        if snapshot and await arrival.repository.peek(place) is not None:
            kept[place] = snapshot
    return kept


async def _blocked(
    arrival: _Arrival, one: pack.Checkout, made: Collection[str], kept: Mapping[Path, str]
) -> str:
    """Say what is not committed here and in the way of a checkout, "" if nothing is."""
    place, refs = arrival.root / one.path, arrival.manifest.refs
    git = None if one.path in made else await arrival.repository.peek(place)
    if git is None:
        return ""
    if await git.branch() != one.branch:
        # The primary checkout may be elsewhere: then only its branch moves.
        return f"{place} is not on the branch {one.branch}" if one.path else ""
    found = await transfer.in_the_way(
        git, refs[BRANCHES + one.branch], refs.get(one.snapshot, ""), kept.get(place, "")
    )
    return f"uncommitted changes in {place} are in the way: {', '.join(found[:3])}" if found else ""


async def _made_before(arrival: _Arrival) -> Sequence[str]:
    """Return the worktrees that an import of this pack made which was cut off: no run has known them."""
    try:
        record = json.loads(read_record(arrival.directory / MADE))
        made = record["made"] if record["pack"] == arrival.manifest.pack else ()
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return [one for one in made if isinstance(one, str)] if isinstance(made, list) else ()


def _is_new(arrival: _Arrival, one: pack.Checkout, made: Sequence[str]) -> bool:
    path = arrival.root / one.path
    _no_links(arrival.root, path)
    if one.path in made or not path.exists():
        return True
    if not os.path.lexists(path / ".git"):
        raise UsageError(f"{path} is in the way of a worktree of the run: move it away")
    return False


async def _check_out(arrival: _Arrival, one: pack.Checkout) -> None:
    """Make a worktree as it was at the hand-over, with what was not committed. Raises `WorkspaceError`."""
    repository, path = arrival.repository, arrival.root / one.path
    if one.path:
        made = one.path in await _made_before(arrival)
        if made and (left := await repository.peek(path)) is not None:
            # Whoever edited something there meanwhile finds it under this ref.
            ref = ref_name(arrival.manifest.mission, "cut-off", path.name)
            await transfer.keep(left, CommitRules(), ref)
            await repository.primary.run("worktree", "remove", "--force", str(path))
        await transfer.check_out(repository, arrival.root, one)
    git = await repository.peek(path)
    if one.snapshot and git is not None and await git.branch() == one.branch:
        await transfer.put_there(git, arrival.manifest.refs[one.snapshot])


def _logs(arrival: _Arrival) -> None:
    home = mission_logs(arrival.root, arrival.manifest.mission)
    make_logs_root(arrival.root)
    for name in arrival.manifest.members:
        if name.startswith(pack.LOGS):
            place = home / name.removeprefix(pack.LOGS)
            _no_links(arrival.root, place)
            make_private_folder(place.parent)
            _copy(arrival.folder / name, place)


def _copy(source: Path, place: Path) -> None:
    with open_file(source) as file, replacing(place) as out:
        shutil.copyfileobj(file, out)


async def _journal(arrival: _Arrival) -> None:
    """Put the journal in place, with the line that the run goes on here."""
    event = Imported(arrival.manifest.pack, arrival.manifest.machine)
    await JsonlJournal(arrival.folder, arrival.root).append(Entry(SystemClock().now(), "", event))
    names = [one for one in arrival.manifest.members if one.startswith("journal-")]
    for name in (*names, pack.JOURNAL):
        await to_thread.run_sync(_copy, arrival.folder / name, arrival.directory / name)


def _told(arrival: _Arrival) -> Iterator[str]:
    manifest = arrival.manifest
    mission, at = manifest.mission, f"{manifest.made_at:%Y-%m-%d %H:%M} UTC"
    yield f"{mission}: imported the pack {manifest.pack}, made {at} on {clean(manifest.machine)}"
    yield f"its branches are where they were there, {clean(manifest.target)} included"
    for one in manifest.left_out:
        yield f"not in the pack: {clean(one)}"
    if manifest.settings != settings_digest(arrival.root):
        yield f"warning: {CONFIG_FILE} is another one here than where the run comes from"


def _lacking(arrival: _Arrival) -> Sequence[str]:
    """Say what a run would refuse to begin without."""
    found = check_clone(arrival.root, arrival.manifest.mission)
    return [f"warning: {one.text}; before you go on: {one.fix}" for one in found]
