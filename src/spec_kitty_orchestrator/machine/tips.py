"""Where branches stand, as the primary checkout has them, and what they hold beyond what is known."""

from collections.abc import Sequence

from spec_kitty_orchestrator.core.approval import MOST_COMMITS, Approved, Commit, Tip
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.commit_rules import kept_by_host
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["beyond", "branches", "fork_point", "read", "undelivered", "unsaved"]

_MOST_BRANCHES = 2000
_NOT_THE_HOST_S = (":/", ":(top,exclude)kitty-specs", ":(top,exclude).kittify")


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
    number, joined = 0, False
    if head not in one.known:
        new = (head, "--not", *await _there(primary, (*known, *one.known)), "--")
        number = int((await primary.run("rev-list", "--count", *new)).text)
        commits = await named(primary, *new)
        joined = not (await beyond(primary, head, (*known, *one.known), everywhere=True))[0]
    return Tip(
        head,
        lacks[0] if lacks else last,
        lacks,
        tuple(commits),
        number - len(commits),
        await _hidden_by(primary, one.branch, head),
        merged=merged,
        joined=joined,
    )


async def beyond(
    git: Git, revision: str, known: Sequence[str], *, everywhere: bool = False
) -> tuple[list[Commit], int]:
    """Return the newest commits that a revision holds beyond what is known, and how many there are besides.

    Passed over are merges that change nothing themselves and, unless it is asked for what is `everywhere`,
    commits that touch only the host's own files.
    """
    there = await _there(git, known)
    paths = () if everywhere else _NOT_THE_HOST_S
    new = ("--full-history", revision, "--not", *there, "--", *paths)
    shas = (await git.run("rev-list", "--no-merges", *new)).text.split()
    for merge in (await git.run("rev-list", "--merges", revision, "--not", *there, "--")).text.split():
        shown = ("--cc", "-p", "--no-commit-id", "--no-ext-diff", "--no-textconv", "--text", merge, "--")
        if (await git.run("diff-tree", *shown, *paths)).stdout:
            shas.append(merge)
    commits = await named(git, "--no-walk", *shas[:MOST_COMMITS], "--") if shas else []
    return commits, len(shas) - len(commits)


async def fork_point(git: Git, base_ref: str) -> str:
    """Return where the own work of the branch that is checked out begins, by its first parents.

    Merges that stand right after the fork are the host's: the code of dependencies is not this branch's work.

    Raises:
        WorkspaceError: the branch and its base have nothing in common.
    """
    base = (await git.run("merge-base", "HEAD", base_ref)).text.split("\n")[0]
    chain = await git.run("rev-list", "--first-parent", "--parents", "--reverse", f"{base_ref}..HEAD")
    fork = ""
    for line in chain.text.split("\n") if chain.text else ():
        sha, first, *others = line.split(" ")
        if not others:
            return fork or first
        fork = sha
    return fork or base


async def undelivered(git: Git, before: str, after: str, heads: Sequence[str]) -> tuple[str, ...]:
    """Say what of these commits `after` does not hold, which was `before` and merged with them since.

    Returns:
        The commits that it does not reach, then the files that are other than in the only one of them that
        changed them.
    """
    lacks = [f"the commit {head}" for head in heads if not await git.contains(head, after)]
    meant: dict[str, set[str]] = {}
    changed: set[str] = set()
    renamed: dict[str, str] = {}
    for head in heads:
        base = (await git.run("merge-base", before, head)).text.split("\n")[0]
        renamed |= await _renames(git, base, head)
        for path, content in (await _changes(git, base, head)).items():
            meant.setdefault(path, set()).add(content)
        changed |= (await _changes(git, base, before)).keys()
    differ = await _changes(git, before, after)
    was = await _changes(git, after, before)
    wrong = [
        path
        for path, contents in meant.items()
        # Where several changed a file, or the target did, git put them together.
        if all(len(meant.get(one, ())) <= 1 and one not in changed for one in (path, renamed.get(path, path)))
        and (path not in was or differ[path] not in contents)
    ]
    return (*lacks, *sorted(wrong))


async def _renames(git: Git, old: str, new: str) -> dict[str, str]:
    """Return the files that were renamed, each with its old name."""
    words = ("-r", "-z", "-M", "--diff-filter=R", "--name-status", old, new, "--")
    fields = (await git.run("diff-tree", *words)).paths
    return dict(zip(fields[2::3], fields[1::3], strict=True))


async def _changes(git: Git, old: str, new: str) -> dict[str, str]:
    """Return the files that differ, each with its mode and content in `new`."""
    words = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new, "--")
    fields = (await git.run("diff-tree", *words)).paths
    parts = ((path, head.split(" ")) for head, path in zip(fields[::2], fields[1::2], strict=True))
    return {path: f"{mode} {sha}" for path, (_, mode, _, sha, _) in parts if not kept_by_host(path)}


async def _there(git: Git, names: Sequence[str]) -> list[str]:
    """Return the commits of revisions; what cannot be found any more is known of no branch."""
    return [sha for name in dict.fromkeys(names) if (sha := await git.sha(name))]


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
