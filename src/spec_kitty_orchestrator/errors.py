"""Every error that this package raises on purpose; each class owns the exit code of the command.

::

    OrchestratorError                3
    ├── UsageError                   2  a wrong argument, a path that is not a repository, no such mission
    │   └── ConfigError              2  the configuration file, an environment variable or a prompt file
    ├── HostError                    3  the host is missing, incompatible or broken
    │   ├── HostMissing              3  no executable
    │   ├── HostIncompatible         3  a contract version that we do not speak
    │   │   └── ProjectIncompatible  3  a project that this host does not change
    │   ├── HostRefusal              3  an error envelope: the host understood and said no
    │   └── HostNoReply              3  no envelope; the call may or may not have taken effect
    │       ├── HostCrash            3  empty or unreadable stdout; the tail of stderr is kept
    │       └── HostTimeout          3  no answer within the limit
    ├── RunActive                    4  another run holds this mission
    ├── PreflightError               5  an agent is missing, the policy or the mission is not acceptable
    ├── JournalError                 3  the record of the run cannot be read or written
    ├── WorkspaceError               3  git, a worktree or the disk is broken
    │   ├── WorkspaceMissing         3  a worktree is no longer there
    │   └── WorkRefused              3  what came back from another machine is not believed
    └── InvalidTransition            3  a bug: an event that fits no edge of the lifecycle
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = [
    "ConfigError",
    "HostCrash",
    "HostError",
    "HostIncompatible",
    "HostMissing",
    "HostNoReply",
    "HostRefusal",
    "HostTimeout",
    "InvalidTransition",
    "JournalError",
    "OrchestratorError",
    "PreflightError",
    "ProjectIncompatible",
    "RunActive",
    "UsageError",
    "WorkRefused",
    "WorkspaceError",
    "WorkspaceMissing",
]


class OrchestratorError(Exception):
    """What a user must know and can act upon; the message says what, where and what to do."""

    exit_code: ClassVar[int] = 3


class UsageError(OrchestratorError):
    """The command was called with something that cannot work."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is wrong; the message names the file, the line and the key."""


class HostError(OrchestratorError):
    """The host `spec-kitty` cannot be used."""


class HostMissing(HostError):
    """The host's executable was not found or cannot be started."""


class HostIncompatible(HostError):
    """The host speaks a contract that this version does not."""


class ProjectIncompatible(HostIncompatible):
    """The host changes nothing in this project: one of the two is older than the other, or it is damaged.

    Attributes:
        code: the host's exit code: 4 for an older project, 5 for a newer one, 6 for unreadable metadata.
        words: the host's own.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"the host changes nothing in this project: {words}")
        self.code = code
        self.words = words


class HostRefusal(HostError):
    """The host answered with an error envelope.

    Attributes:
        call: the command of the contract, for example ``transition``.
        code: the envelope's ``error_code``.
        message: the host's own words.
        data: the envelope's ``data`` object, unchecked.
    """

    def __init__(self, call: str, code: str, message: str, data: Mapping[str, object] | None = None) -> None:
        super().__init__(f"the host refused {call}: {code}: {message}")
        self.call = call
        self.code = code
        self.message = message
        self.data: Mapping[str, object] = data or {}


class HostNoReply(HostError):
    """A call ended without an envelope, so whether it took effect is unknown until the state is re-read."""

    def __init__(self, call: str, message: str) -> None:
        super().__init__(f"no answer from the host to {call}: {message}")
        self.call = call
        self.message = message


class HostCrash(HostNoReply):
    """The host ended with nothing readable on stdout; the message says why, or holds the tail of its stderr.

    Attributes:
        exception: what its traceback ends with, in one line; "" if it left none.
    """

    def __init__(self, call: str, message: str, exception: str = "") -> None:
        super().__init__(call, message)
        self.exception = exception


class HostTimeout(HostNoReply):
    """The host did not answer within the limit and was stopped."""


class RunActive(OrchestratorError):
    """Another run holds the mission's lock."""

    exit_code = 4


class PreflightError(OrchestratorError):
    """The run would fail: an agent is missing, or the policy or the mission is not acceptable."""

    exit_code = 5


class JournalError(OrchestratorError):
    """The journal cannot be read or written; the message names the line and how to go on."""


class WorkspaceError(OrchestratorError):
    """Git, a worktree or the disk does not do what it must."""


class WorkspaceMissing(WorkspaceError):
    """A worktree is no longer there, and what was not committed went with it."""


class WorkRefused(WorkspaceError):
    """What came back from another machine is damaged, or is nothing that an agent's work can be."""


class InvalidTransition(OrchestratorError):
    """An event that fits no edge: a bug of ours, raised with the work package's whole story.

    Attributes:
        wp_id: the work package.
        story: its events so far, oldest first, as short lines.
    """

    def __init__(self, wp_id: str, message: str, story: Sequence[str]) -> None:
        super().__init__(f"{wp_id}: {message}")
        self.wp_id = wp_id
        self.story: tuple[str, ...] = tuple(story)
