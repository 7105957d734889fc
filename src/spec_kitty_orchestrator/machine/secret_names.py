"""Which environment variables hold secrets, to judge by their names, and which of their values are none."""

import re
from collections.abc import Mapping
from pathlib import Path

from spec_kitty_orchestrator.machine.redaction import MIN_SECRET_CHARS

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|AUTHORIZATION|COOKIE"
    r"|KEYS?(?![A-Z])|AUTH(?!OR)|(?:^|_)(?:PASS|PAT|PWD)(?:_|$)",
    re.IGNORECASE,
)
_WORD_OR_NUMBER = re.compile(r"[A-Za-z]?[a-z]+|[A-Z]+|[\d.,:+-]+")
_BARE_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s@?#]*")
_FEW_LETTERS = 3
"""A value of no more different letters is a placeholder, such as `xxxxxxxx`."""


def is_secret_name(name: str) -> bool:
    """Tell whether a variable's name says that its value is a secret."""
    return name not in ("PWD", "OLDPWD") and _SECRET_NAME.search(name) is not None


def secret_values(*environments: Mapping[str, str]) -> frozenset[str]:
    """Return the values of secret-looking variables, without those that are plainly something else.

    Words, numbers, addresses without a password and paths of this machine (the disk is looked at) are in so
    much text that nobody could read it any more.
    """
    return frozenset(
        value
        for environment in environments
        for name, value in environment.items()
        if is_secret_name(name) and _could_be_secret(value)
    )


def _could_be_secret(value: str) -> bool:
    return not (
        len(value) < MIN_SECRET_CHARS
        or len(set(value)) <= _FEW_LETTERS
        or _WORD_OR_NUMBER.fullmatch(value)
        or _BARE_URL.fullmatch(value)
        or _is_path(value)
    )


def _is_path(value: str) -> bool:
    if not value.startswith(("/", "~/", "./", "../")) or "\0" in value:
        return False
    try:
        path = Path(value).expanduser()
        # A key in Base64 can begin with a slash; a folder of that name is not there.
        return path.exists() or (len(path.parts) > 2 and path.parent.is_dir())
    except (OSError, RuntimeError, ValueError):
        return False
