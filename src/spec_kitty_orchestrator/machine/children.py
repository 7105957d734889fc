"""Every child that we start, so that it can be told from those that the kernel gives us.

A process that loses its parent becomes the child of its nearest ancestor that takes such children: ours where
we are PID 1 or asked for them.
"""

import errno
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

__all__ = ["start", "started", "take_orphans", "takes_orphans"]

_PR_SET_CHILD_SUBREAPER = 36

_ours: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()
_starting = threading.Lock()
_taking: list[bool] = []


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a child, as `Popen` does.

    Raises:
        OSError: it cannot be started, or its exit status would never reach us.
        ValueError: as `Popen` does.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Every failure would read as success.
        raise OSError(errno.ECHILD, "this program ignores SIGCHLD; set it to SIG_DFL first")
    with _starting:
        process: subprocess.Popen[bytes] = subprocess.Popen(argv, **options)
        _ours.add(process)
    return process


@contextmanager
def started() -> Iterator[frozenset[int]]:
    """Give the numbers of the children that we started; no other starts while the context lasts."""
    with _starting:
        yield frozenset(one.pid for one in _ours)


def take_orphans() -> None:
    """Become the parent of every descendant that loses its own, as long as this process lives; only on Linux.

    Not for programs that import us: they have children that we do not know.
    """
    # Some Pythons are built without ctypes.
    if sys.platform == "linux" and find_spec("_ctypes"):
        import ctypes

        if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
            _taking.append(True)


def takes_orphans() -> bool:
    """Tell whether `take_orphans` succeeded."""
    return bool(_taking)
