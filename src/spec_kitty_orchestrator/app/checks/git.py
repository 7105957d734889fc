"""Checks of git and of worktrees; nothing in them is changed."""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, error, line, noted, ok, some, warning
from spec_kitty_orchestrator.machine import conflicts
from spec_kitty_orchestrator.machine.commit_rules import ignoring, regenerable
from spec_kitty_orchestrator.machine.committer import why_not_signed
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.repository import Repository

__all__ = ["check_git", "check_repository", "check_worktree"]

OLDEST_GIT = (2, 31)
"""The first with `rev-parse --path-format`, which distinguishes worktrees from the primary checkout."""
GIT_LIMIT_S = 60.0
WITHOUT_FORECAST = f"; {'.'.join(map(str, conflicts.OLDEST_GIT))} or newer foresees which branches conflict"


LOCK_S = 2.0
"""How long git has a branch or its settings locked at most, in seconds."""

WORKTREES = ".worktrees"
"""Where the host puts worktrees, in the primary checkout."""

_TOOLS = {
    "pyproject.toml": ("__pycache__/", "__pycache__/a.pyc"),
    "setup.py": ("__pycache__/", "__pycache__/a.pyc"),
    "requirements.txt": ("__pycache__/", "__pycache__/a.pyc"),
    "package.json": ("node_modules", "node_modules/a"),
}
"""By the file that tells of a tool: the pattern for what it makes, and such a file."""


async def check_repository(root: Path) -> list[Finding]:
    """Check git itself and the primary checkout."""
    return [
        *await check_git(root),
        *await _check(root, (_lock, _stale_worktrees, _remote_head, _partial, _caches, _worktrees_ignored)),
    ]


async def check_git(root: Path) -> list[Finding]:
    """Check what every start of a run needs: without it the host cannot commit anything."""
    return await _check(root, (_version, _identity, _signature, _operation, _shared_locks))


async def _check(root: Path, checks: Sequence[Callable[[Git], Awaitable[list[Finding]]]]) -> list[Finding]:
    found: list[Finding] = []
    for check in checks:
        with noted(found, "git.works", who=f"git in {root}"), anyio.fail_after(GIT_LIMIT_S):
            found += await check(Git(root))
    return found


