"""Packs a run that is not active, so that it goes on in another clone; here nothing of it begins any more.

What was begun here is settled first, by the rules of a start: another machine could not tell how it ended.
The journal says that the run is handed over before the file has its name: no run goes on in two places.
"""

import hashlib
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION, journal
from spec_kitty_orchestrator.app.operator import operations
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import MISSIONS, mission_files
from spec_kitty_orchestrator.app.runs import orphans, pids
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.advice import take_back
from spec_kitty_orchestrator.core.describe import command_line
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.core.run import RunState, fold
from spec_kitty_orchestrator.core.run_events import Entry, HandedOver
from spec_kitty_orchestrator.errors import RunActive, UsageError, WorkspaceError
from spec_kitty_orchestrator.machine import pack, process, tips, transfer
from spec_kitty_orchestrator.machine.commit_rules import SECRET, SECRET_VALUE
from spec_kitty_orchestrator.machine.files import PART, read_whole, replacing
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock, archives
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import mission_logs
from spec_kitty_orchestrator.machine.orphans import elsewhere
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.repository import Repository
from spec_kitty_orchestrator.machine.rescue import REFS, ref_name

__all__ = ["export_run", "settings_digest"]

MOST_LOG_BYTES = 64 * 1024**2
"""Of one file; a longer log says nothing that its result does not."""

_CHUNK_BYTES = 256 * 1024


