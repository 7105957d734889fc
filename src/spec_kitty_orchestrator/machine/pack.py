"""A run in one file: a compressed tar of plain files, of which the first, a manifest, names all others.

Whoever reads one believes nothing: a member that is not named, no plain file, longer than it says or another
than its hash says is refused, and no name of the file's becomes a path by itself.
"""

import errno
import gzip
import hashlib
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.decoder import Decoder
from spec_kitty_orchestrator.machine.files import open_file

__all__ = [
    "BUNDLE",
    "FILES",
    "JOURNAL",
    "LOGS",
    "Checkout",
    "Contents",
    "Manifest",
    "read_manifest",
    "unpack",
    "write",
]

KIND = "spec-kitty-orchestrator run"
SCHEMA = 1
"""In each manifest; a reader refuses any other."""

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
BUNDLE = "repository.bundle"
LOGS = "logs/"

FILES = ("prompt.md", "stdout.log", "stderr.log", "stdout.times", "exit", "result.json", "review.md")
"""Of the directory of an attempt or a gate: none says which process it was, or what is started where."""

MOST_BYTES = 8 * 1024**3
MOST_MEMBERS = 100_000
MOST_MANIFEST_BYTES = 32 * 1024**2
MOST_REFS = 5000
"""Each is looked at by git; a run has a few for each work package."""

