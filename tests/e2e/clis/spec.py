"""What there is to know of a CLI so that it can be installed, and pointed to the stand-in of the models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cli:
    """The real CLI of an agent.

    Attributes:
        agent: the name that our command takes.
        command: what it is called in its package.
        package: of npm, with the version that is tested.
        key: the API key that it sends; unlike any other CLI's, and long, as some mask it in what they print.
        setup: writes its settings into a new folder, its HOME, so that it asks the stand-in and keeps to that
            folder; takes the stand-in's URL, the folder, and the path of the CLI; returns its variables.
        node: the oldest major version of Node.js that it runs on.
        blanks_before: a character in front of which it adds and drops blanks in a prompt, "" if it does not.
        settings: more keys of its section of our own settings, such as `model`.
    """

    agent: str
    command: str
    package: str
    key: str
    setup: Callable[[str, Path, str], dict[str, str]]
    node: int = 20
    blanks_before: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
