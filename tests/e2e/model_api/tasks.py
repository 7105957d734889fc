"""What the model is asked for by one of our prompts, and what it does."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

FORBIDDEN_FILE = "written-by-the-reviewer.txt"
_ENDS = re.compile(r'\{"attempt": "')


@dataclass(frozen=True)
class Task:
    """One of our prompts, as it arrived, and the whole conversation, where a session goes on."""

    prompt: str
    conversation: str = ""

    def line(self, name: str) -> str:
        """Return what follows `name:` on the top lines."""
        return dict(line.split(": ", 1) for line in self.prompt.split("\n\n")[0].splitlines())[name]

    def listed(self, key: str) -> list[str]:
        """Return a list of the work package's front matter."""
        pattern = rf"^{key}:\n((?:- .*\n)+)"
        # The prompt of a session that goes on leaves out what the first one held.
        texts = (self.prompt, self.conversation)
        found = next((one for text in texts if (one := re.search(pattern, text, re.MULTILINE))), None)
        return re.findall(r"- (.*)\n", found[1]) if found else []


@dataclass(frozen=True)
class Write:
    """Write a file with the CLI's own tool."""

    path: str
    content: str


def find_task(texts: Sequence[str]) -> Task | None:
    """Find our last prompt among what the user is said to have written, also in several parts."""
    for place in range(len(texts) - 1, -1, -1):
        start = re.search(r"^Role: (?:implement|review)$", texts[place], re.MULTILINE)
        if start:
            prompt = texts[place][start.start() :]
            for more in texts[place + 1 :]:
                if _ENDS.search(prompt):
                    break
                prompt += more
            return Task(prompt, "\n".join(texts))
    return None


def steps_of(task: Task) -> list[Write | str]:
    """Decide what the model does before its last word: files to write, and commands to run."""
    tree = task.line("Workspace")
    if task.line("Role") == "review":
        looked_at = re.search(r"`(git diff \w+ \w+)`", task.prompt)
        assert looked_at, "the prompt names no range"
        evil = f"{tree}/{FORBIDDEN_FILE}"
        return [looked_at[1], f"touch {shlex.quote(evil)}", Write(evil, "x")]
    name, round_ = task.listed("create_intent")[0], task.line("Round")
    module = Write(f"{tree}/{name}", f'def status() -> str:\n    return "{name}, round {round_}"\n')
    # A write tool may refuse a file that is there already and was not read before.
    steps: list[Write | str] = [module if round_ == "1" else by_shell(module)]
    tick = re.search(r"`([^`]+ mark-status )T001( [^`]+)`", task.prompt)
    if tick:
        steps.append(tick[1] + " ".join(task.listed("subtasks")) + tick[2])
    return steps


def by_shell(step: Write) -> str:
    """Return the command that writes the file."""
    path, folder = shlex.quote(step.path), shlex.quote(step.path.rpartition("/")[0])
    return f"mkdir -p {folder} && printf %s {shlex.quote(step.content)} > {path}"


def last_word(task: Task, verdict: str) -> str:
    """Write the report or the verdict with which a prompt asks to end."""
    said: dict[str, object] = {"attempt": task.line("Attempt")}
    if task.line("Role") == "review":
        finding = {"severity": "major", "file": "", "line": 0, "message": "say which round it is"}
        said |= {"head": task.line("Head"), "verdict": verdict, "summary": f"seen: {verdict}"}
        said["findings"] = [] if verdict == "approved" else [finding]
    else:
        said |= {"subtasks_done": task.listed("subtasks"), "summary": "Write the module"}
        said["no_change_reason"] = ""
    return f"I am done.\n\n{json.dumps(said)}"
