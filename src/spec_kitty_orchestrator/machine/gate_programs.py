"""Which program a gate would run, as far as its command shows it without running it."""

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

_SHELL = ("/bin/sh", "-c")
_UNSURE = re.compile(r"\bPATH\s*=|\|\||\(\s*\)")
"""What makes a line of shell find a program elsewhere, do without one, or define one itself."""
_PLAIN = re.compile(r"[A-Za-z0-9_./+@%~-]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")
_NO_PROGRAMS = frozenset(
    """
    . : ! [ alias bg break case cd command continue do echo eval exec exit export false fg for function
    getopts hash if kill printf pwd read readonly return set shift test time times trap true type ulimit umask
    unalias unset until wait while {
    """.split()  # noqa: SIM905 - a list would be a page long
)
"""Words at the beginning of a line that the shell itself understands."""


def of_shell(command: Sequence[str]) -> bool:
    """Tell whether a gate's command is a line for the shell, of which only the shell knows what it does."""
    return tuple(command[:2]) == _SHELL and len(command) > 2


def missing_program(command: Sequence[str], root: Path, env: Mapping[str, str]) -> str | None:
    """Return the program that a gate cannot run, None if it is there or the line does not show it.

    Args:
        command: an argv; a line for the shell is `/bin/sh -c LINE`.
        root: a checkout like that in which the gate runs.
        env: the gate's environment.
    """
    program = _first_word(command[2]) if of_shell(command) else command[0]
    if program is None:
        return None
    if os.sep in program:
        try:
            place = root / Path(program).expanduser()
        except RuntimeError:
            # There is no such user.
            return program
        return None if place.is_file() and os.access(place, os.X_OK) else program
    return None if shutil.which(program, path=env.get("PATH", os.defpath)) else program


def _first_word(text: str) -> str | None:
    """Return the program that a line for the shell begins with, None where only a shell could tell."""
    if _UNSURE.search(text):
        return None
    lexer = shlex.shlex(text, posix=False, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        for word in lexer:
            if _ASSIGNMENT.fullmatch(word):
                continue
            return word if _PLAIN.fullmatch(word) and word not in _NO_PROGRAMS else None
    except ValueError:
        return None
    return None
