"""Committing a work package's work on its branch, or telling the implementer why that cannot be."""

import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.core.model import Evidence
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.diff import stat
from spec_kitty_orchestrator.machine.git import HOOK_TIMEOUT_S, OUR_IDENTITY, Git, failure, in_a_line
from spec_kitty_orchestrator.machine.staging import BIG, HOST, MAX_FILE_BYTES, SECRET, TRACE, stage, why_not
from spec_kitty_orchestrator.ports import CommitRefusal

STAT_CHARS = 4000

SIGN_TIMEOUT_S = 30.0
"""A key that needs a person answers in no time of ours; one on a card or in a cloud takes seconds."""

# One more than a hook needs that formats files, stages nothing and still succeeds.
_ROUNDS = 2

_REFUSED = 1
"""What `git commit` exits with when a hook said no; where git itself cannot go on, it exits with 128."""


async def commit(
    git: Git, branch: str, base: str, message: str, empty_reason: str, traces: Collection[str]
) -> Evidence | CommitRefusal:
    """Commit what may be committed on `branch`, so no `traces` of agents; repeating it is harmless.

    Returns:
        The range from `base` to the new HEAD, or why the implementer must mend something first.

    Raises:
        WorkspaceError: git, its signing or the disk is broken; the work is where it was.
    """
    refusal = await _wrong_place(git, branch, base)
    if refusal is not None:
        return refusal
    offenders = await _committed_by_agent(git, base, traces)
    if offenders:
        return _take_out(offenders, branch, base)
    left_out: Sequence[str] = ()
    for _ in range(_ROUNDS):
        allowed, left_out = await stage(git, traces)
        if not allowed:
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


@dataclass(frozen=True)
class _Blob:
    """One changed path of a commit range; `sha` is all zeros when it was deleted."""

    path: str
    sha: str
    status: str

    @property
    def deleted(self) -> bool:
        return self.status == "D"


async def _committed_by_agent(git: Git, base: str, traces: Collection[str]) -> list[str]:
    """List what must not be in commits of the agent's own, each with the reason.

    Merge commits are passed over: what they bring in was committed, and judged, elsewhere.
    """
    commits = await git.run("rev-list", "--first-parent", "--no-merges", f"{base}..HEAD")
    if not commits.stdout:
        return []
    raw = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev")
    made = _blobs(
        await git.run("diff-tree", "--stdin", "--no-commit-id", "--root", *raw, stdin=commits.stdout)
    )
    now = {blob.path: blob for blob in _blobs(await git.run("diff-tree", *raw, base, "HEAD"))}
    found = {}
    for blob in made:
        reason = why_not(blob.path, traces)
        # A secret stays in the history even when a later commit deletes it.
        if reason == SECRET and not blob.deleted:
            found[blob.path] = reason
        elif blob.path in now and _stays(reason, now[blob.path]):
            found[blob.path] = reason if reason != SECRET else found.get(blob.path, "")
    mine = {blob.path for blob in made}
    for path in await _big_blobs(git, [blob for blob in now.values() if blob.path in mine]):
        found.setdefault(path, BIG)
    return [f"{path}: {reason}" for path, reason in sorted(found.items()) if reason]


def _stays(reason: str, blob: _Blob) -> bool:
    """Tell whether a range leaves behind what must not be committed for this reason."""
    if reason == TRACE:
        # A file that was there before is the project's, wherever it lies.
        return blob.status == "A"
    return bool(reason) and (reason == HOST or not blob.deleted)


def _blobs(reply: Reply) -> list[_Blob]:
    fields = reply.paths
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [_Blob(path, (parts := head.split(" "))[3], parts[4][:1]) for head, path in pairs]


async def _big_blobs(git: Git, blobs: Sequence[_Blob]) -> list[str]:
    kept = [blob for blob in blobs if not blob.deleted]
    if not kept:
        return []
    asked = "".join(f"{blob.sha}\n" for blob in kept).encode()
    reply = await git.run("cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=asked)
    # A submodule's commit is not an object here: git answers "<sha> missing".
    answers = zip(kept, reply.text.split("\n"), strict=True)
    return [
        blob.path
        for blob, answer in answers
        if answer.startswith("blob ") and int(answer.split(" ")[1]) > MAX_FILE_BYTES
    ]


def _take_out(offenders: Sequence[str], branch: str, base: str) -> CommitRefusal:
    shown = "\n".join(f"- committed by the agent: {offender}" for offender in offenders[:50])
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


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - 10
    return ", ".join(paths[:10]) + (f" and {more} more" if more > 0 else "")
