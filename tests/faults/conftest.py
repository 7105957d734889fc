"""The command with a host of files, as the tests of the command have it."""

from tests.cli.conftest import project, warm_command

__all__ = ["project", "warm_command"]
