"""Which programs a repository's settings may run in our own calls of git.

What a person has configured for all their repositories runs, and what the repository itself had configured
when it was opened: clean filters, for one, make pointers of Git LFS or ciphertext of files, and without them
the files would be committed as they lie there. What was configured since is an agent's word and is not
followed, nor is a filter whose program lies in the worktree, where the agent can write it.
"""

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["Configuration", "Held", "contents"]

_RUNS = re.compile(
    r"filter\..*|merge\..*\.driver|gpg\..*|user\.signingkey|credential\..*|remote\..*\.(uploadpack|vcs)"
    r"|core\.(sshcommand|askpass|gitproxy|alternaterefscommand|attributesfile|excludesfile|filemode|symlinks"
    r"|ignorecase|precomposeunicode|autocrlf|eol|safecrlf|worktree)"
)
"""Settings that name a program, or change what git sees of a worktree."""

_WITHOUT = {
    "core.filemode": "true",
    "core.symlinks": "true",
    "core.safecrlf": "warn",
    "core.eol": "native",
    "gpg.program": "gpg",
    "gpg.openpgp.program": "gpg",
    "gpg.x509.program": "gpgsm",
    "gpg.ssh.program": "ssh-keygen",
    "gpg.format": "openpgp",
    "gpg.mintrustlevel": "undefined",
}
"""What git does where they are not set, if that is not what it does for the empty text."""

_FILTER = re.compile(r"(filter\..*)\.(clean|smudge|process)")
_PARTS = re.compile(r"[\s;|&()]+")
_INTERPRETER = re.compile(r"(?:.*/)?(env|(?:da|ba|z|k)?sh|python[\d.]*|node|ruby|perl|deno|bun|php)")


@dataclass(frozen=True)
class Setting:
    """One setting; `scope` is who made it: system, global, local, or worktree."""

    scope: str
    key: str
    value: str

    @property
    def own(self) -> bool:
        """Whether the repository has it, not the person."""
        return self.scope in ("local", "worktree")


@dataclass(frozen=True)
class Configuration:
    """Git's settings in one place, in the order in which later ones win."""

    all: tuple[Setting, ...]

    @classmethod
    async def read(cls, git: Git) -> "Configuration":
        """Read them. Raises `WorkspaceError`."""
        fields = (await git.run("config", "--list", "--show-scope", "-z")).text.split("\0")
        pairs = zip(fields[::2], fields[1::2], strict=False)
        found = (Setting(scope, *_split(entry)) for scope, entry in pairs)
        return cls(tuple(one for one in found if one.scope != "command"))

    @property
    def includes(self) -> bool:
        """Whether there is more than the usual files hold, or it depends on the branch."""
        return any(one.key.startswith(("include.", "includeif.")) for one in self.all)

    def get(self, key: str) -> str:
        """Return the value that wins, "" if there is none."""
        return next((one.value for one in reversed(self.all) if one.key == key), "")

    def without_filters(self, *, own: bool) -> tuple[tuple[str, str], ...]:
        """Return settings with which no filter runs, or none of the repository's `own`."""
        keys = (one.key for one in self.all if one.own or not own)
        drivers = dict.fromkeys(key.rpartition(".")[0] for key in keys if key.startswith("filter."))
        settings = [(f"{one}.{key}", "") for one in drivers for key in ("clean", "smudge", "process")]
        return (*settings, *((f"{one}.required", "false") for one in drivers))

    def trusted(self, before: "Configuration") -> dict[str, str]:
        """Return what a person has set now, and what the repository had set `before`, by key."""
        # The repository's own win over a person's.
        kept = [*(one for one in self.all if not one.own), *(one for one in before.all if one.own)]
        return {one.key: one.value for one in kept}

    def neutral(self, before: "Configuration", worktree: Path) -> tuple[tuple[str, str], ...]:
        """Return what overrules what the repository has set since `before`, and filters in `worktree`."""
        trusted = self.trusted(before)
        now = {one.key: one.value for one in self.all}
        changed = {
            key for key in {*now, *trusted} if _RUNS.fullmatch(key) and now.get(key) != trusted.get(key)
        }
        own = {one.key for one in self.all if one.own}
        settings = {key: trusted.get(key, _WITHOUT.get(key, "")) for key in changed}
        for key in {*now, *settings}:
            driver = _FILTER.fullmatch(key)
            unknown = key in changed and key not in trusted
            value = settings.get(key, now.get(key, ""))
            if driver and (unknown or _lies_in(worktree, value, own=key in own)):
                settings |= {f"{driver[1]}.{part}": "" for part in ("clean", "smudge", "process")}
                settings[f"{driver[1]}.required"] = "false"
        return tuple(sorted(settings.items()))


Held = tuple[bytes | None, ...]


def contents(files: Sequence[Path]) -> Held:
    """Return what these files hold, and those of the person and of the machine; None for one not there."""
    home = Path.home()
    config = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    others = (
        os.environ.get("GIT_CONFIG_GLOBAL") or home / ".gitconfig",
        Path(config, "git", "config"),
        os.environ.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig",
    )
    return tuple(map(_content, (*files, *map(Path, others))))


def _content(path: Path) -> bytes | None:
    try:
        return read_whole(path, links=True)
    except OSError:
        return None


def _split(entry: str) -> tuple[str, str]:
    key, newline, value = entry.partition("\n")
    # A key without a value is a yes.
    return key, value if newline else "true"


def _lies_in(worktree: Path, command: str, *, own: bool) -> bool:
    """Tell whether a command runs a program of the worktree; of a repository's `own`, whether it may."""
    command = os.path.expandvars(command)
    if own and any(mark in command for mark in "$`"):
        return True
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    programs = [shutil.which(word) or word for word in words[:1]]
    named = [*programs, *(part for word in words[1:] for part in (word, *_PARTS.split(word)))]
    if programs and _INTERPRETER.fullmatch(programs[0]):
        modules = [word.replace(".", "/") for word in words[1:]]
        named += [*modules, *(f"{module}.py" for module in modules)]
    else:
        # A word that is a file by accident, such as `clean`, is no program.
        named = [name for name in named if "/" in name]
    here = worktree.resolve()
    places = [worktree / Path(name).expanduser() for name in named if name and "\0" not in name]
    relative = any("/" in name and not name.startswith(("/", "~")) for name in programs)
    return relative or any(place.exists() and place.resolve().is_relative_to(here) for place in places)
