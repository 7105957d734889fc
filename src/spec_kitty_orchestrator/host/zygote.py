"""Answers calls of the host from forked copies of a process that has the host imported.

Runs inside the host's own interpreter, as a script: the standard library only, nothing of ours, nothing of
the host by name. It runs the host's console script once for a call that changes nothing, so that everything
is imported, says on stdout what that call answered, and serves from then on. Each call is a child that runs
the same script with the argv, the directory, the environment and the output of its caller.

    python [options] zygote.py SETTINGS        (JSON: socket, executable, script or module, prime, memoize)

A caller connects to the socket and sends one line of JSON (token, argv, cwd, env) with two descriptors, for
stdout and stderr, or three: the last one is closed when the child is gone, whatever became of this process.
It gets `{"pid": n}` when the child, which leads a session, runs, and `{"exit": n}` when it is gone, or
`{"refused": reason}` when nothing was run. A child outlives its caller, unless the request says `bound`.
When stdin closes nothing new is taken, and what runs may end.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Our folder must not hide modules of the host's.
    del sys.path[0]

import atexit
import gc
import hmac
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

__all__ = ["TOKEN_VARIABLE"]

TOKEN_VARIABLE = "SPEC_KITTY_ORCHESTRATOR_WARM_TOKEN"  # noqa: S105 - the name of the variable
LONGEST_REQUEST = 8 * 1024 * 1024
"""Bytes; the kernel itself takes no more than a few MiB of arguments and environment."""
STAMP_S = 1.0
"""How long what was seen of the installation is believed: looking at 1,500 files takes some milliseconds."""
TASKS = "/proc/self/task"
"""Where Linux lists the threads of a process, those that Python does not know included."""
READ_ONCE = (".env", ".toml", ".yaml")
"""Files outside of the installation that the host reads when it is imported; it would not see an edit."""


class Script:
    """The host's program, run as the interpreter would run it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.path: str = settings["script"]
        self.module: str = settings["module"]
        if not sys.flags.safe_path:
            sys.path.insert(0, os.path.dirname(os.path.realpath(self.path)) if self.path else os.getcwd())

    def run(self, argv: Sequence[str]) -> int:
        """Run it to where it ends or exits, and return the exit status."""
        try:
            sys.argv = [self.path or self.module, *argv]
            if self.path:
                runpy.run_path(self.path, run_name="__main__")
            else:
                runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            if error.code is None or isinstance(error.code, int):
                return error.code or 0
            print(error.code, file=sys.stderr)
            return 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        return 0


class Installation:
    """What the imported host was made from: if that changes, a copy of this process would be a mixture."""

    def __init__(self, *paths: str) -> None:
        self._watching = True
        self._read: set[str] = set()
        self._paths = paths
        self._looked, self._same = 0.0, True
        sys.addaudithook(self._audit)

    def remember(self) -> None:
        """Take stock once everything is imported."""
        self._watching = False
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        outside = (path for path in self._read if path.endswith(READ_ONCE))
        outside = (path for path in outside if not path.startswith(sys.prefix))
        self._files = sorted({path for path in (*loaded, *self._paths, *outside) if path})
        self._before = self._look()

    def unchanged(self) -> bool:
        """Tell whether everything is as it was."""
        if self._same and time.monotonic() - self._looked >= STAMP_S:
            self._same = self._look() == self._before
            self._looked = time.monotonic()
        return self._same

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watching and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            self._read.add(os.path.abspath(os.fspath(arguments[0])))

    def _look(self) -> tuple[list[object], list[object]]:
        return [_stamp(path) for path in self._files], [_distributions(path) for path in sys.path]


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _distributions(folder: str) -> object:
    try:
        return sorted(one for one in os.listdir(folder) if one.endswith((".dist-info", ".egg-info", ".pth")))
    except OSError:
        return None


class Call:
    """One caller: first what it sends, then the child that works for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.data = b""
        self.descriptors: list[int] = []
        self.pid: int = 0
        self.bound: bool = False

    def tell(self, **words: object) -> None:
        """Send a line; who has left need not hear it."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(words).encode() + b"\n")


