"""The shell between us and an attempt's command: it outlives both, ends what is left, keeps the status."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["wrapped", "wrapped_directory"]

_NAME = "spec-kitty-orchestrator-attempt"
# The wrapper lives through a stop's signals in order to record the status (a trapped signal, unlike an
# ignored one, has its default effect in the command). While it records, `mv` ignores the signals too. What
# the shell itself would say of the command's end, such as "Terminated", is kept out of the agent's stderr.
# Nor does it run outside of a sandbox what the command has put into a folder of PATH.
# Its own stdin is the lock, which the command must not hold: daemons would keep it.
#
# It is made a subreaper: whoever loses its parent becomes its child, so after the command's end its children
# are what the command left, whatever their sessions and environments are. They cannot be mistaken for others:
# a number stays theirs until the shell has waited for them, which it does while `sleep` runs. The status is
# recorded when nothing is left, or what is left cannot be ended.
_WRAPPER = """\
trap : HUP INT TERM
directory=$1 stdin=$2
shift 2
exec 3>&2 2>/dev/null
(exec "$@") <"$stdin" 2>&3 3>&-
status=$?
trap '' HUP INT TERM
umask 077
PATH=/usr/bin:/bin:$PATH
(:)
seen= swept=0 round=0
while [ "$round" -lt 60 ]; do
    left=
    read -r left <"/proc/$$/task/$$/children"
    [ "$left" ] || break
    for one in $left; do
        case " $seen " in
        *" $one "*) [ "$round" -lt 20 ] || kill -KILL "$one" ;;
        *) seen="$seen $one" swept=$((swept + 1)) && kill -TERM "$one" ;;
        esac
    done
    sleep 0.05
    round=$((round + 1))
done
left=
[ "$swept" -eq 0 ] || left=" $swept"
printf '%s\\n' "$status$left" >"$directory/exit.part" && mv -f "$directory/exit.part" "$directory/exit"
exit "$status"
"""
# No shell can make itself a subreaper; it stays one when it takes another program's place. Python changes the
# environment (LC_CTYPE) and ignores SIGPIPE: neither must reach the command.
_SUBREAPER = """\
import os, _signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
except ImportError:
    pass
for number in _signal.SIGPIPE, _signal.SIGXFSZ:
    _signal.signal(number, _signal.SIG_DFL)
with open("/proc/self/environ", "rb") as file:
    variables = [one.partition(b"=") for one in file.read().split(b"\\0") if one]
os.execve(sys.argv[1], sys.argv[1:], {name: value for name, _, value in variables})
"""


def wrapped(command: Sequence[str], directory: Path, stdin: Path, *, contained: bool) -> list[str]:
    """Return what to start, with a locked file as stdin, so that a command runs with this stdin.

    `contained` says that the command leaves nothing running.
    """
    argv = ["/bin/sh", "-c", _WRAPPER, _NAME, str(directory), str(stdin), *command]
    if sys.platform == "linux" and not contained and _is_python(sys.executable):
        return [sys.executable, "-I", "-S", "-c", _SUBREAPER, *argv]
    return argv


def _is_python(program: str | None) -> bool:
    """Tell whether it is an interpreter: in a frozen or embedding program it is that program."""
    name = Path(program or "").name
    return name.startswith(("python", "pypy")) and os.access(program or "", os.X_OK)


def wrapped_directory(argv: Sequence[str]) -> Path | None:
    """Return the directory of the attempt whose wrapper has this command line, None if it is no wrapper."""
    place = argv.index(_NAME) + 1 if _NAME in argv else len(argv)
    return Path(argv[place]) if place < len(argv) else None
