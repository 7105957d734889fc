"""Augment: asks its vendor's own API, at the address that comes with its login."""

import json
from pathlib import Path

from tests.e2e.clis.spec import Cli

KEY = "key-of-augment-1"


def setup(url: str, home: Path, program: str) -> dict[str, str]:
    """Return the variables; there are no files."""
    login = {"accessToken": KEY, "tenantURL": f"{url}/", "scopes": ["read", "write"]}
    return {"HOME": str(home), "AUGMENT_SESSION_AUTH": json.dumps(login)}


CLI = Cli("augment", "auggie", "@augmentcode/auggie@0.36.0", KEY, setup)
