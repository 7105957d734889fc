"""What a CLI's events tell of calls of tools that its own rules refused."""

from spec_kitty_orchestrator.agents.content import blocks
from spec_kitty_orchestrator.agents.json_lines import Event, message, part, text
from spec_kitty_orchestrator.agents.tools import HARMLESS

__all__ = ["Refusals", "denials"]

_MOST_NAMES = 8
_MOST_CALLS, _LONGEST_ID = 1_000, 200
"""Of calls whose names are kept until it is known whether they were refused; more only lose their names."""


class Refusals:
    """Counts the calls of tools that change or run something, and those of them that were refused."""

    def __init__(self) -> None:
        """Nothing was called yet."""
        self._calls = 0
        self._refused = 0
        self._names: set[str] = set()
        self._tools: dict[str, str] = {}

    def called(self, tool: str, call: str = "", *, refused: bool = False) -> None:
        """Count a call, unless the tool only reads; `call` is its id."""
        self._calls += tool.lower() not in HARMLESS
        if call and len(self._tools) < _MOST_CALLS and len(call) <= _LONGEST_ID:
            self._tools[call] = tool
        if refused:
            self.refused(tool)

    def refused(self, tool: str = "", call: str = "") -> None:
        """Count the refusal of a call, known by its tool or its id."""
        tool = tool or self._tools.get(call, "")
        if tool.lower() not in HARMLESS:
            self._refused += 1
            if len(self._names) < _MOST_NAMES:
                self._names.add(tool)

    def called_in(self, event: Event) -> None:
        """Count the calls in a message of the models' API."""
        for block in blocks(part(event, "message").get("content")):
            if block.get("type") == "tool_use":
                self.called(text(block, "name"))

    @property
    def all(self) -> bool:
        """Whether something was tried, and nothing of it was let through."""
        return 0 < self._refused >= self._calls

    def __str__(self) -> str:
        """Say for people that everything was refused, "" if it was not."""
        names = ", ".join(sorted(self._names - {""}))
        told = "the CLI's own rules refused every command and edit that it tried"
        return message(f"{told}: {names}" if names else told) if self.all else ""


def denials(result: Event, refusals: Refusals) -> str:
    """Count the `permission_denials` of a result, and return a sentence for people, "" if it has none."""
    listed = result.get("permission_denials")
    if not isinstance(listed, list) or not listed:
        return ""
    tools = [text(one, "tool_name") for one in listed if isinstance(one, dict)]
    for tool in tools:
        refusals.refused(tool)
    some = f"{len(listed)} tool calls were refused: {', '.join(sorted(set(tools) - {''}))}"
    return str(refusals) or message(some)
