"""Running git and reading what it says of a worktree; no call waits without a bound, and none prompts.

No call runs a hook, believes a replacement of an object, or takes what an index remembers of files for more
than git itself would. Which repository a worktree belongs to is said by `repository`, not looked up from it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.child import Reply, tail
from spec_kitty_orchestrator.machine.environment import search_path, without_git
from spec_kitty_orchestrator.machine.patience import delays

__all__ = ["BRANCHES", "LONG_TIMEOUT_S", "OUR_IDENTITY", "Change", "Git", "failure", "in_a_line", "is_locked"]

GIT_TIMEOUT_S = 300.0
"""For calls that read or move trees: a cold cache and a large repository take minutes, not more."""

LONG_TIMEOUT_S = 1800.0
"""For calls that run hooks, which may be a whole test suite, or that fetch what is checked out."""

_SETTINGS = tuple(
    word
    for setting in (
        *("core.quotepath=off", "color.ui=false", "log.showSignature=false", "i18n.commitEncoding=utf-8"),
        # The agent can write hooks, and the settings of the repository.
        *("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false"),
        # What hides an edit: a time that is not compared, and what an index or a graph of commits claims.
        *("core.trustctime=true", "core.checkStat=default", "core.ignoreStat=false"),
        *("core.untrackedCache=false", "core.commitGraph=false"),
        # In a submodule, what is not committed is nowhere else.
        "submodule.recurse=false",
    )
    for word in ("-c", setting)
)

_CLOSED = re.compile(r"^warning: could not open directory '(.*?)/?': Permission denied", re.MULTILINE)

BRANCHES = "refs/heads/"

_NOWHERE = "/dev/null/none"

OUR_IDENTITY = ("-c", "user.name=spec-kitty-orchestrator", "-c", "user.email=orchestrator@localhost.invalid")


@dataclass(frozen=True)
class Git:
    """Git in one directory.

    Attributes:
        path: the directory in which git runs.
        git_dir: the repository, or a worktree's part of it; None where git may look for it from `path`, which
            is right only where no agent works.
        common: the repository that the worktree `git_dir` belongs to; None if that is a whole one.
        settings: settings for this repository, besides those of every call.
        index: another index file than the worktree's own.
        objects: where objects are, if not in the repository.
        excludes: patterns that count instead of those in the repository's own exclude file; None for those.
        alone: without the settings of the machine and of the person.
        foreign: in a repository that an agent may have made: what is missing there is not fetched, as its
            settings say with which program.
    """

    path: Path
    git_dir: Path | None = None
    common: Path | None = None
    settings: tuple[tuple[str, str], ...] = ()
    index: Path | None = None
    objects: Path | None = None
    excludes: tuple[str, ...] | None = None
    alone: bool = False
    foreign: bool = False

    async def ask(
        self,
        *args: str,
        stdin: bytes | BinaryIO = b"",
        timeout_s: float = GIT_TIMEOUT_S,
        limit: int | None = None,
    ) -> Reply:
        """Run git and return how it ended, whatever that is.

        Args:
            args: git's arguments.
            stdin: what git reads; of an open file, what is still to be read of it.
            timeout_s: after which git is stopped.
            limit: bytes of stdout after which git is stopped.

        Raises:
            WorkspaceError: git cannot be started or did not end in time.
        """
        with self._errors(args, timeout_s):
            return await child.run(
                self._argv(args),
                cwd=self.path,
                env=self._environment(),
                limit_s=timeout_s,
                stdin=stdin,
                most=limit,
            )

    def ask_now(self, *args: str, timeout_s: float = GIT_TIMEOUT_S) -> Reply:
        """Run git as `ask` does, in this thread: for where no event loop runs. Raises `WorkspaceError`."""
        with self._errors(args, timeout_s):
            return child.run_now(self._argv(args), cwd=self.path, env=self._environment(), limit_s=timeout_s)

    @staticmethod
    def _argv(args: Sequence[str]) -> Sequence[str]:
        return ("git", *_SETTINGS, *args)

    @contextmanager
    def _errors(self, args: Sequence[str], timeout_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise WorkspaceError(
                f"`{_shown(args)}` in {self.path} did not end within {timeout_s:g} s and was stopped; "
                "run it by hand to see what it waits for"
            ) from None
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self.path.is_dir():
                raise WorkspaceError("git is not installed, or not on PATH") from error
            raise WorkspaceError(
                f"`{_shown(args)}` cannot be started in {self.path}: {error.strerror or error}"
            ) from error

    async def run(self, *args: str, stdin: bytes = b"", timeout_s: float = GIT_TIMEOUT_S) -> Reply:
        """Run git and return its reply.

        Raises:
            WorkspaceError: git failed; the message holds the command, the folder and the end of stderr.
        """
        for delay_s in delays():
            reply = await self.ask(*args, stdin=stdin, timeout_s=timeout_s)
            if reply.rc == 0:
                return reply
            if delay_s is None or not _SHORT.search(reply.stderr):
                raise failure(self.path, args, reply)
            await anyio.sleep(delay_s)
        raise AssertionError

    async def sha(self, revision: str) -> str:
        """Return the commit that a revision names, "" if there is none."""
        reply = await self.ask(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        )
        return reply.text if reply.rc == 0 else ""

    async def shas(self, *revisions: str) -> tuple[str, ...]:
        """Return the commit that each of the revisions names, "" for one that names none."""
        asked = "".join(f"{one}^{{commit}}\n" for one in revisions)
        reply = await self.run("cat-file", "--batch-check=%(objectname)", stdin=os.fsencode(asked))
        return tuple("" if " " in line else line for line in reply.text.split("\n"))

    async def place(self) -> tuple[str, str]:
        """Return HEAD's sha, and the branch that it is on, "" when detached.

        Raises:
            WorkspaceError: there is no commit.
        """
        reply = await self.ask("rev-parse", "HEAD^{commit}", "--symbolic-full-name", "HEAD")
        sha, _, name = reply.text.partition("\n")
        if reply.rc == 0 and name.startswith(BRANCHES):
            return sha, name.removeprefix(BRANCHES)
        if reply.rc == 0 and name == "HEAD":
            return sha, ""
        return await self.head(), await self.branch()

    async def head(self) -> str:
        """Return HEAD's sha. Raises `WorkspaceError` when there is no commit."""
        sha = await self.sha("HEAD")
        if not sha:
            raise WorkspaceError(f"{self.path} has no commit at HEAD; check the worktree with `git status`")
        return sha

    async def branch(self) -> str:
        """Return the branch that HEAD is on, "" when detached."""
        # The short name is another one where a tag is named like the branch.
        reply = await self.ask("symbolic-ref", "--quiet", "HEAD")
        return reply.text.removeprefix(BRANCHES) if reply.rc == 0 else ""

    async def contains(self, ancestor: str, descendant: str) -> bool:
        """Tell whether one commit is an ancestor of another, or the same."""
        return (await self.ask("merge-base", "--is-ancestor", ancestor, descendant)).rc == 0

    async def changes(self) -> tuple["Change", ...]:
        """Read what differs between HEAD, index and worktree, untracked files one by one."""
        # A submodule counts by its commit only: its files belong to another repository.
        reply = await self.run(
            "status",
            "--porcelain=v1",
            "-z",
            f"--untracked-files={'all' if self.excludes is None else 'no'}",
            "--no-renames",
            "--ignore-submodules=dirty",
        )
        closed = _CLOSED.findall(os.fsdecode(reply.stderr))
        lines = (*reply.paths, *(f"?? {folder}/" for folder in closed))
        found = tuple(Change(line[:2], line[3:]) for line in lines)
        if self.excludes is None:
            return found
        return (*found, *(Change("??", path) for path in await self._untracked(self.excludes)))

    async def _untracked(self, excludes: Sequence[str]) -> tuple[str, ...]:
        # `status` always reads the exclude file.
        named = await self.ask("config", "--type=path", "--get", "core.excludesFile")
        home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: ASYNC240, PTH111
        own = self.path / named.text if named.rc == 0 and named.text else Path(home, "git", "ignore")
        there = [f"--exclude-from={own}"] if await anyio.Path(own).is_file() else []
        patterns = [f"--exclude={one}" for one in excludes]
        command = ("ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
        return (await self.run(*command, *there, *patterns)).paths

    async def operation(self) -> str:
        """Name the merge, rebase or the like that is under way, "" if none is."""
        for name, meaning in _OPERATIONS.items():
            if await anyio.Path(await self.file(name)).exists():
                return meaning
        return ""

    async def file(self, name: str) -> Path:
        """Return where a worktree keeps one of git's own files, such as its index."""
        if self.git_dir is not None:
            return self.git_dir / name
        return self.path / (await self.run("rev-parse", "--git-path", name)).text

    def _environment(self) -> dict[str, str]:
        """Return our environment without another repository's variables and without any way to prompt."""
        kept = without_git(os.environ)
        kept["PATH"] = search_path(kept)
        # On that terminal gpg would ask for a passphrase, over what we show there.
        kept.pop("GPG_TTY", None)
        kept |= {
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": _NOWHERE,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_EDITOR": ":",
            "GIT_SEQUENCE_EDITOR": ":",
            "GIT_MERGE_AUTOEDIT": "no",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        # Objects of a partial clone are fetched when they are read; no program must be named as the remote.
        kept.setdefault("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        if self.foreign:
            kept |= {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
        if self.alone:
            kept |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
        if self.settings:
            # Not by `-c`: a name that holds a `=` would be cut there.
            kept["GIT_CONFIG_COUNT"] = str(len(self.settings))
        for number, (key, value) in enumerate(self.settings):
            kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        if self.git_dir is not None:
            kept |= {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.path)}
        if self.common is not None:
            kept["GIT_COMMON_DIR"] = str(self.common)
        if self.index is not None:
            kept["GIT_INDEX_FILE"] = str(self.index)
        if self.objects is not None:
            kept["GIT_OBJECT_DIRECTORY"] = str(self.objects)
        return kept


_SHORT = re.compile(
    rb"^(?:fatal|error): .*(?:Too many open files|Cannot allocate memory|Resource temporarily unavailable)$",
    re.MULTILINE,
)
"""Git's own words for what may pass. What it did not finish it takes back, so it can be asked again."""

_OPERATIONS = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


@dataclass(frozen=True)
class Change:
    """One line of `git status`: two letters and a path."""

    code: str
    path: str

    @property
    def nested(self) -> bool:
        """Whether it is an untracked folder into which git does not look: a repository, or a closed one."""
        return self.path.endswith("/")

    @property
    def untracked(self) -> bool:
        """Whether the index does not hold it."""
        return self.code == "??"

    @property
    def unmerged(self) -> bool:
        """Whether it is a conflict that nobody resolved."""
        return "U" in self.code or self.code in ("AA", "DD")


def failure(path: Path, args: Sequence[str], reply: Reply, what: str = "") -> WorkspaceError:
    """Say in one line that git failed: what, in which folder, its own words, and what to do.

    `what` stands for the command where that says less to people.
    """
    advice = "run it by hand there, mend the cause and start again"
    if is_locked(reply):
        advice = "if no git runs there, one was killed: remove the lock file that it names, and start again"
    elif b"No space left" in reply.stderr:
        advice = "the disk is full: make room and start again"
    elif b"failed to sign" in reply.stderr:
        advice = "unlock the key, or `git config commit.gpgsign false`, and start again"
    return WorkspaceError(f"{what or f'`{_shown(args)}`'} failed in {path}: {in_a_line(reply)}; {advice}")


def is_locked(reply: Reply) -> bool:
    """Tell whether git gave up because another git, or one that was killed, has one of its locks."""
    return reply.rc != 0 and b".lock'" in reply.stderr and b"File exists" in reply.stderr


def in_a_line(reply: Reply) -> str:
    """Return git's own words as one line, without its advice."""
    told = reply.complaint.partition("\n\nAnother git process")[0]
    words = (re.sub("^(fatal|error): ", "", line.strip()) for line in told.splitlines())
    return "; ".join(word for word in words if word) or f"exit code {reply.rc}"


def _shown(args: Sequence[str]) -> str:
    return tail(os.fsencode(" ".join(("git", *args))), 300)
