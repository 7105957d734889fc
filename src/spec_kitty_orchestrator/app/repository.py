"""What we read from the repository without the host: its root, its missions, its checkout.

This serves explanations and suggestions; only the host knows lanes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from spec_kitty_orchestrator.app.checks import line
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.files import is_text, read_whole
from spec_kitty_orchestrator.machine.git import BRANCHES, Git, failure
from spec_kitty_orchestrator.machine.task_file import TaskFile, read_task_file

__all__ = [
    "GIT_LIMIT_S",
    "MISSIONS",
    "PROJECT",
    "MissionFiles",
    "bare_fix",
    "changed_paths",
    "checkouts",
    "committed",
    "current_branch",
    "distrusted",
    "finalize_command",
    "find_repo_root",
    "has_branch",
    "held_elsewhere",
    "listed",
    "mission_files",
    "missions",
    "on_a_remote",
    "on_branch",
    "primary_checkout",
    "start_folder",
    "switch_command",
    "task_files",
]

GIT_LIMIT_S = 30.0
MOST_NAMES = 5
"""In a message: a repository can have hundreds of missions."""
MISSIONS = "kitty-specs"
PROJECT = ".kittify"

TOPOLOGIES = ("single_branch", "lanes", "coord", "lanes_with_coord")
"""What a mission's meta.json may say of it; older ones say nothing."""

_SHORT_ID = re.compile(r"-[0-9A-HJKMNP-TV-Z]{8}\Z")


def start_folder(given: Path | None) -> Path:
    """Return the folder in which a project is looked for: the current one unless one is given."""
    try:
        return given or Path.cwd()
    except OSError:
        raise UsageError(
            "the current directory is gone; change into the project or give it with --repo-root"
        ) from None


def find_repo_root(start: Path | None) -> Path:
    """Return the checkout that the host works in when it is called in `start`.

    That is the primary one, even from inside a worktree. Where there is none, because the repository is bare,
    or where only the worktree holds a project, it is the worktree.

    Raises:
        UsageError: if `start`, or else the current folder, is not in a git repository with a checkout.
        WorkspaceError: if git cannot be run.
    """
    start = start_folder(start)
    try:
        known = start.is_dir()
    except OSError as error:
        raise UsageError(f"{start} cannot be looked at: {error.strerror}; give another --repo-root") from None
    if not known:
        raise UsageError(f"{start} is not a directory; give the repository with --repo-root")
    words = ("--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir")
    top, *folders = _git(start, "rev-parse", *words).split("\n")
    if not top:
        if fix := bare_fix(start):
            raise UsageError(f"{start.resolve()} has no checkout: git takes it for a bare repository\n{fix}")
        raise UsageError(
            f"{start.resolve()} is not in a git repository; "
            "change into the project or give it with --repo-root"
        )
    if len(set(folders)) > 1:  # a worktree
        top = str(_taken(start, Path(top)))
    root = Path(top).resolve()
    if not is_text(root):
        raise UsageError(
            f"the path of the repository is no UTF-8, so neither spec-kitty nor the journal can hold it: "
            f"{str(root)!a}; rename the folder or clone into another one"
        )
    return root


def _taken(start: Path, worktree: Path) -> Path:
    main, bare = primary_checkout(start)
    alone = (worktree / PROJECT).is_dir() and not (main / PROJECT).is_dir()
    return worktree if bare or alone else main


def primary_checkout(start: Path) -> tuple[Path, bool]:
    """Return the primary checkout of the repository around `start`, or its folder, and whether it is bare."""
    primary, *about = _git(start, "worktree", "list", "--porcelain").split("\n\n")[0].split("\n")
    return Path(primary.removeprefix("worktree ")), "bare" in about


def checkouts(root: Path) -> dict[Path, str]:
    """Return the branch of each other checkout of the repository, "" for a detached HEAD."""
    found = {}
    for entry in _git(root, "worktree", "list", "--porcelain").split("\n\n"):
        place, *about = entry.split("\n")
        branch = next((line.partition(" ")[2] for line in about if line.startswith("branch ")), "")
        found[Path(place.removeprefix("worktree ")).resolve()] = branch.removeprefix("refs/heads/")
    found.pop(root.resolve(), None)
    return found


def bare_fix(start: Path) -> str:
    """Return the command that leads from a repository without a checkout to one, "" for anything else."""
    bare, _, folder = _git(start, "rev-parse", "--is-bare-repository", "--absolute-git-dir").partition("\n")
    if bare != "true":
        return ""
    place = Path(folder)
    if place.name == ".git":
        # It was made with a checkout, and something has set this since.
        return line("git", "-C", place.parent, "config", "core.bare", "false")
    copy = place.with_name(place.name.removesuffix(".git") + "-clone")
    return f"{line('git', 'clone', place, copy)} && {line('cd', copy)}"


