"""Bringing into a workspace what came back from a machine.

It was made by an agent elsewhere, so nothing of it is believed: git looks into its objects, it must build on
what was sent, no path leads out of the workspace, and it is written without hooks and filters. It is applied
only where the workspace is as it was sent, and else stays under a ref.

Each step can be repeated. Before the first file is written a ref says so; then come the files, the branch,
which moves only forward, the index, and last the refs go.
"""

import os
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster.shipment import Applied, Shipment, Snapshot
from spec_kitty_orchestrator.cluster.snapshots import Content, differing, is_sha
from spec_kitty_orchestrator.core.describe import clean, short
from spec_kitty_orchestrator.errors import UsageError, WorkRefused, WorkspaceError
from spec_kitty_orchestrator.machine.commit_rules import MOST_STORED_BYTES, kept_by_host
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git
from spec_kitty_orchestrator.machine.raw_files import blobs
from spec_kitty_orchestrator.machine.staging import nul
from spec_kitty_orchestrator.machine.transfer import complete, read_bundle

__all__ = ["MOST_BUNDLE_BYTES", "Arrival", "apply", "take_up"]

MOST_BUNDLE_BYTES = 2 * 1024**3
"""Of what comes back; more is not taken up."""

MOST_WRITTEN_BYTES = 8 * 1024**3
"""Of all files that change."""

_NOTHING = "000000"
_LINK = "120000"
_REPOSITORY = "160000"

Changes = Mapping[str, tuple[str, str]]
"""By path "mode name" of then and of now."""


@dataclass(frozen=True)
class Arrival:
    """Work that came back.

    Attributes:
        primary: git in the primary checkout.
        git: git in the workspace, in which no filter runs.
        shipment: what was sent.
        back: what is there now, which was taken up.
        refs: the start of the names of the refs about it.
        look: reads what is in the workspace, and of what would not be sent these paths.
    """

    primary: Git
    git: Git
    shipment: Shipment
    back: Snapshot
    refs: str
    look: Callable[[Collection[str]], Awaitable[Content]]

    @property
    def kept(self) -> str:
        """The ref under which the work is until it is in the workspace."""
        return f"{self.refs}/back"

    @property
    def begun(self) -> str:
        """The ref that is there while files are written."""
        return f"{self.refs}/applying"


async def take_up(primary: Git, back: Snapshot, file: Path | None) -> None:
    """Take up the objects that came back.

    Raises:
        WorkRefused: they are damaged, not all here, or none that git would make.
        WorkspaceError: git or the disk is broken here.
    """
    if not (is_sha(back.head) and is_sha(back.commit)):
        raise WorkRefused("what came back from the machine names no commits")
    try:
        size = 0 if file is None else (await to_thread.run_sync(file.stat)).st_size
        if size > MOST_BUNDLE_BYTES:
            raise WorkRefused(f"what came back is larger than {MOST_BUNDLE_BYTES // 1024**3} GiB")
        if file is None:
            await complete(primary, {back.commit, back.head})
        else:
            await read_bundle(primary, file, {back.commit, back.head})
    except UsageError as error:
        broken = "No space left" in str(error)
        kind = WorkspaceError if broken else WorkRefused
        raise kind(f"what came back from the machine is not taken up: {error}") from error
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be read: {error.strerror or error}") from error
    if await primary.shas(back.head, back.commit) != (back.head, back.commit):
        raise WorkRefused("what came back from the machine names no commits")


async def apply(arrival: Arrival) -> Applied:
    """Bring work whose objects are here into the workspace, if it fits.

    Raises:
        WorkspaceError: git or the disk is broken; it can be repeated.
    """
    try:
        found = await _apply(arrival)
    except OSError as error:
        raise WorkspaceError(
            f"work cannot be brought into {arrival.git.path}: {error.strerror or error} ({error.filename}); "
            f"it is kept as {arrival.kept}"
        ) from error
    return replace(found, why=clean(found.why))


