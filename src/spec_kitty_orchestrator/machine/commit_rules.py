"""What must never be committed, by its name, its size and its content; what is tracked is the project's.

Besides the host's files, nothing that a project keeps in git already is judged by its name or its size.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.quantities import spelled_size

__all__ = [
    "HOST",
    "MARKERS",
    "MAX_FILE_BYTES",
    "MOST_STORED_BYTES",
    "OF_HOST",
    "REGENERABLE",
    "SECRET",
    "SECRET_VALUE",
    "TRACE",
    "TRACES",
    "UNOWNED",
    "CommitRules",
    "ignoring",
    "is_trace",
    "kept_by_host",
    "regenerable",
]

MAX_FILE_BYTES = 5 * 1000**2

MOST_STORED_BYTES = 64 * 1000**2
"""The largest file that is stored as git objects without anybody asking for it."""

SECRET_NAMES = (
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

_MISSIONS = "kitty-specs"
_HOST_FOLDERS = (".kittify", _MISSIONS)
_MISSION_STATE = (
    "meta.json",
    "lanes.json",
    "status.*",
    "*.jsonl",
    "tasks.md",
    "tasks",
    "traces",
    "acceptance-matrix.*",
    "issue-matrix.*",
)
"""What the host keeps itself in the folder of a mission."""

_PROJECT_STATE = (
    ".dashboard",
    "*-state.json",
    "derived",
    "dossiers",
    "encoding-provenance",
    "events",
    "lint-report.json",
    "logs",
    "metadata.yaml",
    "migrations",
    "orchestrator*",
    "runtime",
    "set-aside",
    "skills-manifest.json",
    "workspaces",
)
"""What the host, and a run of ours, keep in the project's folder."""

TRACES = frozenset({".aider*", *(trace for agent in BUILT_IN.values() for trace in agent.traces)})
"""What agents write for themselves at the top of a worktree, whichever of them work now."""

SECRET = "may hold secrets"  # noqa: S105 - a reason, not a password
SECRET_VALUE = "holds the value of a secret of this machine"  # noqa: S105 - a reason, not a password
HOST = "belongs to spec-kitty, which keeps it itself"
UNOWNED = "lies in a folder of spec-kitty, and `owned_files` of the work package does not name it"
OF_HOST = frozenset({HOST, UNOWNED})
TRACE = "the agent's own files"
REGENERABLE = "can be made again by the tool that made it"

_SAMPLES = ("example", "sample", "template", "tmpl", "dist", "defaults", "test")
"""Last parts of the names of `.env` files that show which variables there are."""

_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")
_PUBLIC = re.compile(
    rb"(?:X509 |TRUSTED )?CERTIFICATE|X509 CRL|(?:NEW )?CERTIFICATE REQUEST|[A-Z ]*PUBLIC KEY"
)
_PUBLIC_SSH = re.compile(rb"(?:ssh-|ecdsa-|sk-)[\w@.-]+ [A-Za-z0-9+/=]+")

_CACHE_FOLDERS = frozenset(
    {
        "__pycache__",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".hypothesis",
        ".tox",
        ".nox",
        ".gradle",
        "node_modules",
    }
)
_CACHE_FILES = ("*.pyc", "*.pyo", ".DS_Store", "Thumbs.db")
MARKERS = ("CACHEDIR.TAG", "pyvenv.cfg")
"""A folder that holds one of these is a cache, or a virtual environment."""


@dataclass(frozen=True)
class CommitRules:
    """What may be committed in one project.

    Attributes:
        traces: what agents write for themselves: patterns of names at the top of a worktree.
        max_bytes: the largest file that may be added; 0 for any size.
        secret_files: more patterns of names or paths of files that must not be added, whatever they hold.
        allow_files: patterns of names or paths of files that may be added, whatever they are.
        redactor: knows the secrets of this machine.
        mission: whose documents are the work, whatever `owned` says; "" for none.
        owned: patterns of paths that the work package owns: among the host's folders nothing else is work.
    """

    traces: Collection[str] = TRACES
    max_bytes: int = MAX_FILE_BYTES
    secret_files: Collection[str] = ()
    allow_files: Collection[str] = ()
    redactor: Redactor = field(default_factory=Redactor)
    mission: str = ""
    owned: Collection[str] = ()

    def is_big(self, size: int) -> bool:
        """Tell whether a file of so many bytes is too large to be added."""
        return 0 < self.max_bytes < size

    @property
    def too_big(self) -> str:
        """Why a file is not added that is larger than it may be."""
        return f"larger than {spelled_size(self.max_bytes)}"

    def allows(self, path: str) -> bool:
        """Tell whether the operator lets a file be added, whatever it is."""
        return _matches(path, self.allow_files)

    def by_name(self, path: str) -> str:
        """Say why a new file must not be committed as far as its name tells, "" if it may be."""
        if reason := self.of_host(path):
            return reason
        if self.allows(path):
            return ""
        parts = [part.casefold() for part in PurePosixPath(path).parts]
        named = any(fnmatchcase(parts[-1], pattern) for pattern in SECRET_NAMES) or ".env" in parts[:-1]
        if named or _matches(path, self.secret_files):
            return SECRET
        return TRACE if is_trace(path, self.traces) else ""

    def of_host(self, path: str) -> str:
        """Say why a file, new or not, must be left to the host, "" if it need not be."""
        if kept_by_host(path):
            return HOST
        top, *rest = path.casefold().split("/")
        planned = top == _MISSIONS and rest[0] == self.mission.casefold()
        ours = top not in _HOST_FOLDERS or planned or _is_owned(path.casefold(), self.owned)
        return "" if ours else UNOWNED

    def by_content(self, path: str, data: bytes, named: str) -> str:
        """Say the same of a new file whose name says `named`, now that its content is known."""
        if named in OF_HOST:
            return named
        if self.redactor.knows(data):
            return named or SECRET_VALUE
        if self.allows(path):
            return ""
        if named == SECRET:
            return "" if self._is_harmless(path, data) else SECRET
        return named or (SECRET if _PRIVATE_KEY.match(data.lstrip()[:200]) else "")

    def _is_harmless(self, path: str, data: bytes) -> bool:
        name = PurePosixPath(path).name.casefold()
        if _matches(path, self.secret_files) or _PRIVATE_KEY.search(data):
            return False
        if name.startswith(".env"):
            shown = data.decode("utf-8", "replace")
            return name.rpartition(".")[2] in _SAMPLES and self.redactor.text(shown) == shown
        labels = _PEM_LABEL.findall(data)
        if labels:
            return all(_PUBLIC.fullmatch(label) for label in labels)
        return name.endswith(".pub") and _PUBLIC_SSH.match(data) is not None


