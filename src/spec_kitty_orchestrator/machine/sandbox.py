"""Confinement by the kernel: the call of bubblewrap (`bwrap`) around an agent, a gate or a commit hook.

Inside, everything is read-only but what is named here. There are no processes and no sockets of others, keys
that are not theirs are not there, and what is started ends with the command.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Literal

from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.environment import search_path
from spec_kitty_orchestrator.machine.files import make_hidden_folder, make_private_folder, read_lines
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.places import KEYS, PRIVATE_TMP, Places, homes, leads_there

__all__ = ["Confined", "Mount", "Rules", "Sandbox", "find", "refusal", "wrapper"]

Kind = Literal["read", "write", "empty", "private"]
Part = Literal["agents", "gates", "hooks"]
PARTS: tuple[Part, ...] = ("agents", "gates", "hooks")

CHECK_LIMIT_S = 10.0
"""An empty sandbox takes some milliseconds; a machine that swaps takes longer."""

TEMPORARY = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - they are hidden, not used
"""Made empty: other people's files, and the sockets of docker, D-Bus, ssh-agent and the desktop."""

_SOCKETS = (
    *("SSH_AUTH_SOCK", "GPG_AGENT_INFO", "GPG_TTY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DOCKER_HOST", "WSL_INTEROP"),
)
"""Variables that name what is not there."""

_CACHES: Mapping[str, str] = {
    "XDG_CACHE_HOME": "xdg",
    "PIP_CACHE_DIR": "pip",
    "UV_CACHE_DIR": "uv",
    "npm_config_cache": "npm",
    "npm_config_store_dir": "pnpm",
    "YARN_CACHE_FOLDER": "yarn",
    "COREPACK_HOME": "corepack",
    "BUN_INSTALL_CACHE_DIR": "bun",
    "DENO_DIR": "deno",
    "CARGO_HOME": "cargo",
    "GOCACHE": "go-build",
    "GOMODCACHE": "go-mod",
    "GRADLE_USER_HOME": "gradle",
    "NUGET_PACKAGES": "nuget",
    "CCACHE_DIR": "ccache",
}
"""Where tools keep what they download and build, by the variable that says where."""

_NOBODY = 65534


@dataclass(frozen=True)
class Rules:
    """What a project says of confinement, as paths that may begin with `~/` or `$NAME`.

    Attributes:
        writable: what may be written besides.
        hidden: what is not there, besides `KEYS`.
        shown: what is there although it is one of `KEYS`.
        network: who has the network.
    """

    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    network: tuple[Part, ...] = PARTS


@dataclass(frozen=True)
class Mount:
    """How one path looks inside: as outside to `read` or to `write`, `empty`, or empty and `private`."""

    kind: Kind
    folder: bool = True


@dataclass(frozen=True)
class Confined:
    """What runs: `wrapper` before the command, in the environment `env`, of which `added` is ours."""

    wrapper: tuple[str, ...]
    env: Mapping[str, str]
    added: Mapping[str, str] = field(default_factory=dict)


