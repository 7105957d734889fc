"""The coordinator's side: what a workspace holds is sent to a machine, and what comes back is applied."""

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster import applying
from spec_kitty_orchestrator.cluster.shipment import Applied, Shipment, Snapshot
from spec_kitty_orchestrator.cluster.snapshots import Content, is_sha, take
from spec_kitty_orchestrator.errors import WorkspaceError, WorkspaceMissing
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.commit_rules import OF_HOST, SECRET, SECRET_VALUE, CommitRules
from spec_kitty_orchestrator.machine.committer import is_true
from spec_kitty_orchestrator.machine.configuration import Configuration
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Change, Git, failure, in_a_line
from spec_kitty_orchestrator.machine.hidden import read_excludes
from spec_kitty_orchestrator.machine.repository import Repository, Worktree
from spec_kitty_orchestrator.machine.rescue import ref_name

__all__ = ["Shipping"]

_MISSING = re.compile(rb"unable to read|missing|could not fetch|promisor|bad object|unable to find")
_URL_USER = re.compile(r"(?<=://)[^/@]*@")
_PARTIAL = re.compile(r"extensions\.partialclone|remote\..*\.promisor")
_SHA256_LENGTH = 64
_CHUNK_BYTES = 1024 * 1024


class Shipping:
    """The workspaces of one mission on their way; one call at a time per workspace.

    Args:
        root: the primary checkout.
        mission: its slug.
        rules: say what is not sent: what tools can make again, what is too large, what may hold secrets.
    """

    def __init__(self, root: Path, mission: str, rules: CommitRules | None = None) -> None:
        self._root = root
        self._mission = mission
        self._rules = rules if rules is not None else CommitRules()
        self._opened: Repository | None = None

    async def snapshot(self, workspace: Path) -> Shipment:
        """Read what a worktree holds; nothing in it is changed. Raises `WorkspaceError`."""
        repository, there = await self._there(workspace)
        withheld = list[str]()
        found = await take(there.git, self._rules, self._is_withheld(workspace, withheld))
        return Shipment(
            self._project(repository, there.configured, found.snapshot.head),
            _named(workspace),
            found.snapshot,
            found.branch,
            tuple(there.configured.get(f"user.{part}") for part in ("name", "email")),
            await to_thread.run_sync(_excludes, workspace, there.configured, repository.common),
            await to_thread.run_sync(_shallow, repository.common),
            await to_thread.run_sync(_sparse, there),
            (*withheld, *found.left),
        )

    async def bundle(self, attempt: str, shipment: Shipment, have: Sequence[str], file: Path) -> bool:
        """Write what a machine lacks of a shipment into a file; False, and no file, if it lacks nothing.

        The file holds one of git's packs with its index, so that the machine need not make one.

        Args:
            attempt: a ref of its own keeps what is sent until `forget`.
            shipment: from `snapshot`.
            have: commits that the machine has; those that are not known here do not count.
            file: is replaced.

        Raises:
            WorkspaceError: objects are missing here, as in a partial clone, or git is broken.
        """
        repository = await self._repository()
        git = repository.primary
        await git.run("update-ref", self._ref(attempt, "sent"), shipment.sent.commit)
        asked = [one for one in have if is_sha(one)]
        found = await replace(git, foreign=True).shas(*asked) if asked else ()
        known = list(dict.fromkeys(filter(None, found)))
        # A name of its own, so that what a call that was cut off has left is not in the way.
        part = file.with_name(f"{file.name}.{os.getpid()}")
        stdin = b"".join(b"%s\n" % one.encode() for one in await self._lacking(shipment.sent.commit, known))
        words = (
            "pack-objects",
            "--quiet",
            "--non-empty",
            "--delta-base-offset",
            *(() if known else ("--revs",)),
            str(part),
        )
        reply = await self._read(git, words, stdin)
        return await to_thread.run_sync(_join, part, reply.text, file)

    async def _lacking(self, commit: str, known: Collection[str]) -> list[str]:
        """Return the objects of a commit that are not in what is known; the commit alone if nothing is."""
        if not known:
            return [commit]
        # What was sent last is seldom an ancestor: without the word git would not look into its tree.
        words = ("rev-list", "--objects-edge-aggressive", commit, *(f"^{one}" for one in known))
        git = (await self._repository()).primary
        lines = (await self._read(git, words)).stdout.split(b"\n")
        return [
            os.fsdecode(line[:_SHA256_LENGTH].partition(b" ")[0])
            for line in lines
            if line[:1] not in (b"", b"-")
        ]

    async def _read(self, git: Git, words: Sequence[str], stdin: bytes = b"") -> Reply:
        reply = await git.ask(*words, stdin=stdin, timeout_s=LONG_TIMEOUT_S)
        if reply.rc == 0:
            return reply
        if _MISSING.search(reply.stderr) and _is_partial((await self._repository()).configured):
            raise WorkspaceError(
                f"{self._root} is a partial clone and lacks what a machine needs: {in_a_line(reply)}; "
                "fetch all of it: `git fetch --refetch --no-filter`"
            )
        raise failure(self._root, words, reply)

    async def apply(
        self, attempt: str, workspace: Path, shipment: Shipment, back: Snapshot, file: Path | None
    ) -> Applied:
        """Bring what came back into the workspace it was sent from; what is ignored there stays.

        Harmless to repeat, also after a crash in the middle and after it was applied.

        Args:
            attempt: names the refs.
            workspace: the worktree that `shipment` is of.
            shipment: what was sent.
            back: what the machine says that there is now.
            file: the bundle of what is new, None if there is none.

        Raises:
            WorkRefused: what came back is damaged, or nothing that an agent's work can be.
            WorkspaceError: git or the disk is broken.
        """
        repository, there = await self._there(workspace)
        if back == shipment.sent:
            return Applied()
        await applying.take_up(repository.primary, back, file)
        quiet = (*there.git.settings, *there.configured.without_filters(own=False))
        git = replace(there.git, settings=quiet)
        refs = ref_name(self._mission, "cluster", attempt)
        withheld = self._is_withheld(workspace)

        async def look(also: Collection[str]) -> Content:
            def is_left_out(change: Change) -> bool:
                return change.path not in also and withheld(change)

            return await take(there.git, self._rules, is_left_out, (shipment.sent,))

        return await applying.apply(applying.Arrival(repository.primary, git, shipment, back, refs, look))

    async def keep(self, attempt: str, back: Snapshot, file: Path | None) -> str:
        """Keep what came back under a ref, without a look at the workspace; return its name.

        Raises:
            WorkRefused: what came back is damaged.
            WorkspaceError: git or the disk is broken.
        """
        primary, ref = (await self._repository()).primary, self._ref(attempt, "back")
        await applying.take_up(primary, back, file)
        await primary.run("update-ref", ref, back.commit)
        return ref

    async def forget(self, attempt: str) -> None:
        """Remove the ref that kept what was sent; what `apply` has kept stays. Raises `WorkspaceError`."""
        await (await self._repository()).primary.run("update-ref", "-d", self._ref(attempt, "sent"))

    def _is_withheld(self, workspace: Path, told: list[str] | None = None) -> Callable[[Change], bool]:
        def is_withheld(change: Change) -> bool:
            reason = "" if change.nested else _secret(workspace / change.path, change.path, self._rules)
            if reason and told is not None:
                told.append(f"{change.path}: {reason}")
            return bool(reason)

        return is_withheld

    def _ref(self, attempt: str, name: str) -> str:
        return ref_name(self._mission, "cluster", attempt, name)

    async def _repository(self) -> Repository:
        if self._opened is None:
            self._opened = await Repository.open(self._root)
        return self._opened

    async def _there(self, workspace: Path) -> tuple[Repository, Worktree]:
        repository = await self._repository()
        found = await repository.worktree(workspace)
        if found is None:
            raise WorkspaceMissing(f"{workspace} is not a git worktree; see `git worktree list`")
        return repository, found

    def _project(self, repository: Repository, configured: Configuration, head: str) -> str:
        """Name the project: clones of one repository, for one person, share it on a machine."""
        origin = configured.get("remote.origin.url") or f"{socket.gethostname()}:{repository.common}"
        who = (configured.get(f"user.{part}") for part in ("name", "email"))
        name = f"{_plain(self._root.resolve().name)}-{_digest(_URL_USER.sub('', origin), *who)}"
        return f"{name}.sha256" if len(head) == _SHA256_LENGTH else name


