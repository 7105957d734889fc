"""Which programs a repository's own files name, and whether a person trusts them.

Whoever writes the files of a clone could name any program in its settings, in a journal that comes with it,
or by a folder of its own on PATH; such a journal could also call any folder an attempt's, to work in or to
clean. What is so named counts only after a person has said so, once for each change; that is kept outside of
the clone. What the command line and variables name is the person's own word.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.app.repository import GIT_LIMIT_S, PROJECT
from spec_kitty_orchestrator.config import CONFIG_FILE, TRUST_VARIABLE, read_text
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.host.locate import HOST_NAME
from spec_kitty_orchestrator.machine.environment import absolute_folders, keep_out
from spec_kitty_orchestrator.machine.files import make_private_folder, read_record, write_private
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.logs import JOURNALS, LOGS
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = [
    "COMMAND",
    "Named",
    "keep_out_untrusted",
    "named_programs",
    "own_records",
    "revoke",
    "trust",
    "trust_too",
]

COMMAND = "spec-kitty-orchestrator trust"
_OF_AGENTS = (
    *("command", "executable", "extra_args", "role_args", "resume_args", "env", "pass_env", "scenario"),
    "state",
)
"""What decides which program runs, with which words and rights; a model or a limit does not."""
_OF_RUN = ("pass_env", "confine", "setup", "executor")
_HARMLESS = (("confine", "auto"), ("confine", "require"))
_ELSEWHERE = f"name another folder with XDG_CONFIG_HOME, or set {TRUST_VARIABLE}=1 for one start"
_TOOLS = ("git", "gpg", "ssh", "ssh-keygen", "bwrap", "systemd-inhibit", "caffeinate")
_LINK = "120000"
_PARENTS = (Path(PROJECT), JOURNALS)
_SHOWN_CHARS = 300


@dataclass(frozen=True)
class Named:
    """What a repository names.

    Attributes:
        root: of the repository.
        programs: one line for people for each setting or program, in an order of their own.
        trusted: whether nothing is named, or a person trusts all of it.
    """

    root: Path
    programs: tuple[str, ...]
    trusted: bool

    def demand(self) -> None:
        """Raise `PreflightError` unless it is trusted."""
        if not self.trusted:
            listed = "\n".join(f"  {ours().head(one, _SHOWN_CHARS)}" for one in self.programs)
            raise PreflightError(
                "files of this repository name programs that would run with your rights, and you have not "
                f"said that you trust them:\n{listed}\nlook at them, then run: {COMMAND} "
                f"(in CI, set {TRUST_VARIABLE}=1)"
            )


def named_programs(root: Path, *recorded: Mapping[str, object]) -> Named:
    """Return what the repository at `root` names now; `recorded` are what its journals alone know."""
    journaled = (one for settings in recorded for one in _of_journal(settings))
    return _judged(root, (*_of_settings(root), *_on_path(root), *_of_runs(root), *journaled))


def own_records(root: Path) -> Named:
    """Return the records of runs that came with the clone, for what goes by them and starts no program."""
    return _judged(root, _of_runs(root))


def _judged(root: Path, found: Iterable[str]) -> Named:
    programs = tuple(dict.fromkeys(found))
    known = _known(root) if programs and not _is_told() else frozenset()
    return Named(root, programs, _is_told() or known.issuperset(map(_digest, programs)))


def keep_out_untrusted(start: Path) -> None:
    """Start no program from the repository around `start` while nobody trusts those that PATH finds there.

    To be called first of all: git itself could be one of them, so it is not asked where the repository is.
    """
    roots = [] if _is_told() else _around(start)
    known = {line for root in roots for line in _known(root)}
    for root in roots:
        if not known.issuperset(map(_digest, _on_path(root))):
            keep_out(root)


def _around(start: Path) -> list[Path]:
    """Return the checkout around a folder, and the primary one if that is a worktree."""
    with suppress(OSError, ValueError, RuntimeError):
        folder = start.resolve()
        root = next((one for one in (folder, *folder.parents) if os.path.lexists(one / ".git")), None)
        if root is None:
            return []
        if (root / ".git").is_dir():
            return [root]
        with suppress(OSError, ValueError):
            named = read_record(root / ".git").decode().removeprefix("gitdir:").strip()
            git = (root / named).resolve()
            return [root, git.parents[2]] if git.parent.name == "worktrees" else [root]
        return [root]
    return []


def trust(named: Named) -> None:
    """Trust what is named now, and nothing that was named before."""
    _change(named.root, [_digest(one) for one in named.programs])


def revoke(root: Path) -> None:
    """Trust nothing that the repository names."""
    _change(root, [])


def trust_too(root: Path, recorded: Mapping[str, object]) -> None:
    """Trust what a start was given and records, for a later one that finds it in the journal."""
    lines = set(map(_digest, _of_journal(recorded)))
    if not _is_told() and not lines <= _known(root):
        with suppress(PreflightError):
            _change(root, sorted(_known(root) | lines))


def _is_told() -> bool:
    return os.environ.get(TRUST_VARIABLE, "").lower() in ("1", "true", "yes")


def _of_settings(root: Path) -> Iterator[str]:
    try:
        file = tomllib.loads(read_text(root / CONFIG_FILE) or "")
    except ValueError:
        return  # Whoever reads the settings says what is wrong with them.
    tables = {**_tables(file.get("agents"), "agents."), "run": file.get("run"), "host": file.get("host")}
    keys = {"run": _OF_RUN, "host": ("executable",)}
    for name, table in tables.items():
        for key in keys.get(name, _OF_AGENTS):
            if isinstance(table, Mapping) and key in table and (key, table[key]) not in _HARMLESS:
                yield f"[{name}] {key} = {_written(table[key])}"
    for key in ("gates", "confine", "cluster"):
        if file.get(key):
            yield f"[{key}] {_written(file[key])}"
    places = file.get("notify")
    for one in places if isinstance(places, list) else ():
        # An address could get values of any variable.
        if isinstance(one, Mapping) and not {"command", "url"}.isdisjoint(one):
            yield f"[notify] {_written(one)}"


def _of_journal(recorded: Mapping[str, object]) -> Iterator[str]:
    """Name what may have come with the clone, in the journal of a run that nobody here has started."""
    for key in ("gate", *_OF_RUN, *(one for one in recorded if one.startswith("cluster_"))):
        value = recorded.get(key)
        for one in value if isinstance(value, list | tuple) else [value] if value else []:
            if (key, one) not in _HARMLESS:
                yield f"the run's own {key} {one}"


def _of_runs(root: Path) -> Iterator[str]:
    """Name records of runs that came with the clone: they say where agents work and which files are ours."""
    if not any((root / one).exists() for one in (JOURNALS, LOGS)):
        return
    # Not every file system tells `Journal.JSONL` from the name that we look for.
    names = f":(icase){PROJECT}"
    tracked = Git(root).ask_now("ls-files", "--stage", "-z", "--", names, timeout_s=GIT_LIMIT_S)
    for entry in tracked.paths:
        about, _, name = entry.partition("\t")
        path = Path(name.casefold())
        if path.is_relative_to(LOGS) or (path.is_relative_to(JOURNALS) and path.suffix == ".jsonl"):
            shown = name
        elif about.startswith(_LINK) and (path in _PARENTS or path.is_relative_to(JOURNALS)):
            shown = f"{name}, a link"
        else:
            continue
        yield f"git tracks {shown} ({about.split()[1][:12]}): an earlier run would go on as it says"


def _tables(value: object, prefix: str) -> dict[str, object]:
    return {f"{prefix}{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {}


def _written(value: object) -> str:
    return json.dumps(value, default=str, sort_keys=True)


def _on_path(root: Path) -> Iterator[str]:
    """Name the programs of ours that PATH finds in the repository."""
    known = (agent.executable for agent in BUILT_IN.values())
    words = (HOST_NAME, *_TOOLS, *(one for one in known if os.sep not in one))
    for place in map(Path, absolute_folders(os.environ)):
        if not place.resolve().is_relative_to(root.resolve()):
            continue
        # Git finds its own commands and filters there, as `git-lfs`.
        for word in (*words, *sorted(one.name for one in place.glob("git-*"))):
            if (place / word).is_file():
                yield f"{word} on PATH is {place / word}, which lies in the repository"


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8", "replace")).hexdigest()


def _store() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "spec-kitty-orchestrator" / "trusted.json"


def _read() -> dict[str, list[str]]:
    try:
        found = json.loads(_store().read_bytes())
    except (OSError, ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}


def _known(root: Path) -> frozenset[str]:
    try:
        inside = _store().resolve().is_relative_to(root.resolve())
    except RuntimeError:
        inside = True  # there is no home, so nothing was said either
    lines = None if inside else _read().get(str(root))
    return frozenset(one for one in lines if isinstance(one, str)) if isinstance(lines, list) else frozenset()


def _change(root: Path, lines: list[str]) -> None:
    try:
        store = _store()
    except RuntimeError as error:
        raise PreflightError(f"{error} {_ELSEWHERE}") from error
    if store.resolve().is_relative_to(root.resolve()):
        raise PreflightError(f"{store} lies in the repository: what trusts it must lie outside; {_ELSEWHERE}")
    try:
        make_private_folder(store.parent)
        with FileLock(f"{store}.lock", timeout=10):
            kept = {key: value for key, value in _read().items() if key != str(root)}
            write_private(store, json.dumps({**kept, str(root): lines} if lines else kept, indent=2) + "\n")
    except (OSError, TimeoutError) as error:
        raise PreflightError(f"{store} cannot be written: {error}") from error
