"""The project's commit hooks, which run with an agent's rights: the agent can write them, or what they run.

They run in a `git commit` of a scratch repository that borrows the objects of the real one, so that they can
use git as always and still write nothing into it. Its tree and message are what we then commit ourselves.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from anyio import to_thread

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.files import read_lines, read_record
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git, failure
from spec_kitty_orchestrator.machine.stopping import sweep
from spec_kitty_orchestrator.ports import CommitRefusal

__all__ = ["HookRules", "Hooks"]

NAMES = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")

_REFUSED = 1
"""What `git commit` exits with when a hook said no; where git itself cannot go on, it exits with 128."""

_CANNOT_RUN = re.compile(
    r"^(?:\S+: (?:line )?\d+: \S+: (?:command )?(?:not found|Permission denied)"
    r"|\S+: line \d+: \S*/\S+: No such file or directory"
    r"|\S+: (?:line )?\d+: exec: \S+: .*"
    r"|\S+: \S+: (?:command )?not found|\S+: command not found: \S+"
    r"|(?:\S*/)?env: .*No such file or directory"
    r"|(?:error|fatal): cannot (?:run|exec) .*|bwrap: .*"
    r"|.*: bad interpreter: .*|.*Exec format error.*|husky - command not found in PATH=.*"
    r"|husky - \S+ (?:hook exited with code|script failed \(code) 12[67]\b.*)$",
    re.MULTILINE,
)
"""How shells, git and husky say that a program is not there, or cannot be run."""

_SHA = re.compile(r"[0-9a-f]{40,64}")


class Confine(Protocol):
    """Confines a command as an agent is confined."""

    def __call__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], writable: Sequence[Path]
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return what to run instead, and in which environment.

        Args:
            argv: the command.
            cwd: the worktree, in which it may write.
            env: its whole environment.
            writable: folders in which it may write besides.
        """
        ...


@dataclass(frozen=True)
class HookRules:
    """How hooks run: with `passed` variables besides the usual ones, and confined by `confine`, if given."""

    passed: Sequence[str] = ()
    confine: Confine | None = None


@dataclass(frozen=True)
class Hooks:
    """The commit hooks of one worktree.

    Attributes:
        folder: where they lie, absolute.
        root: the primary checkout.
    """

    folder: Path
    root: Path
    rules: HookRules = field(default_factory=HookRules)

    async def there(self) -> bool:
        """Tell whether there is any that git would run."""
        paths = [self.folder / name for name in NAMES]
        return await to_thread.run_sync(
            lambda: any(path.is_file() and os.access(path, os.X_OK) for path in paths)
        )

    async def run(
        self, git: Git, branch: str, head: str, text: bytes, options: Sequence[str]
    ) -> "Agreed | CommitRefusal":
        """Let them see the commit that is to be made on `branch` from the index.

        Args:
            git: the worktree.
            branch: HEAD is on it.
            head: its tip.
            text: the message.
            options: of `git commit`, and settings before.

        Raises:
            WorkspaceError: they cannot run, or git is broken.
        """
        async with _scratch(git, branch, head, self.root) as scratch:
            reply = await self._commit(git, scratch, branch, text, options)
            if reply.rc == 0:
                return await _take(git, scratch, branch, head)
        if reply.rc != _REFUSED:
            raise failure(git.path, ("commit",), reply, what=f"the commit on {branch}")
        if cannot := _CANNOT_RUN.search(reply.stderr.decode("utf-8", "replace")):
            raise WorkspaceError(
                f"a commit hook of this repository cannot run in {git.path}: {cannot[0].strip()}; make what "
                "it needs available there, or set `commit_hooks = false`, and start again"
            )
        return CommitRefusal(
            f"A commit hook of this repository refused the commit on {branch}:\n{reply.complaint}\n"
            "Mend what it complains of. If it does not like the commit message, commit the work yourself, on "
            "this branch, with a message that it accepts."
        )

    async def _commit(
        self, git: Git, scratch: Path, branch: str, text: bytes, options: Sequence[str]
    ) -> Reply:
        marker = uuid4().hex
        own = {"GIT_DIR": str(scratch), "GIT_WORK_TREE": str(git.path), "GIT_TERMINAL_PROMPT": "0"}
        # Git may take it for the person's address.
        own |= {name: os.environ[name] for name in ("EMAIL",) if name in os.environ}
        env: Mapping[str, str] = environment({**own, "GIT_EDITOR": ":"}, marker, passed=self.rules.passed)
        settings = (
            f"core.hooksPath={self.folder}",
            "core.fsmonitor=false",
            "gc.auto=0",
            "maintenance.auto=false",
        )
        given = [word for setting in settings for word in ("-c", setting)]
        argv: Sequence[str] = ["git", *given, *options, "--quiet", "--no-gpg-sign", "--file=-"]
        if self.rules.confine is not None:
            argv, env = await to_thread.run_sync(self.rules.confine, argv, git.path, env, [scratch.parent])
        try:
            return await child.run(argv, cwd=git.path, env=env, limit_s=LONG_TIMEOUT_S, stdin=text, most=None)
        except TimeoutError:
            raise WorkspaceError(
                f"the commit hooks on {branch} did not end within {LONG_TIMEOUT_S:g} s and were stopped"
            ) from None
        except OSError as error:
            raise WorkspaceError(f"the commit hooks on {branch} cannot be run: {error}") from error
        finally:
            await sweep(marker)


