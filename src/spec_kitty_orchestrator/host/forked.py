"""One call that the warm host makes for us: asked for over its socket, its output comes through our pipes."""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

from spec_kitty_orchestrator.host.warm_process import WarmProcess

__all__ = ["ANSWER_S", "LOST", "Forked", "NotTaken"]

ANSWER_S = 30.0
"""How long the warm host may take to begin a call: it only forks, on a machine that may be very busy."""
LAST_WORDS_S = 5.0
"""How long the connection of a warm host that was killed may take to end; the kernel closes it at once."""
LOST = -signal.SIGKILL
"""The exit code of a call whose own is not known: there is no answer, and the state must be read again."""


class NotTaken(OSError):
    """The warm host did not begin the call; nothing happened."""


class Forked:
    """Implements `Process` for a copy of the warm host.

    The copy holds a pipe of ours open for as long as it lives, so its end is known even if the warm host
    ended before it.
    """

    def __init__(self, warm: WarmProcess, argv: Sequence[str], cwd: Path) -> None:
        """Ask for the call.

        Raises:
            NotTaken: it was not begun.
            OSError: it cannot be asked for, by whatever means.
        """
        if any("\0" in word for word in argv):
            raise OSError("embedded null byte")
        self._pid = 0
        self._code: int | None = None
        self._warm_gone = False
        self._received = b""
        request = {"token": warm.token, "argv": list(argv), "cwd": str(cwd), "env": warm.env}
        pipes: list[tuple[int, int]] = []
        try:
            for _ in range(3):
                pipes.append(os.pipe())  # noqa: PERF401 - those that were made must be closed
            self._connection = socket.socket(socket.AF_UNIX)
        except OSError as error:
            for end in chain.from_iterable(pipes):
                os.close(end)
            raise NotTaken(f"it cannot be asked: {error.strerror or error}") from error
        out, err, alive = (os.fdopen(reading, "rb", buffering=0) for reading, _ in pipes)
        self.stdout: IO[bytes] = out
        self.stderr: IO[bytes] = err
        self._alive: IO[bytes] = alive
        try:
            self._ask(warm, json.dumps(request).encode() + b"\n", [end for _, end in pipes])
        except BaseException:
            self.close()
            raise

    def _ask(self, warm: WarmProcess, request: bytes, ends: list[int]) -> None:
        self._connection.settimeout(ANSWER_S)
        try:
            self._connection.connect(warm.address)
            # The descriptors travel with the first byte; without the end of the line nothing is begun.
            sent = socket.send_fds(self._connection, [request], ends)
            if sent < len(request):
                # Nothing more to send must not fail: the call may have been begun, and be over.
                self._connection.sendall(request[sent:])
        except OSError as error:
            raise NotTaken(f"it cannot be reached: {error.strerror or error}") from error
        finally:
            for end in ends:
                os.close(end)
        if not self._readable(self._connection, ANSWER_S):
            # It could still begin the call long after we have said that nobody knows what became of it.
            warm.kill()
            # It may have begun the call at the last moment: then its copy must be known, to be stopped.
            while not self._warm_gone and self._readable(self._connection, LAST_WORDS_S):
                self._receive()
            self._warm_gone = True
        while not (self._pid or self._warm_gone):
            self._receive()

    def poll(self) -> int | None:
        """Return the exit code once the call is over; `LOST` if it is over and nobody knows its code."""
        if self._code is None and not self._warm_gone and self._readable(self._connection, 0):
            self._receive()
        if self._code is None and self._warm_gone and self._readable(self._alive, 0):
            self._code = LOST
        return self._code

    def wait(self, timeout_s: float) -> None:
        """Return when the call has ended, or after the timeout."""
        deadline = time.monotonic() + timeout_s
        while self.poll() is None and (left_s := deadline - time.monotonic()) > 0:
            self._readable(self._alive if self._warm_gone else self._connection, left_s)

    def signal_group(self, signum: signal.Signals) -> None:
        """Send a signal to the copy and to what it started."""
        if not self._pid:
            return
        with suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(self._pid, signum)
            except ProcessLookupError:
                # Its group does not exist yet, or not any more.
                if self.poll() is None:
                    os.kill(self._pid, signum)

    def close(self) -> None:
        """Let go of the pipes and of the connection; the call goes on if it has not ended."""
        for one in (self.stdout, self.stderr, self._alive, self._connection):
            one.close()

    @staticmethod
    def _readable(source: "IO[bytes] | socket.socket", timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(source, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _receive(self) -> None:
        try:
            data = self._connection.recv(4096)
        except OSError:
            data = b""
        self._warm_gone = not data
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            try:
                self._understand(json.loads(line))
            except (ValueError, TypeError, KeyError):
                self._warm_gone = True

    def _understand(self, told: Mapping[str, Any]) -> None:
        if "refused" in told:
            raise NotTaken(str(told["refused"]))
        if "exit" in told:
            self._code = int(told["exit"])
        else:
            self._pid = int(told["pid"])
