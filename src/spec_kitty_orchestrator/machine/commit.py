"""Committing a work package's work on its branch, or telling the implementer why that cannot be."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.core.model import Evidence
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.diff import stat
from spec_kitty_orchestrator.machine.git import HOOK_TIMEOUT_S, OUR_IDENTITY, Git, failure, in_a_line
from spec_kitty_orchestrator.machine.history import offenders
from spec_kitty_orchestrator.machine.staging import stage
from spec_kitty_orchestrator.ports import CommitRefusal

STAT_CHARS = 4000

SIGN_TIMEOUT_S = 30.0
"""A key that needs a person answers in no time of ours; one on a card or in a cloud takes seconds."""

# One more than a hook needs that formats files, stages nothing and still succeeds.
_ROUNDS = 2

_REFUSED = 1
"""What `git commit` exits with when a hook said no; where git itself cannot go on, it exits with 128."""


async def commit(
    git: Git,
    branch: str,
    base: str,
    message: str,
    empty_reason: str,
    rules: CommitRules,
    known: Sequence[str] = (),
) -> Evidence | CommitRefusal:
    """Commit what may be committed on `branch`; repeating it is harmless.

    Args:
        git: in the worktree.
        branch: on which it is to be.
        base: the commit at which the branch stood before the work began.
        message: of the commit.
        empty_reason: why nothing had to change, for a commit without changes; "" for none.
        rules: say what may be committed.
        known: revisions of which all that they reach was made by others.

    Returns:
        The range from `base` to the new HEAD, or why the implementer must mend something first.

    Raises:
        WorkspaceError: git, its signing or the disk is broken; the work is where it was.
    """
    refusal = await _wrong_place(git, branch, base)
    if refusal is not None:
        return refusal
    found = await offenders(git, base, known, rules)
    if found:
        return _take_out(found, branch, base)
    left_out: Sequence[str] = ()
    for _ in range(_ROUNDS):
        staged = await stage(git, rules)
        left_out = staged.left_out
        if staged.refused:
            return _mend(staged.refused)
        if not staged.allowed:
            break
        refusal = await _commit_index(git, branch, message)
        if refusal is not None:
            return refusal
    head = await git.head()
    if head == base and empty_reason:
        refusal = await _commit_index(
            git, branch, f"{message}\n\nNothing changed: {empty_reason}", "--allow-empty"
        )
        if refusal is not None:
            return refusal
        head = await git.head()
    tree = (await git.run("rev-parse", f"{head}^{{tree}}")).text
    return Evidence(base, head, await stat(git, base, head, STAT_CHARS), tuple(left_out), tree)


async def _wrong_place(git: Git, branch: str, base: str) -> CommitRefusal | None:
    """Refuse while a merge is under way, off the branch, or when the branch lost what it had before."""
    operation = await git.operation()
    if operation:
        return CommitRefusal(
            f"A {operation} is under way in the worktree. Finish it (`git {operation} --continue`) "
            f"or give it up (`git {operation} --abort`), and stay on branch {branch}."
        )
    conflicts = [change.path for change in await git.changes() if change.unmerged]
    if conflicts:
        return CommitRefusal(
            f"These files have unresolved conflicts: {_listed(conflicts)}. Resolve them and `git add` them."
        )
    here = await git.branch()
    head = await git.head()
    if here != branch:
        return await _off_branch(git, branch, here, head)
    if not await git.contains(base, head):
        return CommitRefusal(
            f"Branch {branch} no longer contains {base}, the commit that it stood at before you began; "
            f"the work of others is in it. Bring it back with your own work on top: `git rebase {base}`, or "
            f"`git merge {base}`."
        )
    return None


async def _off_branch(git: Git, branch: str, here: str, head: str) -> CommitRefusal:
    where = f"on branch {here}" if here else f"detached at {head}"
    tip = await git.sha(f"refs/heads/{branch}")
    if not tip:
        return CommitRefusal(
            f"The worktree is {where}, and branch {branch}, on which this work package must be committed, "
            f"is gone. Make it again from your work: `git switch -c {branch}`."
        )
    commands = [f"git switch {branch}"]
    if head != tip and await git.contains(tip, head):
        commands.append(f"git merge --ff-only {head}")
    elif not await git.contains(head, tip):
        commands.append(f"git cherry-pick {tip}..{head}")
    steps = "; then ".join(f"`{command}`" for command in commands)
    return CommitRefusal(
        f"The worktree is {where}, but this work package must be committed on branch {branch}. Go back and "
        f"bring your commits along: {steps}. Should uncommitted changes be in the way, commit them first."
    )


def _mend(refused: Sequence[str]) -> CommitRefusal:
    return CommitRefusal(
        f"These files cannot be committed as they are, so nothing was:\n{_lines(refused)}\n"
        "Mend each of them: its line ends, its encoding, its mode, or what it holds. Take away what is "
        "no part of the work."
    )


def _take_out(found: Sequence[str], branch: str, base: str) -> CommitRefusal:
    shown = _lines([f"committed by the agent: {one}" for one in found])
    return CommitRefusal(
        f"These files must not be in the commits on {branch}:\n{shown}\n"
        f"Take them out of the history, not only of the last commit: `git reset --soft {base}`, then "
        "`git restore --staged -- <each file>`, then commit the rest again. Keep secrets outside of git; "
        f"files of spec-kitty get their old content back with `git restore --source {base} -- <file>`."
    )


async def _commit_index(git: Git, branch: str, message: str, *flags: str) -> CommitRefusal | None:
    # A signature that the user's settings ask for is made: a team may require it. It cannot hang for ever:
    # there is no terminal to prompt on, and the call is bounded.
    text = message.replace("\0", "").encode("utf-8", "replace").strip() or b"Work of an agent"
    command = (*await identity(git), "commit", "--quiet", "--file=-", *flags)
    reply = await git.ask(*command, stdin=text + b"\n", timeout_s=HOOK_TIMEOUT_S)
    if reply.rc == 0:
        return None
    if reply.rc != _REFUSED:
        raise failure(git.path, command, reply, what=f"the commit on {branch}")
    return CommitRefusal(
        f"A commit hook of this repository refused the commit on {branch}:\n{reply.complaint}\n"
        "Mend what it complains of. If it does not like the commit message, commit the work yourself, on "
        "this branch, with a message that it accepts."
    )


async def why_not_signed(git: Git) -> str:
    """Try the signature that the settings ask of commits, and say why it fails, "" if it does not.

    Nothing in the repository is changed. Raises `WorkspaceError`.
    """
    if (await git.ask("config", "--type=bool", "--get", "commit.gpgSign")).text != "true":
        return ""
    folder = Path(await to_thread.run_sync(tempfile.mkdtemp))
    try:
        aside = replace(git, objects=folder)
        tree = (await aside.run("mktree")).text
        command = (*await identity(git), "commit-tree", "-S", "-m", "To see whether it can be signed", tree)
        reply = await aside.ask(*command, timeout_s=SIGN_TIMEOUT_S)
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
    return "" if reply.rc == 0 else in_a_line(reply)


async def identity(git: Git) -> tuple[str, ...]:
    """Return the settings for a commit: none where the user has an identity, else ours."""
    for variable in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if (await git.ask("-c", "user.useConfigOnly=true", "var", variable)).rc != 0:
            return OUR_IDENTITY
    return ()


def _lines(found: Sequence[str]) -> str:
    more = len(found) - 50
    return "\n".join(f"- {one}" for one in found[:50]) + (f"\n- and {more} more" if more > 0 else "")


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - 10
    return ", ".join(paths[:10]) + (f" and {more} more" if more > 0 else "")
