"""Git for reading what a commit really holds, as it is shown to a reviewer.

It reads the objects of the repository and nothing else that an agent could have written: a repository of its
own stands around them, without settings, replaced objects or files, and with the attributes of the commit
that the work began with. So no attribute of the work says that its changes are binary, or are not shown.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.git import Git


@asynccontextmanager
async def evidence(git: Git, base: str) -> AsyncIterator[Git]:
    """Give git for reading commits that `git` knows, with the attributes of the commit `base`.

    Raises:
        WorkspaceError: `base` is not there, or git is broken.
    """
    objects = git.common / "objects" if git.common is not None else await git.file("objects")
    folder = Path(await to_thread.run_sync(tempfile.mkdtemp))
    try:
        repository, tree = folder / "git", folder / "tree"
        await to_thread.run_sync(_make, repository, tree, len(base) > 40)
        shown = Git(
            tree,
            repository,
            settings=(("core.attributesFile", "/dev/null"),),
            index=folder / "index",
            objects=objects,
            alone=True,
        )
        # What is not in the worktree, git takes from the index: so does it with attributes.
        await shown.run("read-tree", base)
        yield shown
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _make(repository: Path, tree: Path, sha256: bool) -> None:
    for made in (tree, repository / "objects", repository / "refs"):
        made.mkdir(parents=True)
    (repository / "HEAD").write_text("ref: refs/heads/none\n")
    lines = ["[core]", f"repositoryformatversion = {int(sha256)}", "bare = false"]
    lines += ["[extensions]", "objectformat = sha256"] if sha256 else []
    (repository / "config").write_text("\n".join(lines) + "\n")
