"""Planning artifacts: worked on in a worktree of ours, and merged into their target once they are approved.

The host gives them a worktree on `main`, whatever the mission's target, and merges its plan into that. So
they get a branch of their own that begins at the target, and only what was approved comes to the target.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.attempt_lock import lock
from spec_kitty_orchestrator.machine.committer import identity, is_true
from spec_kitty_orchestrator.machine.configuration import Configuration
from spec_kitty_orchestrator.machine.files import make_private_folder, read_whole
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git, failure, in_a_line, is_locked
from spec_kitty_orchestrator.machine.patience import delays
from spec_kitty_orchestrator.machine.repository import OURS, Repository

__all__ = ["FORWARD", "deliver", "place"]

_TRIES = 3
"""How often a merge is made anew because somebody else moved the target meanwhile."""

FORWARD = (
    *("merge", "--ff-only", "--no-autostash", "--no-verify-signatures", "--quiet"),
    # What git ignores is a person's all the same.
    "--no-overwrite-ignore",
)
"""Git refuses it where it would touch what is not committed, and then it changes nothing."""


def place(found: Workspace) -> Workspace:
    """Return where the work of a planning artifact is done; `found` is the host's word, and stays for others.

    Its target is "" where the mission's files do not name it.
    """
    if not found.planning:
        return found
    folder = Path(found.prompt_path).parents[1]
    name = f"{folder.name}-planning"
    target, path = _target(folder), Path(found.path).with_name(name)
    return replace(found, path=str(path), branch=name, base_ref=target or None, target=target)


def _target(folder: Path) -> str:
    with suppress(OSError, ValueError):
        meta = json.loads(read_whole(folder / "meta.json", links=True))
        if isinstance(meta, dict) and isinstance(named := meta.get("target_branch"), str):
            return named
    return ""


async def deliver(repository: Repository, workspace: Workspace, head: str, subject: str) -> set[str]:
    """Merge a commit into the target, which the primary checkout is on; nothing if it is there.

    Returns:
        The paths in which the commit differs from where the target stood.

    Raises:
        WorkspaceError: git refuses; nothing was changed.
    """
    # The programs of filters may lie among what is checked out.
    primary, target = await repository.guarded(repository.primary.path), workspace.target
    async with _alone(repository.common) as alone:
        if not alone:
            raise _undelivered(primary, head, target, "another run is at work there")
        before = await primary.head()
        await _advance(primary, repository.configured, head, target, subject)
    changed = await primary.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, head)
    return set(changed.paths)


@asynccontextmanager
async def _alone(common: Path) -> AsyncIterator[bool]:
    """Wait until no other run delivers; of two merges at once git would leave files of the one that lost."""
    folder, descriptor = common / OURS / ".target", None
    await to_thread.run_sync(make_private_folder, folder)
    for delay_s in delays():
        with suppress(FileExistsError):
            descriptor = lock(folder)
        if descriptor is not None or delay_s is None:
            break
        await anyio.sleep(delay_s)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def _advance(primary: Git, configured: Configuration, head: str, target: str, subject: str) -> None:
    for _ in range(_TRIES):
        now, here = await primary.place()
        if here != target:
            found = f"{here} is checked out" if here else "no branch is checked out"
            raise _undelivered(primary, head, target, f"{found} there")
        if await primary.contains(head, now):
            return
        forward = await primary.contains(now, head)
        new = head if forward else await _merged(primary, configured, now, head, target, subject)
        reply = await primary.ask(*FORWARD, new, timeout_s=LONG_TIMEOUT_S)
        for delay_s in delays():
            if delay_s is None or not is_locked(reply):
                break
            # A person's editor, or the host for another mission, has it for a moment.
            await anyio.sleep(delay_s)
            reply = await primary.ask(*FORWARD, new, timeout_s=LONG_TIMEOUT_S)
        if reply.rc == 0:
            return
        if await primary.head() == now:
            raise _undelivered(primary, head, target, in_a_line(reply))
    raise _undelivered(primary, head, target, "it is moved by others all the time")


async def _merged(
    primary: Git, configured: Configuration, now: str, head: str, target: str, subject: str
) -> str:
    """Return a merge of both commits, which is on no branch yet."""
    tree = await primary.ask("merge-tree", "--write-tree", "--name-only", "--no-messages", now, head)
    if tree.rc != 0:
        conflicts = ", ".join(tree.text.splitlines()[1:6])
        reason = f"they conflict in {conflicts}" if tree.rc == 1 else in_a_line(tree)
        raise _undelivered(primary, head, target, reason)
    signed = ("-S",) if is_true(configured.get("commit.gpgsign")) else ()
    made = ("commit-tree", tree.text.splitlines()[0], "-p", now, "-p", head, *signed, "-m", subject)
    reply = await primary.ask(*identity(configured), *made)
    if reply.rc != 0:
        raise failure(primary.path, made, reply, what=f"the merge into {target}")
    return reply.text


def _undelivered(primary: Git, head: str, target: str, reason: str) -> WorkspaceError:
    return WorkspaceError(
        f"the planning artifact is approved as {head}, but is not on {target} in {primary.path}: {reason}; "
        f"make room there, or on {target} run `git merge {head}`, then start again"
    )
