"""How the prompt of an attempt reaches its process."""

import os
from dataclasses import replace
from pathlib import Path

from spec_kitty_orchestrator.agents.spec import PROMPT_FILE, PROMPT_WORD, AgentCommand

LONGEST_WORD_BYTES = 128 * 1024 - 1
"""Linux takes no longer word in an argv (`MAX_ARG_STRLEN`); to stay below it everywhere costs nothing."""


class PromptTooLong(Exception):
    """The prompt does not fit into an argv; the message says by how much."""


def deliver(command: AgentCommand, directory: Path) -> tuple[AgentCommand, str]:
    """Put the prompt where the CLI looks for it.

    Returns:
        What really runs, and the file that is its standard input: a name in `directory`, or a path.

    Raises:
        PromptTooLong: the CLI takes the prompt as an argument only, and it is too long for one.
        OSError: the prompt cannot be read.
    """
    if command.prompt == "stdin":
        return command, PROMPT_FILE
    if command.prompt == "argument":
        # A process cannot be given a NUL in an argument.
        text = (directory / PROMPT_FILE).read_text(encoding="utf-8").replace("\0", "\ufffd")
        argv = tuple(word.replace(PROMPT_WORD, text) for word in command.argv)
        longest = max(len(os.fsencode(word)) for word in argv)
        if longest > LONGEST_WORD_BYTES:
            raise PromptTooLong(
                f"its prompt has {longest:,} bytes, but {command.argv[0]} takes it as an argument only, and "
                f"that holds {LONGEST_WORD_BYTES:,} at most; use another agent, or a shorter work package"
            )
        command = replace(command, argv=argv)
    return command, os.devnull