def distrusted(start: Path) -> bool:
    """Return whether git refuses the repository because another user owns it."""
    return start.is_dir() and b"dubious ownership" in _ask(start, "rev-parse").stderr


def current_branch(root: Path) -> str:
    """Return the branch that is checked out, or "" when HEAD is detached."""
    # The short name is another one where a tag is named like the branch.
    return _git(root, "symbolic-ref", "-q", "HEAD").removeprefix(BRANCHES)


def has_branch(root: Path, name: str) -> bool:
    """Tell whether a branch of this name is in the repository itself."""
    return bool(name) and has_commit(root, BRANCHES + name)


def on_a_remote(root: Path, name: str) -> str:
    """Return a branch as a remote has it, for example `origin/main`, "" if none is known to have it."""
    found = _git(root, "for-each-ref", "--format=%(refname)", f"refs/remotes/*/{name}") if name else ""
    return found.partition("\n")[0].removeprefix("refs/remotes/")


def has_commit(root: Path, name: str) -> bool:
    """Tell whether a commit, given by its id or a full name, is in the repository."""
    return _ask(root, "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}").rc == 0


def on_branch(root: Path) -> str:
    """Say what is checked out."""
    branch = current_branch(root)
    return f"the branch {branch}" if branch else "a detached HEAD"


def held_elsewhere(root: Path, branch: str) -> str:
    """Say which worktree has a branch that the host needs in the primary checkout, "" if none."""
    holders = [path for path, held in checkouts(root).items() if held == branch]
    return f", which the worktree {holders[0]} has (the host works in {root} alone)" if holders else ""


def switch_command(root: Path, branch: str) -> str:
    """Return the command with which the checkout gets a branch, also from a worktree that has it now."""
    holders = [path for path, held in checkouts(root).items() if held == branch]
    freed = [line("git", "-C", path, "switch", "--detach") for path in holders]
    return " && ".join([*freed, line("git", "-C", root, "switch", branch)])


def finalize_command(slug: str) -> str:
    """Return the command with which the host finalizes the tasks of a mission."""
    return line("spec-kitty", "agent", "mission", "finalize-tasks", "--mission", slug)


def _git(directory: Path, *args: str) -> str:
    """Return git's output, "" if it failed."""
    reply = _ask(directory, *args)
    return reply.text if reply.rc == 0 else ""


def _ask(directory: Path, *args: str) -> Reply:
    return Git(directory).ask_now(*args, timeout_s=GIT_LIMIT_S)


