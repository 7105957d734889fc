"""What CI services make of a job's output, told again in a few lines from how they read it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

REGISTERED = {
    *("add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice"),
    *("remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning"),
}
"""Commands that GitHub's runner knows."""


@dataclass(frozen=True)
class Command:
    """A command that a line of output is."""

    name: str
    data: str = ""
    properties: dict[str, str] = field(default_factory=dict)


def _unescaped(text: str, *more: tuple[str, str]) -> str:
    for escape, meant in (*more, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(escape, meant)
    return text


def github_command(line: str) -> Command | None:
    """Return the command that GitHub's runner finds: `::name a=b::text` at its start, `##[name]` anywhere.

    As comparing by culture may do, what cannot be seen is left out first.
    """
    seen = "".join(one for one in line.lstrip() if one.isprintable() and not 0x200B <= ord(one) <= 0x206F)
    if (found := re.match(r"::([^ :]+)(?: (.*?))?::(.*)", seen)) and found[1] in REGISTERED:
        pairs = (one.split("=", 1) for one in (found[2] or "").split(",") if "=" in one)
        properties = {name: _unescaped(text, ("%3A", ":"), ("%2C", ",")) for name, text in pairs}
        return Command(found[1], _unescaped(found[3]), properties)
    if (found := re.search(r"##\[([^ \]]+)[^\]]*\](.*)", seen)) and found[1] in REGISTERED:
        return Command(found[1], found[2])
    return None


def github_commands(output: str) -> list[Command]:
    """Return the commands in a job's output, in order."""
    return [found for line in re.split(r"\r\n|\r|\n", output) if (found := github_command(line))]


def github_values(text: str) -> dict[str, str]:
    """Return what a file of outputs sets."""
    lines, values = iter(text.split("\n")), {}
    for line in lines:
        if not line:
            continue
        name, mark, delimiter = line.partition("<<")
        assert mark, line
        values[name] = "\n".join(_until(lines, delimiter))
    return values


def _until(lines: Iterator[str], delimiter: str) -> Iterator[str]:
    for line in lines:
        if line == delimiter:
            return
        yield line
    raise AssertionError(f"{delimiter} is missing")


def gitlab_sections(output: str) -> list[tuple[str, str]]:
    """Return the sections that GitLab opens and closes."""
    return re.findall(r"section_(start|end):\d+:([\w.-]+)(?:\[[^\]]*\])?\r\x1b\[0K", output)


def buildkite_groups(output: str) -> list[str]:
    """Return the lines that Buildkite makes headings of."""
    return [line for line in output.split("\n") if re.match(r"(---|\+\+\+|~~~|\^\^\^)(\s|$)", line)]