def _matches(path: str, patterns: Collection[str]) -> bool:
    """Tell whether a path, or its name where a pattern has no slash, matches; letter case does not count."""
    whole = path.casefold()
    name = whole.rpartition("/")[2]
    return any(
        fnmatchcase(whole if "/" in pattern else name, pattern.casefold().lstrip("/")) for pattern in patterns
    )


def kept_by_host(path: str) -> bool:
    """Tell whether the host, or a run of ours, keeps a file itself: it is nobody's work."""
    top, *rest = path.casefold().split("/")
    if top not in _HOST_FOLDERS:
        return False
    inside = rest[1:] if top == _MISSIONS else rest
    state = _MISSION_STATE if top == _MISSIONS else _PROJECT_STATE
    return not inside or any(fnmatchcase(inside[0], name) for name in state)


def _is_owned(path: str, patterns: Collection[str]) -> bool:
    """Tell whether a pattern names a path, as the host reads them: a folder is all that is in it."""
    for pattern in (one.casefold() for one in patterns):
        folder = pattern.replace("/**", "").replace("/*", "").rstrip("/")
        named = fnmatchcase(path, pattern) or path.startswith(f"{folder}/")
        # Whoever owns all code owns none of the host's files.
        if named and pattern.partition("/")[0] in _HOST_FOLDERS:
            return True
    return False


def is_trace(path: str, traces: Collection[str]) -> bool:
    """Tell whether a path is one of an agent's own files; `traces` are patterns of names at the top."""
    top = PurePosixPath(path).parts[0].casefold()
    return any(fnmatchcase(top, pattern.casefold()) for pattern in traces)


def regenerable(new: Iterable[str], tracked: Collection[str]) -> dict[str, str]:
    """Find what a tool can surely make again: caches, virtual environments, installed packages.

    Args:
        new: paths that the project does not keep in git.
        tracked: those that it does: a folder of which it keeps a part is its own.

    Returns:
        By path, the file or folder to name for it; a folder ends with a slash.
    """
    new = tuple(new)
    if not new:
        return {}
    folders = _folders(tracked)
    marked = {
        f"{folder}/"
        for folder, _, name in (path.rpartition("/") for path in new)
        if folder and name in MARKERS
    } - folders
    found = {path: _cache(path, marked, folders) for path in new}
    return {path: top for path, top in found.items() if top}


def _folders(paths: Iterable[str]) -> set[str]:
    """Return every folder above some paths, each with a slash at its end."""
    found: set[str] = set()
    for path in paths:
        # Of folders that are known those above are, too: a project has few, and tens of thousands of files.
        while (path := path.rpartition("/")[0]) and f"{path}/" not in found:
            found.add(f"{path}/")
    return found


def ignoring(top: str) -> str:
    """Return the pattern with which a `.gitignore` at the top covers what `regenerable` names."""
    name = top.rstrip("/").rpartition("/")[2]
    if name == "node_modules":
        return name  # It may be a link too.
    if name in _CACHE_FOLDERS:
        return f"{name}/"
    if top.endswith("/"):
        return f"/{top}"
    return next(one for one in _CACHE_FILES if fnmatchcase(name, one))


def _cache(path: str, marked: Collection[str], own: Collection[str]) -> str:
    parts = path.rstrip("/").split("/")
    for number, part in enumerate(parts, 1):
        last = number == len(parts) and not path.endswith("/")
        top = "/".join(parts[:number]) + ("" if last else "/")
        if f"{top.rstrip('/')}/" in own:
            continue
        if part in _CACHE_FOLDERS or top in marked:
            return top
    name = parts[-1]
    return path if any(fnmatchcase(name, pattern) for pattern in _CACHE_FILES) else ""