def wrapper(
    program: str,
    cwd: Path,
    mounts: Mapping[Path, Mount],
    nothing: Path,
    *,
    network: bool,
    root: bool,
    temporary: Sequence[str] = TEMPORARY,
) -> tuple[str, ...]:
    """Build the argv that stands before a command.

    Args:
        program: bubblewrap.
        cwd: where the command runs.
        mounts: by absolute path; what lies in a folder is mounted after the folder.
        nothing: a folder with an empty folder and an empty file, which stand for what is not there.
        network: whether there is one.
        root: whether we are root. Inside it then is an ordinary user, because root could mount everything
            anew, and needs no less to make the sandboxes of an agent's own.
        temporary: folders that are made new and empty.
    """
    argv = [program, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if root:
        argv += ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
    if not network:
        argv += ["--unshare-net"]
    argv += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for folder in temporary:
        argv += ["--tmpfs", folder]
    closed: list[str] = []
    for path, mount in sorted(mounts.items(), key=lambda one: (len(one[0].parts), one[0])):
        if mount.kind == "empty" and _kind_around(path.parent, mounts) == "empty":
            continue
        # What is shown in a folder that is not there needs a place to be mounted upon.
        shown = (one for one, other in mounts.items() if other.kind != "empty")
        holds = mount.kind == "empty" and any(path in one.parents for one in shown)
        if holds or mount.kind == "private":
            argv += ["--tmpfs", str(path)]
            closed += ["--remount-ro", str(path)] if holds else []
            continue
        source = nothing / ("folder" if mount.folder else "file") if mount.kind == "empty" else path
        argv += ["--bind" if mount.kind == "write" else "--ro-bind", str(source), str(path)]
    return (*argv, *closed, "--chdir", str(cwd), "--")


@dataclass(frozen=True)
class Sandbox:
    """The confinement of the attempts, gates and hooks in one repository.

    Attributes:
        program: bubblewrap, absolute; "" if it is not installed.
        root: the primary checkout.
        home: a private folder of ours, where the caches of missions and what stands for nothing are kept.
        states: the folders in which each known agent keeps its logins and sessions.
    """

    program: str
    root: Path
    home: Path
    rules: Rules = field(default_factory=Rules)
    states: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def around(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        part: Part,
        *,
        mission: str,
        writes: bool,
        agent: str = "",
        writable: Iterable[Path] = (),
    ) -> Confined:
        """Confine a command; looks at the disk, and makes folders that the agent's CLI writes into.

        Args:
            command: its argv.
            env: its whole environment.
            cwd: the worktree.
            part: who runs it.
            mission: whose caches it uses.
            writes: whether it may write in the worktree; git's own file there is read-only all the same.
            agent: whose state it may use.
            writable: what it may write besides.

        Raises:
            OSError: our own folder cannot be written.
        """
        nothing = self.home / "nothing"
        make_hidden_folder(self.home)
        make_private_folder(nothing / "folder")
        (nothing / "file").touch(mode=0o600)
        caches = self.home / "caches" / path_part(mission)
        added = {**_made_caches(caches), "TMPDIR": PRIVATE_TMP}
        kept = {name: value for name, value in env.items() if name not in _SOCKETS}
        confined = {**kept, **added}
        places = Places(confined)
        mounts: dict[Path, Mount] = {}
        _put(mounts, self._needed(command, confined, cwd), "read")
        _put(mounts, _kernel(), "read")
        _put(mounts, self._hidden(places, env), "empty")
        _put(mounts, self._logins(agent, places), "read")
        _put(mounts, (caches, *writable), "write")
        for path in self._writable(agent, places):
            # A link in a place where an agent writes leads wherever an agent wants.
            if leads_there(path, (self.home / "caches", self.root / ".worktrees", cwd, *_written(mounts))):
                _put(mounts, [path], "write")
        _put(mounts, [cwd], "write" if writes else "read")
        if not writes:
            _put(mounts, self._private(agent, cwd), "private")
        # Only what could be written: a link that an agent has put there must not show what is hidden.
        protected = (*self._protected(agent, places, cwd), *_program(command, cwd, mounts))
        _put(mounts, (one for one in protected if _is_written(one, mounts)), "read")
        argv = wrapper(
            self.program,
            cwd,
            mounts,
            nothing,
            network=part in self.rules.network,
            root=os.getuid() == 0,
            temporary=_temporary(),
        )
        return Confined(argv, confined, added)

    def _needed(self, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[Path]:
        """Name what has to be there although it may lie in a folder that is made empty."""
        # What a command or a variable names was put there for it.
        named = {*command, *(part for value in env.values() for part in value.split(os.pathsep))}
        named = {name for name in named if name.startswith("/") and "\0" not in name}
        for name in named | {str(self.root), str(cwd), *map(str, homes(env)), "/etc/resolv.conf"}:
            for one in {name, os.path.realpath(name)}:
                if top := _below_temporary(one):
                    yield top

    def _hidden(self, places: "Places", env: Mapping[str, str]) -> Iterator[Path]:
        # Its own state is shown after this, where it is.
        states = (one for state in self.states.values() for one in state if not one.startswith("!"))
        shown = {one.rstrip("/") for one in self.rules.shown}
        usual = (one for one in (*KEYS, *states) if one.rstrip("/") not in shown)
        yield from places.of((*usual, *self.rules.hidden))
        for variable in _SOCKETS:
            socket = Path(env.get(variable, "").removeprefix("unix://"))
            if socket.is_absolute() and socket.is_socket():
                yield socket

    def _writable(self, agent: str, places: "Places") -> Iterator[Path]:
        own, _ = self._state(agent, places)
        for path, folder in own.items():
            if folder:
                with suppress(OSError):
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield from (path for path in own if path.exists())
        yield from places.of(self.rules.writable)

    def _private(self, agent: str, cwd: Path) -> Iterator[Path]:
        for name in (one for one in self.states.get(agent, ()) if one.startswith("./")):
            # What the project keeps there must be seen; an empty folder is nothing to git. Where a link leads
            # elsewhere, nothing is made.
            if os.path.realpath(cwd / name) != os.path.normpath(os.path.realpath(cwd) + f"/{name}"):
                continue
            with suppress(OSError):
                (cwd / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                if not any((cwd / name).iterdir()):
                    yield cwd / name

    def _state(self, agent: str, places: "Places") -> tuple[dict[Path, bool], dict[Path, bool]]:
        """Return what an agent may write, and what it may only read, each with whether it is a folder."""
        own: dict[Path, bool] = {}
        closed: dict[Path, bool] = {}
        for name in self.states.get(agent, ()):
            for path in places.written([name.removeprefix("!")]):
                (closed if name.startswith("!") else own)[path] = name.endswith("/")
        return own, closed

    def _logins(self, agent: str, places: "Places") -> Iterator[Path]:
        own, closed = self._state(agent, places)
        yield from (path for path in closed if not any(path.is_relative_to(one) for one in own))

    def _protected(self, agent: str, places: "Places", cwd: Path) -> Iterator[Path]:
        yield cwd / ".git"
        yield from (self.root / name for name in (".git", ".kittify", ".worktrees"))
        own, closed = self._state(agent, places)
        for path, folder in closed.items():
            # What is not there could be made, unless something stands in its place.
            if not os.path.lexists(path) and any(path.is_relative_to(one) for one in own):
                with suppress(OSError):
                    _make_empty(path, folder=folder)
            yield path

    @cached_property
    def failure(self) -> str:
        """Why it does not work on this machine, "" if it does; a command is run the first time."""
        if sys.platform != "linux":
            return "it is for Linux only"
        if not self.program:
            return "bubblewrap (bwrap) is not installed"
        script = 'echo x 2>/dev/null >"$1" && echo written; [ "$$" -lt 10 ] && echo alone'
        try:
            # Whoever only asks must leave nothing in the repository.
            with TemporaryDirectory() as folder:
                argv = ["/bin/sh", "-c", script, "sh", str(Path(folder, "outside"))]
                check = replace(self, home=Path(folder, "home"))
                inside = check.around(argv, os.environ, self.root, "gates", mission="", writes=False)
                argv = [*inside.wrapper, *argv]
                reply = child.run_now(argv, cwd=self.root, env=inside.env, limit_s=CHECK_LIMIT_S)
        except (OSError, TimeoutError) as error:
            return f"{self.program} cannot be run: {error}"
        if reply.rc != 0 or reply.text != "alone":
            open_ = "written" in reply.text
            said = "what runs inside could write outside" if open_ else reply.complaint
            return f"{self.program} does not work here: {said}"
        return ""


def refusal(directory: Path, exit_code: int | None) -> str:
    """Return what bubblewrap said instead of running the command with these logs, "" if it did run it."""
    with suppress(OSError):
        if exit_code == 1 and not (directory / "stdout.log").stat().st_size:
            said = next(read_lines(directory / "stderr.log"), "")
            return said if said.startswith("bwrap: ") else ""
    return ""


def find() -> str:
    """Return the path of bubblewrap, "" if it is not installed."""
    return which("bwrap", path=search_path(os.environ)) or ""


def _made_caches(caches: Path) -> dict[str, str]:
    """Make the folders in which tools keep theirs, and return the variables that say where."""
    made = {variable: str(caches / name) for variable, name in _CACHES.items()}
    make_private_folder(caches)
    for folder in map(Path, made.values()):
        # Whoever writes in there may have put anything in its place.
        with suppress(OSError):
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink(missing_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
    return made


def _put(mounts: dict[Path, Mount], paths: Iterable[Path], kind: Kind) -> None:
    for path in paths:
        # A mount follows links, also the one that it is put upon.
        real = os.path.realpath(path)
        with suppress(OSError):
            if real != "/":
                mounts[Path(real)] = Mount(kind, stat.S_ISDIR(Path(real).stat().st_mode))


def _written(mounts: Mapping[Path, Mount]) -> list[Path]:
    return [path for path, mount in mounts.items() if mount.kind == "write"]


def _kind_around(path: Path, mounts: Mapping[Path, Mount]) -> Kind | None:
    return next((mounts[one].kind for one in (path, *path.parents) if one in mounts), None)


def _is_written(path: Path, mounts: Mapping[Path, Mount]) -> bool:
    """Tell whether what a path leads to can be written inside."""
    return _kind_around(Path(os.path.realpath(path)), mounts) == "write"


def _program(command: Sequence[str], cwd: Path, mounts: Mapping[Path, Mount]) -> Iterator[Path]:
    """Name what holds the program itself where a CLI is installed in the folder of its own state."""
    real = Path(os.path.realpath(command[0]))
    for place in _written(mounts):
        if place in real.parents and not cwd.is_relative_to(place):
            yield place / real.relative_to(place).parts[0]


@cache
def _kernel() -> tuple[Path, ...]:
    """Name the files with which root changes the kernel: it owns them, also as nobody and without a right."""
    return tuple(
        path
        for path in (Path("/proc").iterdir() if os.getuid() == 0 and sys.platform == "linux" else ())
        if not (path.name.isdigit() or path.is_symlink()) and (path.is_dir() or path.stat().st_mode & 0o222)
    )


def _make_empty(path: Path, *, folder: bool) -> None:
    if folder:
        path.mkdir(mode=0o700)
    elif path.parent.is_dir():
        with path.open("x", encoding="utf-8") as file:
            file.write("{}\n" if path.suffix == ".json" else "")


@cache
def _temporary() -> tuple[str, ...]:
    return tuple(one for one in TEMPORARY if Path(one).is_dir() and not Path(one).is_symlink())


def _below_temporary(path: str) -> Path | None:
    """Return what must be shown of a folder that is made empty, None if the path is in none of them."""
    for folder in _temporary():
        if path.startswith(f"{folder}/"):
            # Sockets of others lie beside each other in /run; elsewhere a program has its files beside it.
            first = path.removeprefix(f"{folder}/").partition("/")[0]
            return Path(path) if folder == "/run" else Path(folder, first)
    return None
