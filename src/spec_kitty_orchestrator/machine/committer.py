"""Making one commit on a branch: the project's hooks see it first, then git's plumbing makes it.

Plumbing runs no hook. The signature that the settings ask for is made by us, with the person's key.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.configuration import Configuration
from spec_kitty_orchestrator.machine.git import OUR_IDENTITY, Git, failure, in_a_line
from spec_kitty_orchestrator.machine.hooks import Hooks
from spec_kitty_orchestrator.ports import CommitRefusal

__all__ = ["Committer", "identity", "is_true", "why_not_signed"]

SIGN_TIMEOUT_S = 30.0
"""A key that needs a person answers in no time of ours; one on a card or in a cloud takes seconds."""


@dataclass
class Committer:
    """Makes commits in one worktree.

    Attributes:
        git: there.
        configured: its settings.
        hooks: None where none are to run.
        asked: whether hooks were asked.
        overruled: whether they put something else in a commit than the index held.
    """

    git: Git
    configured: Configuration
    hooks: Hooks | None = None
    asked: bool = False
    overruled: bool = False

    async def commit(self, branch: str, message: str, *, empty: bool = False) -> CommitRefusal | None:
        """Commit the index on `branch`, which HEAD is on; harmless if there is nothing to commit.

        Args:
            branch: its name.
            message: what git cannot hold in it is replaced.
            empty: whether a commit without a change is made too.

        Returns:
            What a hook says against it; then nothing was committed.

        Raises:
            WorkspaceError: git, its signing, the disk or a hook is broken; the work is where it was.
        """
        git = self.git
        text = (message.replace("\0", "").encode("utf-8", "replace").strip() or b"Work of an agent") + b"\n"
        tree = (await git.run("write-tree")).text
        shas = await git.run("rev-parse", "HEAD", "HEAD^{tree}")
        head, before = shas.text.split("\n")
        if tree == before and not empty:
            return None
        made = tree
        if self.hooks is not None and await self.hooks.there():
            self.asked = True
            options = (*identity(self.configured), "commit", *(["--allow-empty"] if empty else []))
            agreed = await self.hooks.run(git, branch, head, text, options)
            if isinstance(agreed, CommitRefusal):
                return replace(agreed, tree=tree)
            made, text = agreed.tree, agreed.text
            if made == before and not empty:
                return None
        await self._record(branch, head, made, text)
        if made != tree:
            self.overruled = True
            await git.run("read-tree", made)
            await git.ask("update-index", "-q", "--refresh")
        return None

    async def _record(self, branch: str, head: str, tree: str, text: bytes) -> None:
        git, what = self.git, f"the commit on {branch}"
        signed = ("-S",) if is_true(self.configured.get("commit.gpgsign")) else ()
        command = (*identity(self.configured), "commit-tree", tree, "-p", head, *signed, "-F", "-")
        reply = await git.ask(*command, stdin=text)
        if reply.rc != 0:
            raise failure(git.path, command, reply, what=what)
        subject = text.partition(b"\n")[0].decode("utf-8", "replace")[:200]
        # The old value: should somebody have moved the branch meanwhile, nothing is taken off it.
        move = ("update-ref", "-m", f"commit: {subject}", f"refs/heads/{branch}", reply.text, head)
        moved = await git.ask(*move)
        if moved.rc != 0:
            raise failure(git.path, move, moved, what=what)


def identity(configured: Configuration, env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the settings for a commit: none where the person has an identity, else ours."""
    for who in ("author", "committer"):
        for part in ("name", "email"):
            given = env.get(f"GIT_{who}_{part}".upper()) or (env.get("EMAIL") if part == "email" else "")
            if not (given or configured.get(f"{who}.{part}") or configured.get(f"user.{part}")):
                return OUR_IDENTITY
    return ()


def is_true(value: str) -> bool:
    """Tell whether git takes a setting for a yes."""
    return value.casefold() in ("true", "yes", "on") or (value.isdigit() and int(value) != 0)


async def why_not_signed(git: Git) -> str:
    """Try the signature that the settings ask of commits, and say why it fails, "" if it does not.

    Nothing in the repository is changed. Raises `WorkspaceError`.
    """
    configured = await Configuration.read(git)
    if not is_true(configured.get("commit.gpgsign")):
        return ""
    folder = Path(await to_thread.run_sync(tempfile.mkdtemp))
    try:
        aside = replace(git, objects=folder)
        tree = (await aside.run("mktree")).text
        command = (*identity(configured), "commit-tree", "-S", "-m", "To see whether it can be signed", tree)
        reply = await aside.ask(*command, timeout_s=SIGN_TIMEOUT_S)
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
    return "" if reply.rc == 0 else in_a_line(reply)
