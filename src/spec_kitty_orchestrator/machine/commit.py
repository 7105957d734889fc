"""Committing a work package's work on its branch, or telling the implementer why that cannot be."""

from collections.abc import Sequence

from spec_kitty_orchestrator.core.model import Evidence
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.committer import Committer
from spec_kitty_orchestrator.machine.diff import stat
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.history import offenders
from spec_kitty_orchestrator.machine.nested import problems
from spec_kitty_orchestrator.machine.staging import stage
from spec_kitty_orchestrator.ports import CommitRefusal

__all__ = ["commit"]

STAT_CHARS = 4000
MOST_LEFT_OUT = 100

# One more than a hook needs that formats files, stages nothing and still succeeds.
_ROUNDS = 2


async def commit(
    committer: Committer,
    branch: str,
    base: str,
    message: str,
    empty_reason: str,
    rules: CommitRules,
    known: Sequence[str] = (),
) -> Evidence | CommitRefusal:
    """Commit what may be committed on `branch`; repeating it is harmless.

    Args:
        committer: in the worktree.
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
    git = committer.git
    head, here = await git.place()
    refusal = await _wrong_place(git, branch, base, head, here)
    if refusal is not None:
        return refusal
    if head != base and (found := await offenders(git, base, known, rules)):
        return _take_out(found, branch, base)
    left_out: Sequence[str] = ()
    for _ in range(_ROUNDS):
        staged = await stage(git, rules)
        left_out = staged.left_out
        refusals = [_mend(staged.refused)] if staged.refused else []
        refusals += await problems(git, base, known, staged.nested)
        if refusals:
            return CommitRefusal("\n\n".join(refusals))
        if not staged.allowed:
            break
        refusal = await committer.commit(branch, message)
        if refusal is not None:
            return refusal
        if not committer.asked:
            break
    if committer.overruled and (found := await offenders(git, base, known, rules)):
        return _take_out(found, branch, base)
    head, tree = await _head(git)
    if head == base and empty_reason:
        reason = f"{message}\n\nNothing changed: {empty_reason}"
        refusal = await committer.commit(branch, reason, empty=True)
        if refusal is not None:
            return refusal
        head, tree = await _head(git)
    more = [f"and {len(left_out) - MOST_LEFT_OUT} more"] if len(left_out) > MOST_LEFT_OUT else []
    named = (*left_out[:MOST_LEFT_OUT], *more)
    return Evidence(base, head, await stat(git, base, head, STAT_CHARS), named, tree)


async def _head(git: Git) -> tuple[str, str]:
    head, tree = (await git.run("rev-parse", "HEAD", "HEAD^{tree}")).text.split("\n")
    return head, tree


async def _wrong_place(git: Git, branch: str, base: str, head: str, here: str) -> CommitRefusal | None:
    """Refuse while a merge is under way, off the branch, or when the branch lost what it had before."""
    operation = await git.operation()
    if operation:
        return CommitRefusal(
            f"A {operation} is under way in the worktree. Finish it (`git {operation} --continue`) "
            f"or give it up (`git {operation} --abort`), and stay on branch {branch}."
        )
    unmerged = (await git.run("ls-files", "-z", "--unmerged")).paths
    conflicts = list(dict.fromkeys(line.partition("\t")[2] for line in unmerged))
    if conflicts:
        return CommitRefusal(
            f"These files have unresolved conflicts: {_listed(conflicts)}. Resolve them and `git add` them."
        )
    if here != branch:
        return await _off_branch(git, branch, here, head)
    if head != base and not await git.contains(base, head):
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


def _mend(refused: Sequence[str]) -> str:
    return (
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


def _lines(found: Sequence[str]) -> str:
    more = len(found) - 50
    return "\n".join(f"- {one}" for one in found[:50]) + (f"\n- and {more} more" if more > 0 else "")


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - 10
    return ", ".join(paths[:10]) + (f" and {more} more" if more > 0 else "")