def _excludes(workspace: Path, configured: Configuration, common: Path) -> str:
    named = configured.get("core.excludesfile")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    person = workspace / Path(named).expanduser() if named else home / "git" / "ignore"
    lines = list[str]()
    with suppress(OSError):
        lines += os.fsdecode(read_whole(person, links=True)).splitlines()
    return "".join(f"{line}\n" for line in (*lines, *read_excludes(common)))


def _shallow(common: Path) -> tuple[str, ...]:
    with suppress(OSError):
        return tuple((common / "shallow").read_text(encoding="ascii").split())
    return ()


def _sparse(there: Worktree) -> str:
    if is_true(there.configured.get("core.sparsecheckout")) and there.git.git_dir is not None:
        with suppress(OSError):
            return os.fsdecode(read_whole(there.git.git_dir / "info" / "sparse-checkout"))
    return ""


def _secret(path: Path, name: str, rules: CommitRules) -> str:
    """Say why a new file must not leave this machine, "" if it may."""
    named = rules.by_name(name)
    try:
        data = os.fsencode(path.readlink()) if path.is_symlink() else read_whole(path)
    except OSError:
        return named if named == SECRET else ""
    reason = rules.by_content(name, data, "" if named in OF_HOST else named)
    return reason if reason in (SECRET, SECRET_VALUE) else ""


def _named(workspace: Path) -> str:
    return f"{_plain(workspace.name)}-{_digest(socket.gethostname(), str(workspace.absolute()))}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "unnamed"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _is_partial(configured: Configuration) -> bool:
    return any(_PARTIAL.fullmatch(one.key) for one in configured.all)


def _join(part: Path, names: str, file: Path) -> bool:
    """Put a pack and its index into one file: the pack, the index, and the size of the pack in 8 bytes."""
    file.unlink(missing_ok=True)
    if not names:
        return False
    pack, index = (part.with_name(f"{part.name}-{names}.{end}") for end in ("pack", "idx"))
    pack.chmod(0o600)
    size = pack.stat().st_size
    with pack.open("ab") as out, index.open("rb") as source:
        shutil.copyfileobj(source, out, _CHUNK_BYTES)
        out.write(size.to_bytes(8, "big"))
    index.unlink()
    pack.replace(file)
    return True
