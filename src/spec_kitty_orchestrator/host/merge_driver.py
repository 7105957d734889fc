"""Answers git's merge drivers from the warm host: git runs this in their place, as a script of its own.

    python -IS merge_driver.py HOST SOCKET merge-driver-NAME ANCESTOR OURS THEIRS

The token comes in the environment. Where the warm host cannot be reached or does not take the request, the
host itself is run; a request that was sent is never run a second time.
"""

import json
import os
import socket
import sys

__all__ = ["FAILED"]

TOKEN_VARIABLE = "SPEC_KITTY_ORCHESTRATOR_WARM_TOKEN"  # noqa: S105 - the name of the variable
FAILED = 129
"""More than 128 tells git that the driver failed, rather than that there are conflicts."""


def ask(address: str, argv: list[str]) -> int | None:
    """Return the exit status of the call, None if it was not begun."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        return None
    request = {
        "token": os.environ.get(TOKEN_VARIABLE, ""),
        "argv": argv,
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "bound": True,
    }
    data = json.dumps(request).encode() + b"\n"
    try:
        sent = socket.send_fds(connection, [data], [1, 2])
        if sent < len(data):
            connection.sendall(data[sent:])
        for line in connection.makefile("rb"):
            told = json.loads(line)
            if "refused" in told:
                return None
            if "exit" in told:
                status = int(told["exit"])
                return status if status >= 0 else FAILED
    except (OSError, ValueError):
        pass
    return FAILED


def _main() -> None:
    host, address, *argv = sys.argv[1:]
    status = ask(address, argv)
    if status is None:
        os.execv(host, [host, *argv])  # noqa: S606 - no shell is wanted
    sys.exit(status)


if __name__ == "__main__":
    _main()