async def _apply(arrival: Arrival) -> Applied:
    primary, sent, back = arrival.primary, arrival.shipment.sent, arrival.back
    await primary.run("update-ref", arrival.kept, back.commit)
    begun = await primary.sha(arrival.begun) == back.commit
    changed = await differing(primary, sent.commit, back.commit)
    uncommitted = await differing(primary, back.head, back.commit) if back.head != back.commit else {}
    why = await _strange(arrival, changed, uncommitted)
    if why or changed is None or uncommitted is None:
        return Applied(arrival.kept, why)
    content = await arrival.look(changed)
    now = content.snapshot
    here = await differing(primary, sent.commit, now.commit)
    if here is None:
        return Applied(arrival.kept, "the workspace holds more paths than can be compared")
    why = _moved(arrival, now, content.branch) or _edited(here, changed, begun=begun)
    if not why and not begun:
        why = await to_thread.run_sync(_in_the_way, arrival.git.path, changed, here)
    if why:
        return Applied(arrival.kept, why)
    lacking = {
        path: new for path, (old, new) in changed.items() if begun or here.get(path, ("", old))[1] != new
    }
    found = ""
    if any(here[path][1] not in changed[path] for path in here.keys() & changed.keys()):
        # A file that was half written; or a person's, who came between.
        found = f"{arrival.refs}/found"
        await primary.run("update-ref", found, now.commit)
    await primary.run("update-ref", arrival.begun, back.commit)
    await _write(arrival, lacking, uncommitted)
    await _move(arrival, now.head)
    refs = "".join(f"delete {one}\n" for one in (arrival.begun, arrival.kept))
    await primary.run("update-ref", "--stdin", stdin=refs.encode())
    return Applied(found=found)


async def _strange(arrival: Arrival, changed: Changes | None, uncommitted: Changes | None) -> str:
    """Say why this is no work of an agent's on what was sent, "" if it is."""
    primary, sent, back = arrival.primary, arrival.shipment.sent, arrival.back
    if changed is None or uncommitted is None:
        return "it holds more paths than a workspace can have"
    if back.commit != back.head:
        line = await primary.run("rev-list", "--parents", "--max-count=1", back.commit)
        if line.text != f"{back.commit} {back.head}":
            return "what is uncommitted does not build on its commits"
    if not await primary.contains(sent.head, back.head):
        return f"its commits do not build on {short(sent.head)}, which was sent"
    for path in changed:
        if any(part.casefold() in ("", ".", "..", ".git") for part in path.split("/")):
            return f"{path!r} is no path in a workspace"
    names = {
        path: new[7:] for path, (_, new) in changed.items() if not new.startswith((_NOTHING, _REPOSITORY))
    }
    sizes = await _sizes(primary, names)
    if sum(sizes.values()) > MOST_WRITTEN_BYTES:
        return "its files are larger than all that is taken"
    for path in uncommitted:
        if sizes.get(path, 0) > MOST_STORED_BYTES:
            return f"{path} is larger than all that is taken"
        if path in changed and changed[path][1].startswith(_REPOSITORY):
            return f"{path} is a repository of its own, or another commit of one, and nobody committed that"
    return ""


async def _sizes(git: Git, names: Mapping[str, str]) -> dict[str, int]:
    if not names:
        return {}
    stdin = "".join(f"{one}\n" for one in names.values()).encode()
    listed = await git.run("cat-file", "--batch-check=%(objectsize)", stdin=stdin)
    found = zip(names, listed.text.split("\n"), strict=True)
    return {path: int(size) if size.isdecimal() else MOST_WRITTEN_BYTES + 1 for path, size in found}


def _moved(arrival: Arrival, now: Snapshot, branch: str) -> str:
    sent = arrival.shipment
    if branch != sent.branch:
        return f"the workspace is on {branch or 'no branch'}, and was on {sent.branch or 'none'}"
    if now.head not in (sent.sent.head, arrival.back.head):
        return f"HEAD of the workspace has moved to {short(now.head)}"
    return ""


def _edited(here: Changes, changed: Changes, *, begun: bool) -> str:
    """Say what was changed in the workspace after it was sent."""
    same = {path for path, (_, now) in here.items() if path in changed and (begun or now == changed[path][1])}
    other = [path for path in here if path not in same and (path in changed or not kept_by_host(path))]
    more = f" and {len(other) - 1} more" if len(other) > 1 else ""
    return f"{other[0]}{more} changed in the workspace meanwhile" if other else ""


