"""The record of a mission that the host leaves uncommitted: a merge would throw it away, so it is committed.

Only what the host alone writes counts, and only where it added to what was there: an edit of a person's, in
whatever file, is theirs to commit.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress

from anyio import to_thread

from spec_kitty_orchestrator.app.repository import (
    MISSIONS,
    MissionFiles,
    changed_paths,
    committed,
    current_branch,
)
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

__all__ = ["commit_record", "own_record"]


async def commit_record(files: MissionFiles, workspaces: GitWorkspaces) -> list[str]:
    """Commit it on the branch where the host keeps it, and say so in lines; none if there is nothing.

    Raises:
        WorkspaceError: git does not say what is uncommitted, or does not commit it.
    """
    paths = await to_thread.run_sync(own_record, files)
    if not paths:
        return []
    checkout = files.status_checkout
    await workspaces.record(checkout, paths, f"chore(spec-kitty): record of {files.slug}")
    branch = await to_thread.run_sync(current_branch, checkout)
    return [f"committed on {branch} what spec-kitty had left uncommitted: {', '.join(paths)}"]


def own_record(files: MissionFiles) -> list[str]:
    """Return what of it is uncommitted, as paths in `status_checkout`; none while it is on another branch.

    Raises:
        WorkspaceError: git does not say.
    """
    checkout, folder = files.status_checkout, f"{MISSIONS}/{files.slug}/"
    branch = current_branch(checkout)
    if not branch or (checkout == files.root and branch != files.target_branch):
        return []
    found = []
    for path in changed_paths(checkout):
        is_own = _OWN.get(path.removeprefix(folder)) if path.startswith(folder) else None
        before = committed(checkout, path) if is_own is not None else None
        if is_own is None or before is None:
            continue
        # What is no file any more is nothing that the host wrote.
        with suppress(OSError):
            if is_own(before, read_whole(checkout / path)):
                found.append(path)
    return found


def _is_longer(before: bytes, now: bytes) -> bool:
    return now.startswith(before) and all(_object(line) is not None for line in now.splitlines())


def _is_json(_before: bytes, now: bytes) -> bool:
    return _object(now) is not None


def _has_more(before: bytes, now: bytes) -> bool:
    """Tell whether the host's notes of a mission differ in nothing but an acceptance."""
    was, found = _object(before), _object(now)
    return was is not None and found is not None and _unaccepted(was) == _unaccepted(found)


def _unaccepted(meta: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in meta.items() if not key.startswith("accept")}


def _object(text: bytes) -> Mapping[str, object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


_OWN: Mapping[str, Callable[[bytes, bytes], bool]] = {
    "status.events.jsonl": _is_longer,
    "status.json": _is_json,
    "meta.json": _has_more,
}
"""By name in a mission's folder: whether a change of the file is the host's."""
