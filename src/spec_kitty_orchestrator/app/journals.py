"""Where the journals of a repository are, and which missions have one; nothing is started to find that."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.logs import JOURNALS

__all__ = ["find_journal", "journaled", "root_around", "run_here"]

_LEADS_ELSEWHERE = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES"})


def journaled(root: Path) -> list[str]:
    """Return the missions that have a journal here, the most recent first."""
    journals = (root / JOURNALS).glob("*/journal.jsonl")
    return [path.parent.name for path in sorted(journals, key=lambda path: -path.stat().st_mtime)]


def find_journal(root: Path, mission: str) -> str | None:
    """Return the slug of a mission with a journal here, also for the id at its end; None without one."""
    known = journaled(root)
    found = [one for one in known if one == mission] or [one for one in known if one.endswith(f"-{mission}")]
    return found[0] if len(found) == 1 else None


def run_here(root: Path, mission: str | None) -> str:
    """Return the slug of the mission that was named, also by the id at its end, or of the one run last.

    Raises:
        UsageError: it was not run here, or none was.
    """
    known = journaled(root)
    if mission is None:
        if not known:
            raise UsageError("no mission was run here yet; `orchestrate` starts one")
        return known[0]
    found = find_journal(root, mission)
    if found is None:
        from spec_kitty_orchestrator.app.repository import listed

        runs = f"; run here: {listed(known, mission)}" if known else ""
        raise UsageError(f"{mission} was not run here{runs}; `orchestrate` starts it")
    return found


def root_around(start: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the primary checkout; git is asked only where it is not plain to see. Raises `UsageError`."""
    found = journals_around(start, environ)
    if found is not None:
        return found
    from spec_kitty_orchestrator.app.repository import find_repo_root
    from spec_kitty_orchestrator.app.trust import keep_out_untrusted

    with suppress(OSError):  # whoever looks for the project says that the current folder is gone
        keep_out_untrusted(start or Path.cwd())
    return find_repo_root(start)


def journals_around(start: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the checkout around a folder if it plainly is one with journals; None if git must be asked."""
    if not _LEADS_ELSEWHERE.isdisjoint(environ):
        return None
    try:
        folder = (start or Path.cwd()).resolve()
    except OSError:
        return None
    root = next((one for one in (folder, *folder.parents) if os.path.lexists(one / ".git")), folder)
    return root if (root / ".git").is_dir() and (root / JOURNALS).is_dir() else None