async def _version(git: Git) -> list[Finding]:
    said = (await git.run("--version")).text
    number = re.search(r"(\d+)\.(\d+)", said)
    if number and (int(number[1]), int(number[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        return [error("git.version", f"{said} is too old: {oldest} or newer is needed")]
    without = "" if number and (int(number[1]), int(number[2])) >= conflicts.OLDEST_GIT else WITHOUT_FORECAST
    return [ok("git.version", f"{said}{without}")]


async def _identity(git: Git) -> list[Finding]:
    # The host commits its status with git's identity; without one it reports conflicts instead.
    for variable in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if (await git.ask("var", variable)).rc != 0:
            settings = (("user.name", "Your Name"), ("user.email", "you@example.com"))
            fix = " && ".join(line("git", "-C", git.path, "config", *pair) for pair in settings)
            text = "git does not know who commits, so the host cannot commit either"
            return [error("git.identity", text, fix)]
    return [ok("git.identity", "git knows who commits")]


async def _signature(git: Git) -> list[Finding]:
    reason = await why_not_signed(git)
    if not reason:
        return []
    text = f"git cannot sign commits while nobody is asked for a passphrase: {reason}; unlock the key, or:"
    return [error("git.signature", text, line("git", "-C", git.path, "config", "commit.gpgsign", "false"))]


async def _operation(git: Git) -> list[Finding]:
    name = await git.operation()
    if not name:
        return [ok("git.operation", f"no merge or rebase is in progress in {git.path}")]
    fix = line("git", "-C", git.path, name, "--continue")
    return [error("git.operation", f"a {name} is in progress in {git.path}: finish or abort it", fix)]


async def _lock(git: Git) -> list[Finding]:
    lock = await git.file("index.lock")
    if not await anyio.Path(lock).exists():
        return []
    text = f"git's index is locked in {git.path}: a git is running, or one was killed and left {lock}"
    return [error("git.lock", text, line("rm", "--", lock))]


async def _shared_locks(git: Git) -> list[Finding]:
    """Name locks that keep every worktree from its branch, if they are there for longer than git needs."""
    branches, settings = await git.file("refs/heads"), await git.file("config.lock")
    locks = await to_thread.run_sync(_files, settings, branches)
    if not locks:
        return []
    await anyio.sleep(LOCK_S)
    left = [one for one in locks if await anyio.Path(one).exists()]
    if not left:
        return []
    text = f"branches or settings are locked in {git.path}: a git was killed and left {some(left)}"
    return [error("git.lock", text, line("rm", "--", *left))]


def _files(settings: Path, branches: Path) -> list[Path]:
    return [one for one in (settings, *sorted(branches.rglob("*.lock"))) if one.is_file()]


async def _partial(git: Git) -> list[Finding]:
    filters = await git.ask("config", "--get-regexp", r"^remote\..*\.partialclonefilter$")
    found: list[Finding] = []
    for key in (one.split()[0] for one in filters.text.splitlines() if filters.rc == 0):
        remote = key.removeprefix("remote.").removesuffix(".partialclonefilter")
        text = (
            f"a partial clone: git asks {remote} for what it lacks, also while agents work; "
            "where it gets no answer, the host may meet a conflict where there is none"
        )
        here = ("git", "-C", git.path)
        whole = line(*here, "fetch", "--refetch", "--no-filter", remote)
        found.append(warning("git.partial", text, f"{whole} && {line(*here, 'config', '--unset', key)}"))
    return found


async def _caches(git: Git) -> list[Finding]:
    tracked = (await git.run("ls-files", "-z")).paths
    new = (await git.run("ls-files", "-z", "--others", "--exclude-standard")).paths
    found = {ignoring(top) for top in regenerable(new, tracked).values()}
    for pattern, example in {tool for marker, tool in _TOOLS.items() if marker in tracked}:
        if (await git.ask("check-ignore", "--quiet", "--no-index", "--", example)).rc != 0:
            found.add(pattern)
    if not found:
        return []
    text = f"git does not ignore what tools can make again, and it gets in the way: {some(sorted(found))}"
    lines = line("printf", "%s\\n", *sorted(found))
    return [warning("git.ignored", text, f"{lines} >>{line(git.path / '.gitignore')}")]


async def _worktrees_ignored(git: Git) -> list[Finding]:
    tracked = (await git.run("ls-files", "-z", "--", WORKTREES)).paths
    ignored = await git.ask("check-ignore", "--quiet", "--no-index", "--", f"{WORKTREES}/lane")
    if not tracked and ignored.rc == 0:
        return []
    exclude = await git.file("info/exclude")
    parts = []
    if ignored.rc != 0:
        folder = line("mkdir", "-p", "--", exclude.parent)
        written = line("printf", "%s\\n", f"/{WORKTREES}/")
        parts.append(f"{folder} && {written} >>{line(exclude)}")
    if tracked:
        parts.append(line("git", "-C", git.path, "rm", "-r", "-q", "-f", "--cached", "--", WORKTREES))
    taken = "git tracks" if tracked else "git does not ignore"
    text = f"{taken} {WORKTREES}/, where the host puts worktrees: `git add --all` commits them as submodules"
    return [warning("git.worktrees_ignored", text, " && ".join(parts))]


async def _stale_worktrees(git: Git) -> list[Finding]:
    listed = (await git.run("worktree", "list", "--porcelain")).text.split("\n\n")
    gone = [one.splitlines()[0] for one in listed if "\nprunable" in one]
    stale = [one.removeprefix("worktree ") for one in gone]
    if not stale:
        return [ok("git.worktrees", "every worktree that git knows is there")]
    text = f"git knows worktrees whose folders are gone: {some(stale)}"
    return [warning("git.worktrees", text, line("git", "-C", git.path, "worktree", "prune"))]


async def _remote_head(git: Git) -> list[Finding]:
    remote = await git.ask("remote", "get-url", "origin")
    head = await git.ask("rev-parse", "--quiet", "--verify", "refs/remotes/origin/HEAD")
    if remote.rc != 0 or head.rc == 0:
        return []
    text = "git does not know the default branch of origin, so the host asks the network at each change"
    fix = line("git", "-C", git.path, "remote", "set-head", "origin", "--auto")
    return [warning("git.remote_head", text, fix)]


async def check_worktree(root: Path, path: Path, about: str, *, ours: bool) -> list[Finding]:
    """Check that the worktree of the work packages `about` can be used; in one of `ours` a run goes on."""
    found: list[Finding] = []
    with noted(found, "worktree.works", about, f"git in {path}"), anyio.fail_after(GIT_LIMIT_S):
        if not await anyio.Path(path).exists():
            return []
        git = await (await Repository.open(root)).peek(path)
        if git is None:
            text = f"{path} is in the way of the worktree of {about}: it is not a worktree"
            return [error("worktree.works", text, line("mv", "--", path, f"{path}.aside"), about)]
        found += [one for one in (*await _operation(git), *await _lock(git)) if one.fix]
        changed = [change.path for change in await git.changes()]
        if changed and not found:
            make, so = (warning, "goes into the next commit") if ours else (error, "keeps the host from it")
            saved = line("git", "-C", path, "stash", "push", "--include-untracked")
            held = f"holds uncommitted work, which {so}: {some(changed)} in {path}"
            found.append(make("worktree.clean", f"the worktree of {about} {held}", saved, about))
    return found