async def export_run(
    project: Project, mission: str, file: Path, say: Callable[[str], None], *, whole: bool = False
) -> None:
    """Pack the run of a mission into a file, which must not be in use; `say` gets lines for people.

    With `whole`, the file also holds the history that remotes are known to have.

    Raises:
        RunActive: it is active, or agents of it still work.
        UsageError: there is no such run, or the file cannot be made there.
        OrchestratorError: it did not succeed, and the run is as it was.
    """
    if not await to_thread.run_sync(lambda: file.parent.is_dir() and not file.is_dir()):
        raise UsageError(f"{file} cannot be written: name a file in a folder that is there")
    directory = project.directory(mission)
    if owner := MissionLock(directory, mission).holder():
        raise RunActive(
            f"the run of {mission} is active (process {owner.pid} on {owner.host}): "
            "an active run cannot be exported; wait for its end, or stop it first"
        )
    await to_thread.run_sync(_refuse_at_work, project.root, mission)
    await _settle(project, mission, say)
    with MissionLock(directory, mission):
        await to_thread.run_sync(_refuse_at_work, project.root, mission)
        lines = await journal(project, mission).read()
        state = fold(lines, project.policy)
        folder = Path(await to_thread.run_sync(partial(tempfile.mkdtemp, prefix=".export-", dir=directory)))
        try:
            id_ = secrets.token_hex(8)
            event = Entry(SystemClock().now(), "", HandedOver(id_, file.name))
            manifest = await _gather(project, mission, state, event, folder, whole=whole)
            size = await _put(project, mission, file, manifest, folder, event)
        except OSError as error:
            raise WorkspaceError(f"the run cannot be packed: {error.strerror or error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for one in manifest.left_out:
        say(f"not in the pack: {one}")
    say(f"{mission}: handed over as {file} ({size / 1e3:,.0f} kB), pack {id_}")
    say(f"To go on in another clone: {command_line('import', file.name)}, then")
    say(f"  {command_line('resume', '--mission', mission)}")
    say(f"To go on here after all: {take_back(mission)}")


def _refuse_at_work(root: Path, mission: str) -> None:
    if alive := orphans(root, mission):
        raise RunActive(
            f"agents of {mission} still work here (processes {pids(alive)}), and would work on beside the "
            f"other clone: `{command_line('resume', '--mission', mission)}` goes on with them, "
            f"`{command_line('abort', '--mission', mission)}` stops them; then export"
        )
    if places := elsewhere(mission_logs(root, mission)):
        raise RunActive(process.out_of_reach(f"an agent of {mission}", places[0]))


async def _settle(project: Project, mission: str, say: Callable[[str], None]) -> None:
    """Record how attempts ended whose end nobody has seen: what they said is paid for."""
    known = fold(await journal(project, mission).read(), project.policy)
    if not any(wp.open_attempt for wp in known.wps.values()):
        return
    say(f"{mission}: looking how the attempts ended that nobody has waited for")
    async with operations(project, mission) as decisions:
        for wp in filter(lambda one: one.open_attempt, decisions.known.wps.values()):
            with suppress(UsageError):  # the host has finished it without us
                await (await decisions.of(wp.id)).settle()


async def _gather(
    project: Project, mission: str, state: RunState, event: Entry, folder: Path, *, whole: bool
) -> pack.Manifest:
    """Put everything that goes with the run into a folder, and say what that is."""
    root, files = project.root, mission_files(project.root, mission)
    repository = await Repository.open(root)
    contents, redactor = pack.Contents(folder), project.redactor
    await _journals(project, mission, event, contents)
    left = await to_thread.run_sync(_logs, root, state, contents, redactor)
    target = files.target_branch
    known = await tips.branches(repository.primary, mission.rpartition("-")[2])
    branches = {one for one in known if transfer.is_of_mission(one, mission)} | {*filter(None, [target])}
    places = await transfer.checkouts(repository.primary, branches)
    checkouts = []
    for branch, path in places.items():
        one = pack.Checkout(str(path.relative_to(root)) if path != root else "", branch)
        host = files.status_checkout == path
        if path != root or host:
            ref = ref_name(mission, transfer.SNAPSHOTS, path.name)
            only = f"{MISSIONS}/{mission}" if host else ""
            git = await repository.peek(path)
            kept, missing = await transfer.keep(git or repository.primary, project.commit_rules, ref, only)
            one = replace(one, snapshot=ref if kept else "")
            left += [f"{one.path}/{name}" for name in missing]
        checkouts.append(one)
    refs = await transfer.mission_refs(repository.primary, mission, branches)
    refs, hidden = await _without_secrets(project, repository, refs)
    bundle = folder / pack.BUNDLE
    held = () if whole else await transfer.on_remotes(repository.primary)
    if await transfer.write_bundle(repository.primary, refs, bundle, held):
        await to_thread.run_sync(contents.seal, pack.BUNDLE)
    assert isinstance(event.event, HandedOver)
    return pack.Manifest(
        pack=event.event.pack,
        mission=mission,
        version=VERSION,
        made_at=datetime.now(UTC),
        machine=platform.node(),
        target=target,
        refs=refs,
        checkouts=tuple(checkouts),
        settings=settings_digest(root),
        members=contents.members,
        left_out=tuple(map(redactor.text, (*left, *hidden))),
    )


def settings_digest(root: Path) -> str:
    """Return the SHA-256 of the settings file, "" if there is none."""
    with suppress(OSError):
        return hashlib.sha256(read_whole(root / CONFIG_FILE, links=True)).hexdigest()
    return ""


async def _journals(project: Project, mission: str, event: Entry, contents: pack.Contents) -> None:
    """Take up the journal, with the line that it gets here too, and those that were put aside."""
    directory = project.directory(mission)
    copy = partial(_redacted_lines, project.redactor)

    def take() -> None:
        for file in archives(directory):
            contents.add(file.name, file, copy)
        contents.add(pack.JOURNAL, directory / pack.JOURNAL, copy)

    await to_thread.run_sync(take)
    copied = JsonlJournal(contents.folder, project.root)
    await copied.append(event)
    await copied.read()  # what was redacted must still be a journal
    await to_thread.run_sync(contents.seal, pack.JOURNAL)


def _redacted_lines(redactor: Redactor, source: BinaryIO, out: BinaryIO) -> None:
    for line in source:
        text = line.decode("utf-8", "replace")
        out.write(redactor.text(text).encode())


def _redacted(redactor: Redactor, source: BinaryIO, out: BinaryIO) -> None:
    stream = redactor.stream()
    while chunk := source.read(_CHUNK_BYTES):
        out.write(stream.feed(chunk))
    out.write(stream.finish())


def _logs(root: Path, state: RunState, contents: pack.Contents, redactor: Redactor) -> list[str]:
    """Take up what says why a run stands where it does; return what is too long for that."""
    left = []
    for directory in dict.fromkeys(_evidence(state)):
        for name in pack.FILES:
            path, place = directory / name, f"{pack.LOGS}{directory.parent.name}/{directory.name}/{name}"
            try:
                size = path.lstat().st_size
            except OSError:
                continue
            if size > MOST_LOG_BYTES:
                left.append(f"{path.relative_to(root)}: it has {size / 1e6:.0f} MB")
                continue
            with suppress(OSError):
                contents.add(place, path, partial(_redacted, redactor))
    return left


def _evidence(state: RunState) -> Iterator[Path]:
    """Name the directories of reviews, of what is not settled, and of the last attempt of each."""
    for wp in state.wps.values():
        last = wp.attempts[-1:]
        yield from (Path(one.directory) for one in wp.attempts if one.role is Role.REVIEW or one in last)
        yield from (Path(one.log) for one in wp.work.gates_begun)


async def _without_secrets(
    project: Project, repository: Repository, refs: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Leave out copies of uncommitted work that hold what may be a secret: they are kept for their owner."""
    git, rules = repository.primary, project.commit_rules
    kept, left = {}, []
    for ref, sha in refs.items():
        found = ""
        if ref.startswith(f"{REFS}/") and f"/{transfer.SNAPSHOTS}/" not in ref:
            words = (
                "diff-tree",
                "-r",
                "-z",
                "--name-only",
                "--no-renames",
                "--diff-filter=d",
                f"{sha}^1",
                sha,
            )
            for path in (await git.run(*words)).paths:
                data = (await git.run("cat-file", "blob", f"{sha}:{path}")).stdout
                reason = rules.by_content(path, data, rules.by_name(path))
                found = found or (f"{path} {reason}" if reason in (SECRET, SECRET_VALUE) else "")
        if found:
            left.append(f"{ref}: {found}")
        else:
            kept[ref] = sha
    return kept, left


async def _put(
    project: Project, mission: str, file: Path, manifest: pack.Manifest, folder: Path, event: Entry
) -> int:
    """Write the pack, journal that it is there, and give it its name; return its size in bytes."""
    for left in file.parent.glob(f".{file.name}.*{PART}"):
        left.unlink(missing_ok=True)
    try:
        with replacing(file) as out:
            await to_thread.run_sync(pack.write, out, manifest, folder)
            size = await to_thread.run_sync(_on_disk, out)
            await journal(project, mission).append(event)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None
    return size


def _on_disk(out: BinaryIO) -> int:
    """Make sure that a full disk refuses now, and return how long the file is."""
    out.flush()
    os.fsync(out.fileno())
    return out.tell()