_CHUNK_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}", re.ASCII)
_MEMBER = re.compile(rf"journal(-[0-9TZ.]+)?\.jsonl|{re.escape(BUNDLE)}|logs/[^/]+/[^/]+/[^/]+", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Member:
    """One file: the SHA-256 of what it holds, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Checkout:
    """A worktree of the mission's, or the primary checkout.

    Attributes:
        path: relative to the primary checkout, "" for that itself.
        branch: that is checked out.
        snapshot: the ref with what was not committed, "" if nothing was.
    """

    path: str
    branch: str
    snapshot: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a pack says of itself.

    Attributes:
        pack: its id.
        mission: the slug.
        version: ours, that made it.
        machine: the name of the one where it was made.
        target: the branch that the mission is for.
        refs: full names, each with its commit.
        checkouts: what was checked out where.
        settings: the SHA-256 of the settings file, "" if there was none.
        members: all other files, by name.
        left_out: what is not in the pack, each with the reason.
    """

    pack: str
    mission: str
    version: str
    made_at: datetime
    machine: str
    target: str
    refs: Mapping[str, str]
    checkouts: tuple[Checkout, ...]
    settings: str
    members: Mapping[str, Member]
    left_out: tuple[str, ...] = ()
    kind: str = KIND
    schema: int = SCHEMA


@dataclass
class Contents:
    """Files on their way into a pack, in a folder of their own."""

    folder: Path
    members: dict[str, Member] = field(default_factory=dict)

    def add(self, name: str, source: Path, copy: Callable[[BinaryIO, BinaryIO], None]) -> None:
        """Take a file up as `copy` makes it of what is there. Raises `OSError`."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with open_file(source) as file, place.open("wb") as out:
            copy(file, out)
        self.seal(name)

    def seal(self, name: str) -> None:
        """Take up a file that is in the folder already. Raises `OSError`."""
        with open_file(self.folder / name) as file:
            digest, size = hashlib.sha256(), 0
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        self.members[name] = Member(digest.hexdigest(), size)


def write(out: BinaryIO, manifest: Manifest, folder: Path) -> None:
    """Write a pack of the files in a folder. Raises `OSError`."""
    text = json.dumps(asdict(manifest), indent=1, default=datetime.isoformat).encode()
    with (
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        about = tarfile.TarInfo(MANIFEST)
        about.size, about.mode = len(text), 0o600
        archive.addfile(about, BytesIO(text))
        for name, member in manifest.members.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = member.size, 0o600
            with open_file(folder / name) as file:
                archive.addfile(about, file)


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    """Open a pack; whatever is wrong with it becomes one `UsageError`."""
    try:
        with open_file(file, links=True) as raw, gzip.GzipFile(fileobj=raw) as packed:
            yield cast("BinaryIO", packed)
    except (tarfile.HeaderError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{file} is no pack of a run, or was cut off: {error}") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {file}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None


def _members(packed: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield name and size of each plain file; the caller reads it whole before it asks for the next."""
    # Not by `tarfile`: it follows headers of any size that another program may have written.
    while (block := packed.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        about = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if about.type != tarfile.REGTYPE:
            raise tarfile.HeaderError(f"{about.name!a} is no plain file")
        yield about.name, about.size
        packed.read(-about.size % tarfile.BLOCKSIZE)
    rest = packed.read(2 * tarfile.RECORDSIZE)
    if not block or rest.strip(b"\0") or packed.read(1):
        # At the very end the hash of all of it is compared.
        raise EOFError("its end is missing")


def read_manifest(file: Path) -> Manifest:
    """Return what a pack says of itself. Raises `UsageError`."""
    with _reading(file) as packed:
        return _manifest(packed, _members(packed), file)


def unpack(file: Path, folder: Path) -> Manifest:
    """Put the files of a pack into a folder, where they have the names of the manifest.

    Raises:
        UsageError: it is no pack, of another version, incomplete, or not what it says.
        OSError: the folder cannot hold them.
    """
    with _reading(file) as packed:
        members = _members(packed)
        manifest = _manifest(packed, members, file)
        left = dict(manifest.members)
        needed, free = sum(one.size for one in left.values()), shutil.disk_usage(folder).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"{file.name} needs {needed} bytes, and {free} are free", str(folder))
        for name, size in members:
            member = left.pop(name, None)
            if member is None or size != member.size:
                raise UsageError(f"{file} is damaged or was changed: {name!a} is not what it says")
            _save(packed, folder / name, member, file)
    if left:
        raise UsageError(f"{file} is incomplete: {next(iter(left))} is missing; copy it again")
    return manifest


def _save(packed: BinaryIO, place: Path, member: Member, file: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), member.size
    with place.open("xb") as out:
        while left and (chunk := packed.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != member.sha256:
        raise UsageError(f"{file} is damaged or was changed: the hash of {place.name} differs")


def _manifest(packed: BinaryIO, members: Iterator[tuple[str, int]], file: Path) -> Manifest:
    name, size = next(members, ("", 0))
    if name != MANIFEST or not 0 <= size <= MOST_MANIFEST_BYTES:
        raise UsageError(f"{file} is no pack of a run: it does not begin with {MANIFEST}")
    try:
        record = json.loads(packed.read(size))
        kind, schema = record["kind"], record["schema"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise UsageError(f"{file} is no pack of a run: {MANIFEST} cannot be read") from None
    if kind == KIND and schema != SCHEMA:
        raise UsageError(
            f"{file} has the schema {schema}, but this version reads {SCHEMA}: "
            "import it with the version of spec-kitty-orchestrator that exported it"
        )
    try:
        manifest = Decoder().record(Manifest, record)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is damaged: {MANIFEST}: {error}") from None
    if wrong := _strange(manifest):
        raise UsageError(f"{file} is damaged or was changed: {wrong}")
    return manifest


def _strange(manifest: Manifest) -> str:
    """Say what no export of ours writes, "" if there is nothing of that."""
    if manifest.kind != KIND or not _ID.fullmatch(manifest.pack):
        return "its kind or its id"
    if not is_name(manifest.mission):
        return f"the mission {manifest.mission!a}"
    if JOURNAL not in manifest.members:
        return "it holds no journal"
    sizes = [one.size for one in manifest.members.values()]
    many = len(sizes) > MOST_MEMBERS or max(len(manifest.refs), len(manifest.checkouts)) > MOST_REFS
    if many or min(sizes) < 0 or sum(sizes) > MOST_BYTES:
        return "it is larger than any run"
    for name in manifest.members:
        parts = name.split("/")
        if not (_MEMBER.fullmatch(name) and all(map(is_name, parts))) or (
            parts[0] == "logs" and parts[-1] not in FILES
        ):
            return f"the file {name!a}"
    for one in manifest.checkouts:
        parts = one.path.split("/")
        if one.path and not (len(parts) == 2 and parts[0] == ".worktrees" and is_name(parts[1])):
            return f"the worktree {one.path!a}"
    return ""


def is_name(text: str) -> bool:
    """Tell whether a text can be one part of a path, and nothing else."""
    return _NAME.fullmatch(text) is not None
