"""What may be committed, and bringing exactly that into an index; the rest is named with its reason."""

import os
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from anyio import to_thread

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.machine.git import Change, Git

MAX_FILE_BYTES = 5 * 1024 * 1024

_SECRETS = (
    ".env*",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    ".netrc",
    ".pypirc",
    ".git-credentials",
)

_HOST_FOLDERS = (".kittify", "kitty-specs")

TRACES = frozenset({".aider*", *(trace for agent in BUILT_IN.values() for trace in agent.traces)})
"""What agents write for themselves at the top of a worktree, whichever of them work now."""

SECRET = "may hold secrets"  # noqa: S105 - a reason, not a password
HOST = "belongs to spec-kitty, which keeps it itself"
TRACE = "the agent's own files"
BIG = f"larger than {MAX_FILE_BYTES // 1024 // 1024} MB"
_NESTED = "a git repository of its own"


def is_trace(path: str, traces: Collection[str]) -> bool:
    """Tell whether a path is one of an agent's own files; `traces` are patterns of names at the top."""
    top = PurePosixPath(path).parts[0].casefold()
    return any(fnmatchcase(top, pattern.casefold()) for pattern in traces)


def why_not(path: str, traces: Collection[str] = TRACES) -> str:
    """Say why a path must never be committed, "" if it may be; `traces` are patterns of names at the top."""
    parts = [part.casefold() for part in PurePosixPath(path).parts]
    if parts[0] in _HOST_FOLDERS:
        return HOST
    if any(fnmatchcase(parts[-1], pattern) for pattern in _SECRETS) or ".env" in parts[:-1]:
        return SECRET
    if is_trace(path, traces):
        return TRACE
    return ""


async def stage(git: Git, traces: Collection[str]) -> tuple[list[Change], list[str]]:
    """Make the index HEAD plus every change that may be committed.

    Returns:
        Those changes, and the paths of the others, each with the reason.
    """
    # The agent may have staged what must not be committed, or half of a file.
    await git.run("reset", "--quiet", "--mixed")
    changes = await git.changes()
    reasons = await to_thread.run_sync(_judge, git.path, changes, traces)
    allowed = [change for change, reason in zip(changes, reasons, strict=True) if not reason]
    left_out = [f"{c.path}: {reason}" for c, reason in zip(changes, reasons, strict=True) if reason]
    await put_in_index(git, allowed)
    if allowed and (await git.ask("diff", "--cached", "--quiet", "--no-ext-diff")).rc == 0:
        return [], left_out  # only stat information or line endings differed
    return allowed, left_out


def _judge(root: Path, changes: Sequence[Change], traces: Collection[str]) -> list[str]:
    return [_reason(root, change, traces) for change in changes]


def _reason(root: Path, change: Change, traces: Collection[str]) -> str:
    if change.nested:
        return _NESTED
    # What is tracked belongs to the project, wherever it lies.
    reason = why_not(change.path, traces if change.untracked else ())
    try:
        size = (root / change.path).lstat().st_size
    except OSError:
        # Deleting a secret or a trace from the repository is no leak; the host's files stay the host's.
        return reason if reason == HOST else ""
    return reason or (BIG if size > MAX_FILE_BYTES else "")


async def put_in_index(git: Git, changes: Iterable[Change]) -> None:
    """Bring exactly these paths of the index to what the worktree holds."""
    # update-index takes names literally, unlike `git add`, and does not mind a file that vanishes meanwhile.
    present, gone = await to_thread.run_sync(_split, git.path, tuple(changes))
    if gone:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=_nul(gone))
    if present:
        await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=_nul(present))


def _split(root: Path, changes: Sequence[Change]) -> tuple[list[str], list[str]]:
    present: list[str] = []
    gone: list[str] = []
    for change in changes:
        if not change.nested:
            path = root / change.path
            here = os.path.lexists(path) and not _behind_symlink(root, path)
            (present if here else gone).append(change.path)
    return present, gone


def _behind_symlink(root: Path, path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent != root and root in parent.parents)


def _nul(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
