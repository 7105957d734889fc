"""The user of this process, for people."""

import os
import pwd

__all__ = ["this_user"]


def this_user() -> str:
    """Name the user of this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
