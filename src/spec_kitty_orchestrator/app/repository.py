"""What we read from the repository without the host: its root, its missions, its checkout.

This serves explanations and suggestions; only the host knows lanes.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.git import Git, failure
from spec_kitty_orchestrator.machine.logs import LOGS as LOGS

GIT_LIMIT_S = 30.0
MOST_NAMES = 5
"""In a message: a repository can have hundreds of missions."""
MISSIONS = "kitty-specs"
JOURNALS = Path(".kittify") / "orchestrator"

LONGEST_FRONT_MATTER = 64 * 1024

_KEY = re.compile(r"([A-Za-z_]\w*):(?:\s+(.*))?")
_ITEM = re.compile(r"\s*-\s+(.*)")


def find_repo_root(start: Path) -> Path:
    """Return the primary checkout of the git repository that `start` lies in, even from inside a worktree.

    Raises:
        UsageError: if `start` is not in a git repository with a checkout.
        WorkspaceError: if git cannot be run.
    """
    try:
        known = start.is_dir()
    except OSError as error:
        raise UsageError(f"{start} cannot be looked at: {error.strerror}; give another --repo-root") from None
    if not known:
        raise UsageError(f"{start} is not a directory; give the repository with --repo-root")
    top = _git(start, "rev-parse", "--show-toplevel")
    if not top:
        raise UsageError(
            f"{start.resolve()} is not in a git repository; "
            "change into the project or give it with --repo-root"
        )
    if _git(start, "rev-parse", "--path-format=absolute", "--git-common-dir") == _git(
        start, "rev-parse", "--path-format=absolute", "--git-dir"
    ):
        return Path(top).resolve()
    first = _git(start, "worktree", "list", "--porcelain").splitlines()[0]
    return Path(first.removeprefix("worktree ")).resolve()


def distrusted(start: Path) -> bool:
    """Return whether git refuses the repository because another user owns it."""
    return (
        start.is_dir()
        and b"dubious ownership" in Git(start).ask_now("rev-parse", timeout_s=GIT_LIMIT_S).stderr
    )


def branch_of(root: Path, slug: str) -> str:
    """Return the branch that last changed a mission's folder, "" if none has it."""
    path = f"{MISSIONS}/{slug}/meta.json"
    ref = _git(root, "log", "--branches", "--source", "-1", "--format=%S", "--", path)
    return ref.removeprefix("refs/heads/")


def current_branch(root: Path) -> str:
    """Return the branch that is checked out, or "" when HEAD is detached."""
    return _git(root, "symbolic-ref", "--short", "-q", "HEAD")


def _git(directory: Path, *args: str) -> str:
    """Return git's output, "" if it failed."""
    reply = Git(directory).ask_now(*args, timeout_s=GIT_LIMIT_S)
    return reply.text if reply.rc == 0 else ""


@dataclass(frozen=True)
class MissionFiles:
    """What a mission's folder says, as far as it is readable.

    Attributes:
        target_branch: where the mission's planning lives and its work is merged; "" if unknown.
        topology: one of the host's four, "" if unknown.
        work_packages: files `tasks/WP*.md`.
        has_lanes: whether the host gives branches to its work packages, and can merge them.
    """

    slug: str
    target_branch: str
    topology: str
    work_packages: tuple[str, ...]
    has_lanes: bool

    @property
    def coordinated(self) -> bool:
        """Whether the mission keeps its status on a coordination branch."""
        return "coord" in self.topology


def missions(root: Path) -> list[str]:
    """Return the slugs of the missions in the checkout, sorted."""
    folder = root / MISSIONS
    return sorted(path.parent.name for path in folder.glob("*/meta.json")) if folder.is_dir() else []


def listed(known: Sequence[str], wanted: str) -> str:
    """List names for people, those most like `wanted` first, and count the rest."""
    shown = get_close_matches(wanted, known, n=MOST_NAMES, cutoff=0.0)
    more = len(known) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def journaled(root: Path) -> list[str]:
    """Return the missions that have a journal here, the most recent first."""
    journals = (root / JOURNALS).glob("*/journal.jsonl")
    return [path.parent.name for path in sorted(journals, key=lambda path: -path.stat().st_mtime)]


