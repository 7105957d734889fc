"""Repositories inside a worktree: what is in them is in no commit of the worktree, and is lost with it.

A commit holds of a submodule no more than the name of a commit, which somebody else must have.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.commit_rules import regenerable
from spec_kitty_orchestrator.machine.configuration import Configuration
from spec_kitty_orchestrator.machine.git import Change, Git

__all__ = ["Link", "declared", "edits_in", "inside_of", "is_held", "links", "links_among", "problems"]

_MOST_NAMED = 5
_NESTED = (
    "is a git repository of its own, so nothing in it can be part of a commit here. "
    "Remove PATH.git if its files belong to the work; else delete the folder, or make it a submodule of a "
    "repository that others can fetch."
)


@dataclass(frozen=True)
class Link:
    """A path at which the index holds the name of another repository's commit."""

    path: str
    commit: str


async def links(git: Git, tree: str = "") -> tuple[Link, ...]:
    """Return the submodules of a tree, or of the index. Raises `WorkspaceError`."""
    if not tree:
        return links_among((await git.run("ls-files", "-s", "-z")).paths)
    return links_among((await git.run("ls-tree", "-r", "-z", tree)).paths, place=2)


def links_among(lines: Iterable[str], place: int = 1) -> tuple[Link, ...]:
    """Return the submodules among the lines of `ls-files -s`; of another list, the name's place is given."""
    found = (line.partition("\t") for line in lines if line.startswith("160000 "))
    return tuple(Link(path, head.split(" ")[place]) for head, _, path in found)


async def declared(git: Git) -> frozenset[str]:
    """Return the paths of submodules for which `.gitmodules` names a place to fetch from."""
    if not await to_thread.run_sync(os.path.lexists, git.path / ".gitmodules"):
        return frozenset()
    listed = await git.ask(
        "config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$"
    )
    named = dict(entry.partition("\n")[::2] for entry in listed.paths)
    paths = {key.removesuffix("path"): path for key, path in named.items() if key.endswith(".path")}
    return frozenset(path for name, path in paths.items() if named.get(f"{name}url"))


async def problems(git: Git, base: str, known: Sequence[str], nested: Sequence[str]) -> list[str]:
    """Say of each repository inside the worktree what the implementer must do before work can be committed.

    Args:
        git: in the worktree; its index holds what is to be committed.
        base: the commit before the work.
        known: revisions of which all that they reach was made by others.
        nested: untracked folders that are repositories.

    Raises:
        WorkspaceError: git is broken.
    """
    told = [f"{path} {_NESTED}".replace("PATH", path) for path in nested]
    here = await links(git)
    elsewhere = await declared(git) if here else frozenset()
    committed = {link.path: link.commit for link in await links(git, "HEAD")} if here else {}
    for path, commit in ((link.path, link.commit) for link in here):
        inside = await inside_of(git, path)
        own = await git.run("rev-list", "--count", "HEAD", "--not", base, *known, "--", path)
        if own.text != "0" or commit != committed.get(path):
            said = await _unknown(path, commit, inside, path in elsewhere)
            told += [said] if said else []
        told += await _edited(inside, path) if inside is not None else []
    return told


async def inside_of(git: Git, path: str) -> Git | None:
    """Return git in a repository inside the worktree; None if none is checked out."""
    folder = git.path / path
    if not await to_thread.run_sync(os.path.exists, folder / ".git"):
        return None
    inside = Git(folder, foreign=True)
    top = await inside.ask("rev-parse", "--show-toplevel")
    if top.rc != 0 or not await to_thread.run_sync(lambda: Path(top.text).resolve() == folder.resolve()):
        return None
    return inside


async def _edited(inside: Git, path: str) -> list[str]:
    edits = await edits_in(inside)
    if not edits:
        return []
    more = f" and {len(edits) - _MOST_NAMED} more" if len(edits) > _MOST_NAMED else ""
    told = (
        f"{path} is a submodule, and changes in it ({', '.join(edits[:_MOST_NAMED])}{more}) are in no commit "
        "here. Commit and push them in its own repository, or undo them: "
        f"`git -C {path} restore --staged --worktree .` and `git -C {path} clean -d --force`."
    )
    return [told]


async def edits_in(inside: Git) -> list[str]:
    """Name what a repository holds beside its commit, without what a tool can make again."""
    inside = replace(inside, settings=(await Configuration.read(inside)).without_filters(own=True))
    shown = await inside.run(
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
    )
    changes = [Change(line[:2], line[3:]) for line in shown.paths]
    new = [change.path for change in changes if change.untracked]
    caches = regenerable(new, (await inside.run("ls-files", "-z")).paths) if new else {}
    return [change.path for change in changes if change.path not in caches]


async def is_held(inside: Git, commit: str) -> bool:
    """Tell whether a remote of a repository has a commit, as far as it was fetched."""
    held = await inside.ask("for-each-ref", "--count=1", f"--contains={commit}", "refs/remotes")
    return held.rc == 0 and bool(held.text)


async def _unknown(path: str, commit: str, inside: Git | None, is_declared: bool) -> str:
    """Say why others may not have a submodule's commit, "" if a remote of it has."""
    start = f"{path} is recorded as commit {commit} of another repository, "
    undo = (
        f" Take it out (`git rm --cached --force -- {path}`) and remove its "
        ".git if its files belong to the work."
    )
    if not is_declared:
        return f"{start}and .gitmodules does not say which: nobody else can have it.{undo}"
    if inside is None:
        return f"{start}which is not checked out here, so whether others have it cannot be seen.{undo}"
    if not await is_held(inside, commit):
        return (
            f"{start}which no remote of it holds: nobody else has it. Push it there and fetch, or go back "
            "to a commit that a remote holds."
        )
    return ""