def _in_the_way(root: Path, changed: Changes, here: Changes) -> str:
    """Say what git does not know in the workspace, and would be overwritten."""
    gone = {path for path, (_, new) in changed.items() if new.startswith(_NOTHING)}
    for path, (old, new) in changed.items():
        place = root / path
        if _REPOSITORY in (old[:6], new[:6]) and place.is_dir() and any(place.iterdir()):
            return f"{path} is a repository of its own, which only a person can move on"
        if new.startswith(_NOTHING) or path in here:
            continue
        for folder in _folders(root, place):
            above = str(folder.relative_to(root))
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()) and above not in gone:
                return f"{above} is there, and git ignores it"
        if place.is_dir() and not place.is_symlink():
            if any(one not in gone for one in _files(root, place)):
                return f"{path} holds files that git ignores"
        elif old.startswith(_NOTHING) and os.path.lexists(place):
            return f"{path} is there, and git ignores it"
    return ""


def _files(root: Path, folder: Path) -> Iterable[str]:
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            yield str((Path(place) / name).relative_to(root))


async def _write(arrival: Arrival, lacking: Mapping[str, str], uncommitted: Collection[str]) -> None:
    """Make files what they are to be, "mode name" by path; of which some are not committed."""
    git, back = arrival.git, arrival.back
    gone = [path for path, new in lacking.items() if new.startswith(_NOTHING)]
    await to_thread.run_sync(_remove, git.path, sorted(gone, reverse=True))
    there = {path: new for path, new in lacking.items() if not new.startswith(_NOTHING)}
    for path in (path for path, new in there.items() if new.startswith(_REPOSITORY)):
        await to_thread.run_sync(_make_folder, git.path / path)
    files = {path: new for path, new in there.items() if not new.startswith(_REPOSITORY)}
    # Byte for byte, as on the machine; of what is committed git knows the right line ends and encodings.
    raw = {path: new for path, new in files.items() if path in uncommitted}
    async for path, data in blobs(git, {path: new[7:] for path, new in raw.items()}):
        await to_thread.run_sync(_put, git.path, path, raw[path][:6], data)
    committed = [path for path in files if path not in raw]
    if committed:
        await _check_out(git, back.head, committed)


async def _check_out(git: Git, commit: str, paths: Sequence[str]) -> None:
    folder = await to_thread.run_sync(tempfile.TemporaryDirectory)
    try:
        aside = replace(git, index=Path(folder.name) / "index")
        await aside.run("read-tree", commit)
        await aside.run(
            *("checkout-index", "--force", "--quiet", "-z", "--stdin"),
            stdin=nul(paths),
            timeout_s=LONG_TIMEOUT_S,
        )
    finally:
        await to_thread.run_sync(folder.cleanup)


def _remove(root: Path, paths: Iterable[str]) -> None:
    for path in paths:
        place = root / path
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
        with suppress(OSError):  # a folder that is not empty stays
            for parent in _folders(root, place):
                parent.rmdir()


def _folders(root: Path, place: Path) -> list[Path]:
    """Return the folders in which a path lies, the innermost first, without the root."""
    return list(place.parents)[: -len(root.parents) - 1]


def _make_folder(place: Path) -> None:
    if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
        place.unlink()
    place.mkdir(parents=True, exist_ok=True)


def _put(root: Path, path: str, mode: str, data: bytes) -> None:
    place = root / path
    for parent in reversed(_folders(root, place)):
        _make_folder(parent)
    if place.is_dir() and not place.is_symlink():
        for folder, _, _ in os.walk(place, topdown=False):
            Path(folder).rmdir()
    place.unlink(missing_ok=True)
    if mode == _LINK:
        place.symlink_to(os.fsdecode(data))
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags, 0o777 if mode == "100755" else 0o666), "wb") as file:
        file.write(data)


async def _move(arrival: Arrival, head: str) -> None:
    """Move the branch forward, and the index with it."""
    git, back = arrival.git, arrival.back
    if back.head == arrival.shipment.sent.head:
        return
    if head != back.head:
        await git.run("update-ref", "-m", "work that came back from a machine", "HEAD", back.head, head)
    await git.run("read-tree", "--reset", back.head)
    await git.ask("update-index", "-q", "--refresh")
