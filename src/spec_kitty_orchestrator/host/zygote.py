"""Answers calls of the host from forked copies of a process that has the host imported.

Runs inside the host's own interpreter, as a script: the standard library only, nothing of ours, nothing of
the host by name. It runs the host's console script once for a call that changes nothing, so that everything
is imported, says on stdout what that call answered, and serves from then on. Each call is a child that runs
the same script with the argv, the directory, the environment and the output of its caller.

    python [options] zygote.py SETTINGS        (JSON: socket, script or module, prime, memoize)

A caller connects to the socket and sends one line of JSON (token, argv, cwd, env) with two descriptors, for
stdout and stderr. It gets `{"pid": n}` when the child runs and `{"exit": n}` when it is gone, or `{"refused":
reason}` when nothing was run. `TERM` or `KILL` in a line of its own is sent to the child's process group.
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
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

TOKEN_VARIABLE = "SPEC_KITTY_ORCHESTRATOR_WARM_TOKEN"  # noqa: S105 - the name of the variable
LONGEST_REQUEST = 8 * 1024 * 1024
"""Bytes; the kernel itself takes no more than a few MiB of arguments and environment."""
STAMP_S = 1.0
"""How long what was seen of the installation is believed: looking at 1,500 files takes some milliseconds."""
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
        """Run it to its end, exit handlers included, and return the exit status."""
        status = 0
        try:
            sys.argv = [self.path or self.module, *argv]
            if self.path:
                runpy.run_path(self.path, run_name="__main__")
            else:
                runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            status = self._status(error.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 1
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                status = status or 120
        return status & 0xFF

    @staticmethod
    def _status(code: object) -> int:
        if code is None:
            return 0
        if isinstance(code, int):
            return code
        print(code, file=sys.stderr)
        return 1


class Installation:
    """What the imported host was made from: if that changes, a copy of this process would be a mixture."""

    def __init__(self, script: Script) -> None:
        self._watching = True
        self._read: set[str] = set()
        self._script = script
        self._looked = 0.0
        self._same = True
        sys.addaudithook(self._audit)

    def remember(self) -> None:
        """Take stock once everything is imported."""
        self._watching = False
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        outside = {path for path in self._read if path.endswith(READ_ONCE)}
        outside = {path for path in outside if not path.startswith(sys.prefix)}
        self._files = sorted({path for path in loaded if path} | outside | {self._script.path})
        self._folders = [path for path in sys.path if os.path.isdir(path)]
        self._before = self._look()

    def unchanged(self) -> bool:
        """Tell whether everything is as it was."""
        now = time.monotonic()
        if self._same and now - self._looked >= STAMP_S:
            self._same = self._look() == self._before
            self._looked = now
        return self._same

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watching and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            self._read.add(os.path.abspath(os.fspath(arguments[0])))

    def _look(self) -> tuple[list[object], list[object]]:
        return [_stamp(path) for path in self._files], [_distributions(path) for path in self._folders]


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _distributions(folder: str) -> object:
    try:
        return sorted(
            name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info", ".pth"))
        )
    except OSError:
        return None


class Call:
    """One caller: first what it sends, then the child that works for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.data = b""
        self.descriptors: list[int] = []
        self.pid = 0

    def tell(self, **words: object) -> None:
        """Send a line; a caller that has left need not hear it."""
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
        seeded: dict[str, str],
    ) -> None:
        self._listener, self._lifeline = listener, lifeline
        self._token, self._script = token, script
        self._installation, self._seeded = installation, seeded
        self._calls: dict[int, Call] = {}
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._woken, waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
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

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        # Replies are some bytes and fit the socket's buffer; a caller that does not read them cannot hold us.
        connection.settimeout(0)
        call = Call(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(call))

    def _read(self, call: Call) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(call.connection, 65536, 2)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        call.descriptors += descriptors
        call.data += data
        if not data:
            # The caller has gone. Its child goes on: what the host has begun it had better end.
            self._leave(call)
            return
        *lines, call.data = call.data.split(b"\n")
        for line in lines:
            if call.pid:
                self._signal(call, line)
            else:
                self._take(call, line)
        if len(call.data) > LONGEST_REQUEST:
            self._refuse(call, "the request is too long")

    def _take(self, call: Call, line: bytes) -> None:
        try:
            request = json.loads(line)
            allowed = hmac.compare_digest(request["token"], self._token)
            argv, cwd, env = request["argv"], request["cwd"], request["env"]
        except (ValueError, TypeError, KeyError):
            self._refuse(call, "the request is not understood")
            return
        if not allowed or len(call.descriptors) != 2:
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
        call.pid = pid
        self._calls[pid] = call
        self._drop(call.descriptors)
        call.tell(pid=pid)

    def _be(self, call: Call, argv: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
        """Become the call; never returns."""
        status = 125
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor, stream in zip(call.descriptors, (1, 2), strict=True):
                os.dup2(descriptor, stream)
            self._drop(call.descriptors)
            for other in [key.fileobj for key in self._selector.get_map().values()]:
                other.close() if isinstance(other, socket.socket) else os.close(int(str(other)))
            self._selector.close()
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update({**self._seeded, **env})
            status = self._script.run(argv)
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _signal(self, call: Call, line: bytes) -> None:
        signum = {b"TERM": signal.SIGTERM, b"KILL": signal.SIGKILL}.get(line)
        if signum is not None:
            try:
                # Not reaped yet, so the number is still the child's; its group may not exist yet.
                os.killpg(call.pid, signum)
            except ProcessLookupError:
                os.kill(call.pid, signum)

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
        if call.connection.fileno() >= 0:
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


def prime(script: Script, argv: Sequence[str]) -> tuple[int, str]:
    """Run a call in this process, and return its exit status and what it wrote to stdout."""
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        status = script.run(argv)
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.close(silence)
        output.seek(0)
        return status, output.read().decode("utf-8", "replace")


def main() -> None:
    """Import the host by running it once, then serve."""
    settings = json.loads(sys.argv[1])
    token = os.environ.pop(TOKEN_VARIABLE)
    lifeline, report = os.dup(0), os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.close(silence)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(settings["socket"])
    listener.listen(64)
    listener.settimeout(0)
    script = Script(settings)
    installation = Installation(script)
    given = set(os.environ)
    if settings["memoize"]:
        memoize_command_tree()
    status, output = prime(script, settings["prime"])
    installation.remember()
    seeded = {name: value for name, value in os.environ.items() if name not in given}
    answer = {"status": status, "stdout": output, "threads": threading.active_count()}
    with os.fdopen(report, "w") as stream:
        json.dump(answer, stream)
    gc.collect()
    gc.freeze()
    Server(listener, lifeline, token, script, installation, seeded).serve()
    folder = os.path.dirname(settings["socket"])
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


if __name__ == "__main__":
    main()
