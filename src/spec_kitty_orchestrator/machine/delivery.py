"""Delivers messages to the places that a person named: by a post, or by a command of theirs.

Each goes through a child that is stopped at its limit: nothing that a server, a name service or a command
does can take longer. Both have the person's own environment: neither is an agent, nor runs what one wrote.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from spec_kitty_orchestrator.core.describe import LONGEST_QUOTE, clean, last_line
from spec_kitty_orchestrator.machine import child, webhook
from spec_kitty_orchestrator.machine.environment import search_path, without_git
from spec_kitty_orchestrator.settings.notify_section import LOOPBACK

__all__ = ["post", "program_of", "run"]

POST_S = 10.0
"""For one try, from the name of the machine to the end of the answer."""
TRIES = 2
PAUSE_S = 2.0
COMMAND_S = 20.0
_MOST_BYTES = 64 * 1024
_TRY_AGAIN = frozenset({408, 425, 429, *range(500, 600)})


async def post(url: str, headers: Mapping[str, str], body: str, root: Path) -> str:
    """Post a message; return why it did not arrive, "" if a server answered with 2xx."""
    problem = ""
    for number in range(TRIES):
        if number:
            await anyio.sleep(PAUSE_S)
        problem, again = await _post(url, headers, body, root)
        if not again:
            break
    return problem


async def _post(url: str, headers: Mapping[str, str], body: str, root: Path) -> tuple[str, bool]:
    direct = urlsplit(url).hostname in LOOPBACK
    asked = json.dumps({"url": url, "headers": headers, "body": body, "direct": direct}).encode()
    argv = (sys.executable, "-IS", webhook.__file__)
    try:
        reply = await child.run(argv, cwd=root, env=_own(), limit_s=POST_S, stdin=asked, most=_MOST_BYTES)
        told = json.loads(reply.stdout)
    except TimeoutError:
        return f"no answer within {POST_S:g} s", True
    except (OSError, ValueError) as error:
        return clean(f"it could not be posted: {error}", LONGEST_QUOTE), False
    if "problem" in told:
        return clean(told["problem"], LONGEST_QUOTE), True
    status = told["status"]
    if 200 <= status < 300:
        return "", False
    said = clean(last_line(told["said"].partition("\n")[0]), LONGEST_QUOTE)
    return f"it answered {status}{f': {said}' if said else ''}", status in _TRY_AGAIN


async def run(words: Sequence[str], message: str, root: Path) -> str:
    """Give a message to a command; return why it failed, "" if it exited with 0."""
    env = _own()
    program = program_of(words, root)
    if program is None:
        return f"there is no program {words[0]}"
    try:
        reply = await child.run(
            (program, *words[1:]),
            cwd=root,
            env=env,
            limit_s=COMMAND_S,
            stdin=message.encode(),
            most=_MOST_BYTES,
        )
    except TimeoutError:
        return f"it did not end within {COMMAND_S:g} s"
    except OSError as error:
        return clean(f"it cannot be run: {error.strerror or error}", LONGEST_QUOTE)
    said = clean(last_line(reply.complaint), LONGEST_QUOTE)
    return f"exit code {reply.rc}{f': {said}' if said else ''}" if reply.rc else ""


def program_of(words: Sequence[str], root: Path) -> str | None:
    """Return the program of a command, None if there is none; a relative path begins at the repository."""
    first = os.path.expanduser(words[0])  # noqa: PTH111 - a name alone is no path
    if "/" in first:
        found = root / first
        return str(found) if os.access(found, os.X_OK) and found.is_file() else None
    return shutil.which(first, path=search_path(os.environ))


def _own() -> dict[str, str]:
    return {**without_git(os.environ), "PATH": search_path(os.environ)}