def mission_files(root: Path, slug: str) -> MissionFiles:
    """Read a mission's folder; whatever is missing or broken is left empty."""
    folder = root / MISSIONS / slug
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
    except (OSError, ValueError):
        meta = {}
    meta = meta if isinstance(meta, dict) else {}
    files = tuple(sorted(path.name for path in (folder / "tasks").glob("WP*.md")))
    return MissionFiles(
        slug=slug,
        target_branch=str(meta.get("target_branch") or ""),
        topology=str(meta.get("topology") or ""),
        work_packages=files,
        has_lanes=(folder / "lanes.json").exists(),
    )


@dataclass(frozen=True)
class TaskFile:
    """What a work package's file says of it, as far as it can be read: "" and () if it does not."""

    title: str
    subtasks: tuple[str, ...]


def task_files(root: Path, slug: str) -> dict[str, TaskFile]:
    """Read the front matter of a mission's `tasks/WP*.md`, by the id that a file's name begins with."""
    found: dict[str, TaskFile] = {}
    for path in sorted((root / MISSIONS / slug / "tasks").glob("WP*.md")):
        wp = re.match(r"WP\d+", path.name)
        if wp is not None and wp.group() not in found:
            with suppress(OSError, ValueError):
                found[wp.group()] = _task_file(path)
    return found


def _task_file(path: Path) -> TaskFile:
    if not path.is_file():
        return TaskFile("", ())
    with path.open(encoding="utf-8") as file:
        lines = _front_matter(file.read(LONGEST_FRONT_MATTER).splitlines())
    title, subtasks = lines.get("title", []), lines.get("subtasks", [])
    if len(subtasks) == 1 and subtasks[0].startswith("[") and subtasks[0].endswith("]"):
        items = [_text(one) for one in subtasks[0][1:-1].split(",") if one.strip()]
    else:
        items = [_text(one[1] if (one := _ITEM.fullmatch(line)) else "") for line in subtasks[1:]]
        items += [""] * bool(subtasks and subtasks[0])
    # A part of a list would be told as the whole.
    return TaskFile(_text(title[0]) if len(title) == 1 else "", tuple(items) if all(items) else ())


def _front_matter(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return by key what stands behind it, and the lines that belong to it: YAML of the simplest form."""
    found: dict[str, list[str]] = {}
    belongs: list[str] = []
    for number, line in enumerate(lines):
        if (line.rstrip() == "---") is not (number == 0):
            return found if number else {}
        key = _KEY.fullmatch(line.rstrip())
        if key is not None:
            belongs = found[key[1]] = [(key[2] or "").strip()]
        elif number and line.strip() and not line.lstrip().startswith("#"):
            belongs.append(line.rstrip())
    return {}


def _text(value: str) -> str:
    """Return what a plain or quoted text of one line says, "" if it is anything else."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        inner = value[1:-1]
        if value[0] == "'":
            plain = inner.replace("''", "")
            return "" if "'" in plain else inner.replace("''", "'")
        return "" if '"' in inner or "\\" in inner else inner
    value = value.partition(" #")[0].rstrip()
    odd = value.startswith(tuple("|>&*!%@`{}[]\"'#,?-:~")) or ": " in value or value.endswith(":")
    return "" if odd or value in ("null", "Null", "NULL") else value


def status_checkout(root: Path, files: MissionFiles) -> Path:
    """Return the checkout in which the host writes the mission's status, and the record of its acceptance."""
    coordination = root / ".worktrees" / f"{files.slug}-coord"
    return coordination if files.coordinated and coordination.is_dir() else root


def unsaved(root: Path, files: MissionFiles) -> list[Path]:
    """Find uncommitted changes that the host's merge would throw away when it resets the target's checkout.

    Raises:
        WorkspaceError: git cannot be run.
    """
    status = [f"{MISSIONS}/{files.slug}/status.events.jsonl", f"{MISSIONS}/{files.slug}/status.json"]
    coordination = status_checkout(root, files)
    # If a coordination worktree keeps the status, the copy in the primary checkout does not count.
    changed = [root / path for path in _changed(root) if not (files.coordinated and path in status)]
    if coordination != root:
        changed += [coordination / path for path in _changed(coordination)]
    return changed


def _changed(checkout: Path) -> list[str]:
    words = ("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
    reply = Git(checkout).ask_now(*words, timeout_s=GIT_LIMIT_S)
    if reply.rc != 0:
        # Silence would read as "nothing is uncommitted", and a merge would throw it away.
        raise failure(checkout, words, reply, what="`git status`")
    return [line[3:] for line in reply.paths]