class Server:
    """Takes calls until stdin closes."""

    def __init__(
        self,
        listener: socket.socket,
        lifeline: int,
        token: str,
        script: Script,
        installation: Installation,
        seeded: dict[str, tuple[str | None, str | None]],
    ) -> None:
        self._listener, self._lifeline = listener, lifeline
        self._token, self._script, self._installation, self._seeded = token, script, installation, seeded
        self._callers: set[Call] = set()
        self._calls: dict[int, Call] = {}
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        ours = ((signal.SIGINT, signal.SIG_IGN), (signal.SIGCHLD, lambda *_: None))
        self._handlers = {signum: signal.signal(signum, handler) for signum, handler in ours}
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        self._selector.register(lifeline, selectors.EVENT_READ, self._close)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        """Return when stdin is closed and the last child is gone."""
        while self._open or self._calls:
            for key, _ in self._selector.select():
                key.data()

    def _close(self) -> None:
        if os.read(self._lifeline, 4096):
            return
        self._open = False
        self._selector.unregister(self._lifeline)
        self._selector.unregister(self._listener)
        # Whoever waits to be taken learns at once that nothing was begun.
        while self._accept():
            pass
        self._listener.close()
        for call in [call for call in self._callers if not call.pid]:
            self._refuse(call, "it is ending")

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return False
        # Replies are some bytes and fit the socket's buffer; a caller that does not read them cannot hold us.
        connection.settimeout(0)
        self._callers.add(call := Call(connection))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(call))
        return True

    def _read(self, call: Call) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(call.connection, 65536, 3)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        call.descriptors += descriptors
        call.data += data
        if not data:
            # The caller has gone. Its child goes on: what the host has begun it had better end.
            if call.bound and call.pid:
                with suppress(OSError):
                    os.killpg(call.pid, signal.SIGTERM)
            self._leave(call)
        elif call.pid:
            self._drop(call.descriptors)
            call.data = b""
        elif b"\n" in call.data:
            self._take(call, call.data)
        elif len(call.data) > LONGEST_REQUEST or len(call.descriptors) > 3:
            self._refuse(call, "the request is too long")

    def _take(self, call: Call, line: bytes) -> None:
        try:
            request = json.loads(line)
            allowed = hmac.compare_digest(request["token"], self._token) and len(call.descriptors) in (2, 3)
            argv, cwd, env = request["argv"], request["cwd"], request["env"]
            call.bound = bool(request.get("bound"))
        except (ValueError, TypeError, KeyError, RecursionError):
            allowed = False
        if not allowed:
            self._refuse(call, "the request is not allowed")
        elif not self._installation.unchanged():
            self._refuse(call, "the installation of the host has changed")
        else:
            self._fork(call, argv, cwd, env)

    def _refuse(self, call: Call, reason: str) -> None:
        call.tell(refused=reason)
        self._leave(call)

    def _fork(self, call: Call, argv: list[str], cwd: str, env: dict[str, str]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._refuse(call, f"no process can be started: {error.strerror}")
            return
        if pid == 0:
            self._be(call, argv, cwd, env)
        call.pid, call.data = pid, b""
        self._calls[pid] = call
        self._drop(call.descriptors)
        call.tell(pid=pid)

    def _be(self, call: Call, argv: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
        """Become the call; never returns."""
        status = 125
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
            out, err, *alive = call.descriptors
            os.dup2(out, 1)
            os.dup2(err, 2)
            # The third stays open until the child ends; what it starts is not waited for.
            for descriptor in alive:
                os.set_inheritable(descriptor, False)
            self._drop([out, err])
            self._forget(call)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(self._seed(env))
            status = self._script.run(argv)
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            status = flush() or status
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status & 0xFF)

    def _forget(self, call: Call) -> None:
        """Close, in a child, what belongs to the server and to other calls."""
        for other in self._callers:
            other.connection.close()
            if other is not call:
                self._drop(other.descriptors)
        self._selector.close()
        self._listener.close()
        self._drop([self._woken, self._waker, self._lifeline])

    def _seed(self, env: dict[str, str]) -> dict[str, str]:
        """Return the environment with what the host changed in it when it was imported."""
        changed = {name: new for name, (old, new) in self._seeded.items() if env.get(name) == old}
        return {name: value for name, value in {**env, **changed}.items() if value is not None}

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)
        for pid in list(self._calls):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                call = self._calls.pop(pid)
                call.tell(exit=os.waitstatus_to_exitcode(status))
                self._leave(call)

    def _leave(self, call: Call) -> None:
        self._drop(call.descriptors)
        if call in self._callers:
            self._callers.remove(call)
            self._selector.unregister(call.connection)
            call.connection.close()

    @staticmethod
    def _drop(descriptors: list[int]) -> None:
        while descriptors:
            os.close(descriptors.pop())


def memoize_command_tree() -> None:
    """Let typer build each application's commands once: it builds them anew for every run."""
    try:
        import typer.main
    except ImportError:
        return
    build: Callable[[Any], Any] = typer.main.get_command
    built: dict[int, tuple[Any, Any]] = {}

    def get_command(application: Any) -> Any:
        if id(application) not in built:
            # The application is kept as well, so that its id stays its own.
            built[id(application)] = application, build(application)
        return built[id(application)][1]

    typer.main.get_command = get_command  # type: ignore[assignment]


def flush() -> int:
    """Write what the streams still hold, as an interpreter does at its end; return 120 if that fails."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if not getattr(stream, "closed", True):
                stream.flush()
    except OSError:
        return 120
    return 0


def prime(script: Script, argv: Sequence[str]) -> tuple[int, str]:
    """Run a call in this process; return its exit status and stdout."""
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        status = script.run(argv) or flush()
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.close(silence)
        output.seek(0)
        return status, output.read().decode("utf-8", "replace")


def main() -> None:
    """Import the host by running it once, then serve."""
    settings = json.loads(sys.argv[1])
    token, lifeline, report = os.environ.pop(TOKEN_VARIABLE), os.dup(0), os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.close(silence)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(settings["socket"])
    listener.listen(64)
    listener.settimeout(0)
    script = Script(settings)
    installation = Installation(settings["executable"], script.path, sys.executable)
    given = dict(os.environ)
    if sys.flags.utf8_mode:
        # In the C locale Python itself has set it.
        given.pop("LC_CTYPE", None)
    if settings["memoize"]:
        memoize_command_tree()
    gc.disable()  # nearly all that importing makes stays: to look through it would take a tenth of the time
    status, output = prime(script, settings["prime"])
    installation.remember()
    both = {name: (given.get(name), os.environ.get(name)) for name in {*given, *os.environ}}
    seeded = {name: (old, new) for name, (old, new) in both.items() if old != new}
    threads = len(os.listdir(TASKS)) if os.path.isdir(TASKS) else threading.active_count()
    with os.fdopen(report, "w") as stream:
        json.dump({"status": status, "stdout": output, "threads": threads}, stream)
    gc.freeze()
    gc.enable()
    Server(listener, lifeline, token, script, installation, seeded).serve()
    shutil.rmtree(os.path.dirname(settings["socket"]), ignore_errors=True)


if __name__ == "__main__":
    main()
