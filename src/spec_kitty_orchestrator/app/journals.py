"""Where the journals of a repository are, and which missions have one; nothing is started to find that."""

import os
from collections.abc import Mapping
from pathlib import Path

JOURNALS = Path(".kittify") / "orchestrator"

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
