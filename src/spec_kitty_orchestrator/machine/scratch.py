"""A repository of our own over the objects of another one, for a look at commits.

It has no settings, hooks, replaced objects and refs that anybody else could have written, and what git makes
in it is gone with it: the other repository is only read.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["scratch"]


@asynccontextmanager
async def scratch(
    git: Git, *, sha256: bool, path: Path | None = None, settings: tuple[tuple[str, str], ...] = ()
) -> AsyncIterator[Git]:
    """Give git for commits that `git` knows.

    Args:
        git: of the repository with the commits.
        sha256: whether its objects have such names.
        path: the folder whose files count, with their attributes; None for an empty one.
        settings: the only ones, besides those of every call.

    Raises:
        WorkspaceError: git is broken, or there is no room for temporary files.
    """
    objects = git.common / "objects" if git.common is not None else await git.file("objects")
    folder = await to_thread.run_sync(_make, objects, sha256)
    try:
        yield Git(
            path or folder / "tree",
            folder / "git",
            settings=(("core.attributesFile", os.devnull), *settings),
            index=folder / "index",
            alone=True,
        )
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _make(objects: Path, sha256: bool) -> Path:
    folder = None
    try:
        folder = Path(tempfile.mkdtemp())
        _fill(folder, objects, sha256)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise WorkspaceError(
            f"no temporary files for git can be made: {error.strerror or error}; make room in /tmp, or set "
            "TMPDIR to a folder with room"
        ) from error
    return folder


def _fill(folder: Path, objects: Path, sha256: bool) -> None:
    repository = folder / "git"
    for made in (folder / "tree", repository / "objects" / "info", repository / "refs"):
        made.mkdir(parents=True)
    (repository / "HEAD").write_text("ref: refs/heads/none\n")
    (repository / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects.absolute()) + b"\n")
    with suppress(FileNotFoundError):
        # In a shallow clone, where the history ends.
        shutil.copyfile(objects.parent / "shallow", repository / "shallow")
    lines = ["[core]", f"repositoryformatversion = {int(sha256)}", "bare = false"]
    lines += ["[extensions]", "objectformat = sha256"] if sha256 else []
    (repository / "config").write_text("\n".join(lines) + "\n")
