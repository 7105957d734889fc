"""The command with a host of files, as the tests of the command have it."""

from tests.cli.conftest import project

__all__ = ["project"]
