"""What a result event tells of tools that its CLI refused to run."""

from spec_kitty_orchestrator.agents.json_lines import Event, message, text


def refused_tools(result: Event) -> str:
    """Return a sentence for people about the `permission_denials` of a result, "" if it has none."""
    denials = result.get("permission_denials")
    if not isinstance(denials, list) or not denials:
        return ""
    names = sorted({text(one, "tool_name") for one in denials if isinstance(one, dict)} - {""})
    return message(f"{len(denials)} tool calls were refused: {', '.join(names)}")
