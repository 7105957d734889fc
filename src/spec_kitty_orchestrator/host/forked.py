"""One call that the warm host makes for us: asked for over its socket, its output comes through our pipes."""

import json
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

ANSWER_S = 30.0
"""How long the warm host may take to begin a call: it only forks, on a machine that may be very busy."""
LOST = -signal.SIGKILL
"""The exit code of a call whose own is not known: there is no answer, and the state must be read again."""


class NotTaken(OSError):
    """The warm host did not begin the call; nothing happened."""


class Forked:
    """Implements `Process` for a copy of the warm host.

    Attributes:
        lost: the warm host ended before the call did.
    """

    def __init__(
        self, address: str, token: str, argv: Sequence[str], cwd: Path, env: Mapping[str, str]
    ) -> None:
        """Ask for the call.

        Raises:
            NotTaken: it was not begun.
        """
        self.lost = False
        self._code: int | None = None
        self._begun = False
        self._received = b""
        self._child: psutil.Process | None = None
        request = {"token": token, "argv": list(argv), "cwd": str(cwd), "env": dict(env)}
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.stdout: IO[bytes] = os.fdopen(out, "rb", buffering=0)
        self.stderr: IO[bytes] = os.fdopen(err, "rb", buffering=0)
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self._ask(address, json.dumps(request).encode() + b"\n", (out_end, err_end))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(out_end)
            os.close(err_end)

    def _ask(self, address: str, request: bytes, ends: tuple[int, int]) -> None:
        self._connection.settimeout(ANSWER_S)
        try:
            self._connection.connect(address)
            # The descriptors travel with the first byte; without the end of the line nothing is begun.
            sent = socket.send_fds(self._connection, [request], list(ends))
            self._connection.sendall(request[sent:])
        except OSError as error:
            raise NotTaken(f"it cannot be reached: {error.strerror or error}") from error
        while not (self._begun or self.lost or self._code is not None):
            self._receive()

    def poll(self) -> int | None:
        """Return the exit code once the call is over; `LOST` if it is over and nobody knows its code."""
        if self._code is None and not self.lost and self._readable(0):
            self._receive()
        if self._code is None and self.lost and self._gone():
            self._code = LOST
        return self._code

    def wait(self, timeout_s: float) -> None:
        """Return when the call has ended, or after the timeout."""
        if self._code is not None:
            return
        if not self.lost:
            self._readable(timeout_s)
        elif self._child is not None:
            with suppress(psutil.TimeoutExpired):
                self._child.wait(timeout_s)
        self.poll()

    def signal_group(self, signum: signal.Signals) -> None:
        """Have the warm host send a signal, which cannot meet another process; or send it ourselves."""
        name = {signal.SIGTERM: b"TERM\n", signal.SIGKILL: b"KILL\n"}[signum]
        with suppress(OSError, psutil.Error):
            if not self.lost:
                self._connection.sendall(name)
            elif self._child is not None and self._child.is_running():
                os.killpg(self._child.pid, signum)

    def close(self) -> None:
        """Let go of the pipes and of the connection; the call goes on if it has not ended."""
        self.stdout.close()
        self.stderr.close()
        self._connection.close()

    def _readable(self, timeout_s: float) -> bool:
        return bool(select.select([self._connection], [], [], timeout_s)[0])

    def _receive(self) -> None:
        try:
            data = self._connection.recv(4096)
        except OSError:
            data = b""
        self.lost = not data
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            try:
                self._understand(json.loads(line))
            except (ValueError, TypeError, KeyError):
                self.lost = True

    def _understand(self, told: Mapping[str, Any]) -> None:
        if "refused" in told:
            raise NotTaken(str(told["refused"]))
        if "exit" in told:
            self._code = int(told["exit"])
            return
        self._begun = True
        with suppress(psutil.Error):
            self._child = psutil.Process(int(told["pid"]))

    def _gone(self) -> bool:
        if self._child is None:
            # Its output is all that we have of it: nobody holds the writing end any more once it is over.
            poll = select.poll()
            poll.register(self.stdout, 0)
            return bool(poll.poll(0))
        with suppress(psutil.Error):
            return not self._child.is_running() or bool(self._child.status() == psutil.STATUS_ZOMBIE)
        return True
