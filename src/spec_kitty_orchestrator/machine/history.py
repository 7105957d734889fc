"""What commits that somebody else made hold that must not be committed; merged side branches included."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.commit_rules import (
    OF_HOST,
    REGENERABLE,
    SECRET,
    SECRET_VALUE,
    TRACE,
    CommitRules,
    regenerable,
)
from spec_kitty_orchestrator.machine.git import OUR_IDENTITY, Git

__all__ = ["offenders", "secrets_of", "tips", "tracked_blobs"]

_READ_AT_ONCE_BYTES = 32 * 1000**2
_RAW = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev")
_MOST_TIPS = 2000


@dataclass(frozen=True)
class _Blob:
    """One changed path of a commit; `status` has a letter for each parent."""

    path: str
    sha: str
    status: str

    @property
    def deleted(self) -> bool:
        return not self.sha.strip("0")

    @property
    def added(self) -> bool:
        return set(self.status) == {"A"}


async def tips(git: Git) -> str:
    """Return one commit, on no branch, from which all that branches, tags and remotes hold now is reached."""
    listed = await git.run(
        "for-each-ref",
        f"--count={_MOST_TIPS}",
        "--sort=-committerdate",
        "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname)",
        "refs/heads",
        "refs/remotes",
        "refs/tags",
    )
    # Of an annotated tag, what it names comes last.
    found = (line.split()[-2:] for line in listed.text.splitlines())
    shas = dict.fromkeys(sha for kind, sha in found if kind == "commit")
    parents = [word for sha in shas for word in ("-p", sha)]
    command = ("commit-tree", "HEAD^{tree}", *parents, "-m", "What was known")
    return (await git.run(*OUR_IDENTITY, *command)).text


async def offenders(git: Git, base: str, known: Sequence[str], rules: CommitRules) -> list[str]:
    """List what must not be in the commits of `base..HEAD`, each with the reason.

    Commits that `known` reaches are passed over: they were made, and judged, elsewhere.
    """
    made = await _made(git, base, [sha for sha in await git.shas(*known) if sha] if known else [])
    if not made:
        return []
    now = {blob.path: blob for blob in _blobs(await git.run("diff-tree", *_RAW, base, "HEAD"))}
    tracked = await tracked_blobs(git, base)
    added = {blob.path for blob in made if blob.added} - set(tracked)
    # What was only moved is the project's too.
    gone = {path: sha for path, sha in tracked.items() if path in now and now[path].deleted}
    had = secrets_of(gone, rules)
    caches = regenerable(added, tracked)
    found: dict[str, str] = {}
    for blob in made:
        # A file that was there before is the project's, wherever it lies.
        reason = rules.by_name(blob.path) if blob.path in added else rules.of_host(blob.path)
        cached = blob.path in caches and not rules.allows(blob.path)
        reason = reason or (REGENERABLE if cached else "")
        if reason != SECRET and blob.path in now and _stays(reason, now[blob.path]):
            found[blob.path] = reason
    # A secret stays in the history even when a later commit deletes it.
    async for blob, data in _contents(git, [one for one in made if not one.deleted]):
        new = blob.path in added and blob.sha not in had
        reason = await _by_content(git, base, blob, data, rules, new=new)
        if reason in (SECRET, SECRET_VALUE):
            found[blob.path] = reason
    remaining = [one for path, one in now.items() if path in added and one.sha not in gone.values()]
    for blob, size in await _sizes(git, remaining):
        if rules.is_big(size) and not rules.allows(blob.path):
            found.setdefault(blob.path, rules.too_big)
    return [f"{path}: {reason}" for path, reason in sorted(found.items())]


def secrets_of(tracked: Mapping[str, str], rules: CommitRules) -> set[str]:
    """Return the blobs that a project keeps although their names say that they may hold secrets."""
    return {name for path, name in tracked.items() if rules.by_name(path) == SECRET}


async def tracked_blobs(git: Git, tree: str) -> dict[str, str]:
    """Return the names of the blobs of a tree, by path."""
    lines = (line.partition("\t") for line in (await git.run("ls-tree", "-r", "-z", tree)).paths)
    return {path: head.split(" ")[2] for head, _, path in lines}


async def _by_content(git: Git, base: str, blob: _Blob, data: bytes, rules: CommitRules, *, new: bool) -> str:
    if new:
        return rules.by_content(blob.path, data, rules.by_name(blob.path))
    if not rules.redactor.knows(data):
        return ""
    before = await git.ask("cat-file", "blob", f"{base}:{blob.path}")
    return "" if before.rc == 0 and rules.redactor.knows(before.stdout) else SECRET_VALUE


def _stays(reason: str, blob: _Blob) -> bool:
    """Tell whether a range leaves behind what must not be committed for this reason."""
    return reason in OF_HOST or (reason in (TRACE, REGENERABLE) and not blob.deleted)


async def _made(git: Git, base: str, known: Sequence[str]) -> list[_Blob]:
    """Return the changes of each commit; of a merge, only what no parent holds like that."""
    commits = await git.run("rev-list", "HEAD", "--not", base, *known)
    if not commits.stdout:
        return []
    changed = ("diff-tree", "--stdin", "--no-commit-id", "--root", "-c", *_RAW)
    return _blobs(await git.run(*changed, stdin=commits.stdout))


def _blobs(reply: Reply) -> list[_Blob]:
    """Read raw diffs: after a colon for each parent, the modes, the objects and the status."""
    fields = reply.paths
    found = []
    for head, path in zip(fields[::2], fields[1::2], strict=True):
        parents = len(head) - len(head.lstrip(":"))
        parts = head[parents:].split(" ")
        found.append(_Blob(path, parts[2 * parents + 1], parts[-1]))
    return found


async def _sizes(git: Git, blobs: Sequence[_Blob]) -> list[tuple[_Blob, int]]:
    kept = [blob for blob in blobs if not blob.deleted]
    if not kept:
        return []
    asked = "".join(f"{blob.sha}\n" for blob in kept).encode()
    reply = await git.run("cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=asked)
    # A submodule's commit is not an object here: git answers "<sha> missing".
    answers = zip(kept, reply.text.split("\n"), strict=True)
    return [(blob, int(line.split(" ")[1])) for blob, line in answers if line.startswith("blob ")]


async def _contents(git: Git, blobs: Sequence[_Blob]) -> AsyncIterator[tuple[_Blob, bytes]]:
    """Read blobs that are not larger than can be read at once, a bounded amount at a time."""
    group: list[tuple[_Blob, int]] = []
    for blob, size in (*await _sizes(git, blobs), (None, 0)):
        if group and (blob is None or sum(one + 64 for _, one in group) + size > _READ_AT_ONCE_BYTES):
            asked = "".join(f"{one.sha}\n" for one, _ in group).encode()
            data = (await git.run("cat-file", "--batch=%(objectname)", stdin=asked)).stdout
            for one, length in group:
                start = data.index(b"\n") + 1
                yield one, data[start : start + length]
                data = data[start + length + 1 :]
            group = []
        if blob is not None and size <= _READ_AT_ONCE_BYTES - 64:
            group.append((blob, size))