@dataclass(frozen=True)
class MissionFiles:
    """What a mission's folder in the primary checkout `root` says, as far as it is readable.

    Attributes:
        target_branch: where the mission's planning lives and its work is merged; "" if unknown.
        coordinated: whether the mission keeps its status on a coordination branch.
        work_packages: how many files `tasks/WP*.md` there are.
        has_lanes: whether the host gives branches to its work packages, and can merge them.
        meta: what meta.json holds.
        lanes: what lanes.json holds.
    """

    root: Path
    slug: str
    target_branch: str
    coordinated: bool
    work_packages: int
    has_lanes: bool
    meta: Mapping[str, object] = field(default_factory=dict)
    lanes: Mapping[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files are in the primary checkout."""
        return self.root / MISSIONS / self.slug

    def in_lanes(self, key: str) -> str:
        """Return a text of lanes.json, "" if it has none."""
        value = self.lanes.get(key)
        return value if isinstance(value, str) else ""

    def status_branch(self, here: str) -> str:
        """Return the branch that the host commits lanes to while `here` is checked out, "" if to none.

        It commits if the mission has a coordination branch, or a folder that is named with its id: to the
        target branch, or to what is checked out if the mission is older than topologies.
        """
        if self.coordination_branch:
            return self.coordination_branch
        short = str(self.meta.get("mid8") or str(self.meta.get("mission_id") or "")[:8])
        if not (self.slug.endswith(f"-{short}") if short else _SHORT_ID.search(self.slug)):
            return ""
        modern = self.meta.get("topology") in TOPOLOGIES or bool(self.meta.get("flattened"))
        return self.target_branch if modern else here

    @property
    def home(self) -> str:
        """The target branch, or else the branch that last changed the folder, "" if none has it."""
        words = ("log", "--branches", "--source", "-1", "--format=%S", "--")
        changed = "" if self.target_branch else _git(self.root, *words, f"{MISSIONS}/{self.slug}/meta.json")
        return self.target_branch or changed.removeprefix("refs/heads/")

    @property
    def coordination(self) -> Path | None:
        """The worktree of the coordination branch, None if there is none."""
        place = self.coordination_checkout
        return place if self.coordinated and place.is_dir() else None

    @property
    def status_checkout(self) -> Path:
        """Where the host writes the mission's status, and the record of its acceptance."""
        return self.coordination or self.root

    @property
    def coordination_branch(self) -> str:
        """The branch on which the host keeps the mission's status, "" if it has none of its own."""
        named = self.meta.get("coordination_branch")
        return named if isinstance(named, str) else ""

    @property
    def coordination_checkout(self) -> Path:
        """Where the host has the coordination branch checked out."""
        short = str(self.meta.get("mission_id") or "")[:8]
        name = self.slug if not short or self.slug.endswith(f"-{short}") else f"{self.slug}-{short}"
        return self.root / ".worktrees" / f"{name}-coord"

    def unsaved(self) -> list[Path]:
        """Find uncommitted changes that the host's merge throws away when it resets the target's checkout.

        Raises `WorkspaceError` if git does not say.
        """
        status = [f"{MISSIONS}/{self.slug}/status.{suffix}" for suffix in ("events.jsonl", "json")]
        # If a coordination worktree keeps the status, the copy in the primary checkout does not count.
        kept = [path for path in changed_paths(self.root) if not (self.coordinated and path in status)]
        changed = [self.root / path for path in kept]
        if self.status_checkout != self.root:
            changed += [self.status_checkout / path for path in changed_paths(self.status_checkout)]
        return changed

    @property
    def accepted(self) -> bool:
        """Whether the host has recorded the mission's acceptance."""
        with suppress(OSError, ValueError):
            path = self.status_checkout / MISSIONS / self.slug / "meta.json"
            return bool(json.loads(read_whole(path, links=True)).get("accepted_at"))
        return False


def committed(checkout: Path, path: str) -> bytes | None:
    """Return what the commit of a checkout holds at a path, None if nothing."""
    reply = _ask(checkout, "cat-file", "blob", f"HEAD:{path}")
    return reply.stdout if reply.rc == 0 else None


def changed_paths(checkout: Path) -> list[str]:
    """Return the tracked paths of a checkout that differ from its commit. Raises `WorkspaceError`."""
    words = ("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
    reply = _ask(checkout, *words)
    if reply.rc != 0:
        # Silence would read as "nothing is uncommitted", and a merge would throw it away.
        raise failure(checkout, words, reply, what="`git status`")
    return [line[3:] for line in reply.paths]


def mission_files(root: Path, slug: str) -> MissionFiles:
    """Read a mission's folder; whatever is missing or broken is left empty."""
    folder = root / MISSIONS / slug
    meta = _json(folder / "meta.json")
    return MissionFiles(
        root,
        slug,
        target_branch=str(meta.get("target_branch") or ""),
        coordinated="coord" in str(meta.get("topology")),
        work_packages=len(list((folder / "tasks").glob("WP*.md"))),
        has_lanes=(folder / "lanes.json").exists(),
        meta=meta,
        lanes=_json(folder / "lanes.json"),
    )


def _json(path: Path) -> Mapping[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads(read_whole(path, links=True))
        if isinstance(found, dict):
            return found
    return {}


def missions(root: Path) -> list[str]:
    """Return the slugs of the missions in the checkout, sorted."""
    folder = root / MISSIONS
    return sorted(path.parent.name for path in folder.glob("*/meta.json")) if folder.is_dir() else []


def listed(known: Sequence[str], wanted: str) -> str:
    """List names for people, those most like `wanted` first, and count the rest."""
    shown = get_close_matches(wanted, known, n=MOST_NAMES, cutoff=0.0)
    more = len(known) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def task_files(root: Path, slug: str) -> dict[str, TaskFile]:
    """Read the front matter of a mission's `tasks/WP*.md`, by the id that a file's name begins with."""
    found: dict[str, TaskFile] = {}
    for path in sorted((root / MISSIONS / slug / "tasks").glob("WP*.md")):
        wp = re.match(r"WP\d+", path.name)
        if wp is not None and wp.group() not in found:
            with suppress(OSError, ValueError):
                found[wp.group()] = read_task_file(path) if path.is_file() else TaskFile()
    return found