@dataclass(frozen=True)
class Agreed:
    """What the hooks made of a commit: its tree, which is in the repository, and its message."""

    tree: str
    text: bytes


@asynccontextmanager
async def _scratch(git: Git, branch: str, head: str, root: Path) -> AsyncIterator[Path]:
    """Make a repository that is a copy of the real one but for its objects, which it borrows."""
    refs = (await git.run("for-each-ref", "--format=%(objectname) %(refname)")).stdout
    folder = Path(await to_thread.run_sync(tempfile.mkdtemp))
    try:
        yield await to_thread.run_sync(_fill, folder / "checkout", git, branch, head, refs, root)
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _fill(checkout: Path, git: Git, branch: str, head: str, refs: bytes, root: Path) -> Path:
    assert git.git_dir is not None
    common = git.common or git.git_dir
    scratch = checkout / ".git"
    tip = scratch / "refs" / "heads" / branch
    for made in (scratch / "objects" / "pack", scratch / "objects" / "info", scratch / "info", tip.parent):
        made.mkdir(parents=True, exist_ok=True)
    # Hooks look for the files of the primary checkout beside git's common folder.
    for entry in root.iterdir():
        if entry.name != ".git":
            (checkout / entry.name).symlink_to(entry)
    (scratch / "objects" / "info" / "alternates").write_text(f"{common / 'objects'}\n")
    (scratch / "HEAD").write_text(f"ref: refs/heads/{branch}\n")
    tip.write_text(f"{head}\n")
    (scratch / "packed-refs").write_bytes(refs)
    sha256 = len(head) > 40
    lines = ["[core]", f"repositoryformatversion = {int(sha256)}", "bare = false"]
    lines += ["[extensions]", "objectformat = sha256"] if sha256 else []
    included = (common / "config", git.git_dir / "config.worktree")
    lines += ["[include]", *(f"path = {_quoted(one)}" for one in included if one.is_file())]
    (scratch / "config").write_text("\n".join(lines) + "\n")
    copied = [git.git_dir / "index", *git.git_dir.glob("sharedindex.*"), common / "shallow"]
    for source in copied:
        with suppress(FileNotFoundError):
            shutil.copy2(source, scratch / source.name)
    for name in ("exclude", "attributes", "sparse-checkout"):
        with suppress(FileNotFoundError):
            shutil.copyfile(common / "info" / name, scratch / "info" / name)
    return scratch


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _take(git: Git, scratch: Path, branch: str, head: str) -> "Agreed | CommitRefusal":
    """Read the commit that was made in the scratch repository, and bring its files over."""
    sha = await to_thread.run_sync(_tip, scratch, branch)
    if sha in ("", head):
        return CommitRefusal(
            f"The commit hooks of this repository left no commit on {branch}: one of them took it back."
        )
    # Nothing there is believed but its objects, and those are checked when they are unpacked here.
    inside = replace(git, objects=scratch / "objects")
    header, _, text = (await inside.run("cat-file", "commit", sha)).stdout.partition(b"\n\n")
    tree = header.partition(b"\n")[0].removeprefix(b"tree ").decode()
    if not _SHA.fullmatch(tree):
        raise WorkspaceError(f"the commit hooks on {branch} left a commit without a tree")
    if (await git.ask("cat-file", "-e", tree)).rc != 0:
        asked = f"{tree}\n^{head}\n".encode()
        pack = await inside.run("pack-objects", "--revs", "--stdout", "-q", stdin=asked)
        await git.run("unpack-objects", "-q", "--strict", stdin=pack.stdout)
        await to_thread.run_sync(_keep_large, scratch, git.common or scratch)
    return Agreed(tree, text)


def _keep_large(scratch: Path, common: Path) -> None:
    """Bring over what Git LFS has stored of staged files: the commit holds no more than their names."""
    stored = scratch / "lfs" / "objects"
    for path in stored.rglob("*"):
        target = common / "lfs" / "objects" / path.relative_to(stored)
        if path.is_symlink() or not path.is_file() or target.exists():
            continue
        with path.open("rb") as file:
            good = hashlib.file_digest(file, "sha256").hexdigest() == path.name
        if good:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _tip(scratch: Path, branch: str) -> str:
    with suppress(OSError):
        found = read_record(scratch / "refs" / "heads" / branch).decode("ascii", "replace").strip()
        return found if _SHA.fullmatch(found) else ""
    for line in read_lines(scratch / "packed-refs"):
        sha, _, name = line.partition(" ")
        if name == f"refs/heads/{branch}" and _SHA.fullmatch(sha):
            return sha
    return ""
