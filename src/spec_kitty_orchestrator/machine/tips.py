"""Where branches stand, as the primary checkout has them, and what they hold beyond what is known."""

from collections.abc import Sequence

from spec_kitty_orchestrator.core.approval import MOST_COMMITS, Approved, Commit, Tip
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.git import Git

_MOST_BRANCHES = 2000


async def branches(primary: Git, part: str) -> dict[str, str]:
    """Return the branches that have `part` in their names, each with its commit."""
    words = ("--sort=-committerdate", f"--count={_MOST_BRANCHES}", "--format=%(objectname) %(refname)")
    listed = await primary.run("for-each-ref", *words, "refs/heads")
    pairs = (line.split(" ", 1) for line in listed.text.splitlines())
    return {ref.removeprefix("refs/heads/"): sha for sha, ref in pairs if part in ref}


async def read(primary: Git, one: Approved, known: Sequence[str]) -> Tip:
    """Read a branch.

    Args:
        primary: git in the primary checkout.
        one: what may be on it.
        known: revisions whose commits are passed over, besides those that may be on it.
    """
    heads = [await primary.sha(head) or head for head in one.heads]
    last = await _last(primary, [*heads, *filter(None, one.found)])
    merged = all([await primary.contains(head, "HEAD") for head in heads])
    head = await primary.sha(f"refs/heads/{one.branch}")
    if not head:
        return Tip("", last, merged=merged)
    lacks = tuple([one for one in heads if not await primary.contains(one, head)])
    commits: list[Commit] = []
    number = 0
    if head not in one.known:
        # What cannot be found any more is known of no branch.
        there = [sha for name in (*known, *one.known) if (sha := await primary.sha(name))]
        beyond = (head, "--not", *there, "--")
        number = int((await primary.run("rev-list", "--count", *beyond)).text)
        commits = await named(primary, *beyond)
    return Tip(
        head,
        lacks[0] if lacks else last,
        lacks,
        tuple(commits),
        number - len(commits),
        await _hidden_by(primary, one.branch, head),
        merged=merged,
    )


async def named(git: Git, *revisions: str) -> list[Commit]:
    """Return the newest commits of a range."""
    words = ("log", "-z", f"--max-count={MOST_COMMITS}", "--no-show-signature", "--format=%H%x1f%an%x1f%s")
    reply = await git.run(*words, *revisions)
    return [Commit(*(*line.split("\x1f", 2), "", "")[:3]) for line in reply.paths]


async def _last(git: Git, shas: Sequence[str]) -> str:
    """Return the commit that holds the others, or else the last one."""
    for sha in shas:
        if all([await git.contains(other, sha) for other in shas if other != sha]):
            return sha
    return shas[-1] if shas else ""


async def _hidden_by(git: Git, branch: str, head: str) -> str:
    """Return the ref that a branch's plain name means, if that is not the branch: the host merges by name."""
    if await git.sha(branch) == head:
        return ""
    named_so = await git.ask("rev-parse", "--symbolic-full-name", "--verify", "--quiet", branch)
    for ref in (named_so.text, f"refs/{branch}", f"refs/tags/{branch}", branch):
        if ref and ref != f"refs/heads/{branch}" and await git.sha(ref):
            return ref
    raise WorkspaceError(f"git does not find the branch {branch} by its name; see `git rev-parse {branch}`")


async def unsaved(git: Git, branch: str, changes: Sequence[str]) -> tuple[str, ...]:
    """Return what a worktree holds that is not on its branch: changed paths, and commits of another HEAD."""
    head = await git.head()
    beyond = () if await git.contains(head, f"refs/heads/{branch}") else (f"the commit {head} at its HEAD",)
    return (*beyond, *changes)
