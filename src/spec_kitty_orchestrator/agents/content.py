"""The content of messages as the models' APIs give it: a text, or a list of blocks."""

from collections.abc import Iterator

from spec_kitty_orchestrator.agents.json_lines import Event, count, part, text
from spec_kitty_orchestrator.agents.steps import Count, Step, StepKind, Told, called, failed

__all__ = ["blocks", "told_in", "words"]


def blocks(content: object) -> list[Event]:
    """Return the blocks of a content, none of one that is a text."""
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def words(content: object) -> str:
    """Return the text of a content."""
    if isinstance(content, str):
        return text({"text": content}, "text")
    return "".join(text(one, "text") for one in blocks(content))


def told_in(event: Event) -> Iterator[Told]:
    """Tell of an event that carries a message of the API: what the model says, and which tools failed."""
    kind, message = text(event, "type"), part(event, "message")
    if kind == "assistant":
        yield Count(_tokens(part(message, "usage")), text(message, "id"))
        for block in blocks(message.get("content")):
            match text(block, "type"):
                case "text":
                    yield Step(StepKind.SAYS, text(block, "text"))
                case "thinking":
                    yield Step(StepKind.THINKS, text(block, "thinking"))
                case "tool_use":
                    yield called(text(block, "name"), part(block, "input"))
    elif kind == "user":
        for block in blocks(message.get("content")):
            if text(block, "type") == "tool_result" and block.get("is_error") is True:
                yield failed(words(block.get("content")))


def _tokens(usage: Event) -> int:
    # Qwen counts what is cached in `input_tokens`, and says so by a total.
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    each = ("input_tokens", "output_tokens", *(() if "total_tokens" in usage else cached))
    return sum(count(usage, name) for name in each)
