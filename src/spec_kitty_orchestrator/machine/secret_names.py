"""Which environment variables hold secrets, to judge by their names."""

import re

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|AUTHORIZATION|COOKIE"
    r"|KEYS?(?![A-Z])|AUTH(?!OR)|(?:^|_)(?:PASS|PAT|PWD)(?:_|$)",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable's name says that its value is a secret."""
    return name not in ("PWD", "OLDPWD") and _SECRET_NAME.search(name) is not None
