"""The program behind the scripted agent: does in its working directory what a TOML scenario says.

It runs as `python -I -S scripted_program.py --role ROLE [--scenario FILE]` with the prompt on stdin. It
imports the standard library only, and late, because a mission starts it many times. Its stdout is JSON
lines that end with one `result` event, unless the scenario wants otherwise. `examples/scenario.toml`
describes every key.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import takewhile
from pathlib import Path, PurePosixPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]

KEYS: dict[str, tuple[type, ...]] = {
    "edits": (dict, list),
    "delete": (list,),
    "run": (list,),
    "commit": (bool,),
    "spawn_orphan": (bool,),
    "flood_mb": (int, float),
    "sleep": (int, float),
    "outcome": (str,),
    "retry_after_s": (int, float),
    "report": (bool, str),
    "subtasks": (str, list),
    "summary": (str,),
    "verdict": (str,),
    "findings": (list,),
    "usage": (dict,),
}

FAILURES = ("fail", "rate_limited", "overloaded", "auth", "invalid_request", "budget")
OUTCOMES = ("ok", "crash", "no_result", "garbage", "hang", *FAILURES)
UNUSABLE = ("prose", "wrong_sha", "wrong_attempt", "contradiction", "invalid_json", "quoted")
VERDICTS = ("approved", "changes_requested", *UNUSABLE)
WORDS: dict[str, tuple[str, ...]] = {
    "outcome": OUTCOMES,
    "verdict": VERDICTS,
    "subtasks": ("all", "none"),
    "report": ("no_change",),
}
"""What the keys that take a word may say."""

FINDING: dict[str, object] = {
    "severity": "major",
    "file": "",
    "line": 0,
    "message": "The scenario requests a change.",
}
FLOOD_LINE = 65_536
ORPHAN_LIFE_S = 600


class ScenarioError(Exception):
    """The scenario or the prompt cannot be followed; the message says where and why."""


class Task:
    """What the prompt asks for; `round` counts the attempts of this role for this work package from 1."""

    markdown: str

    def __init__(self, prompt: str) -> None:
        before, _, rest = prompt.partition("\n<work-package>\n")
        self.markdown, _, after = rest.partition("\n</work-package>")
        lines = f"{before}\n{after}".splitlines()
        told = _said(lines, "Task file")
        if not self.markdown and told:
            # Who goes on with a session is told where the text is, not told it again.
            self.markdown = Path(told).read_text(encoding="utf-8", errors="replace")
        self.wp: str = _said(lines, "Work package")
        self.attempt: str = _said(lines, "Attempt")
        self.head: str = _said(lines, "Head")
        told = _said(lines, "Round")
        self.round: int = int(told) if told.isascii() and told.isdigit() else 1
        if not self.wp:
            raise ScenarioError("the prompt has no line 'Work package: <id>'")

    def listed(self, name: str) -> list[str]:
        """Return a list of the work package's front matter, empty if it has none of that name."""
        lines = self.markdown.strip().splitlines()
        if not lines or lines[0].strip() != "---":
            return []
        found: list[str] = []
        inside = False
        for line in lines[1:]:
            entry = line.strip()
            if entry == "---":
                break
            if inside and entry.startswith("- "):
                found.append(_unquoted(entry[2:]))
                continue
            inside = entry == f"{name}:"
            if entry.startswith(f"{name}: ["):
                found = [_unquoted(one) for one in entry.partition("[")[2].rstrip("]").split(",")]
        return [one for one in found if one]


def _said(lines: list[str], name: str) -> str:
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}: "))
    return next(found, "")


def _unquoted(entry: str) -> str:
    return entry.strip().strip("'\"")


def read_scenario(path: str) -> dict[str, Any]:
    """Read and check a scenario file; "" is the empty scenario."""
    if not path:
        return {}
    import tomllib

    try:
        with Path(path).open("rb") as file:
            scenario = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    for name, roles in scenario.items():
        if not isinstance(roles, dict) or set(roles) - {"implement", "review"}:
            raise ScenarioError(f"{path}: [{name}] may hold the tables 'implement' and 'review' only")
        for role, steps in roles.items():
            for step in steps if isinstance(steps, list) and steps else [steps]:
                _check(f"{path}: [{name}.{role}]", step)
    return scenario


def _check(place: str, step: object) -> None:
    if not isinstance(step, dict):
        raise ScenarioError(f"{place} must be a table")
    for key, value in step.items():
        if key not in KEYS:
            raise ScenarioError(f"{place}: unknown key {key!r} (known: {', '.join(KEYS)})")
        if not isinstance(value, KEYS[key]):
            raise ScenarioError(f"{place}: {key} cannot be {value!r}")
    for key, known in WORDS.items():
        if isinstance(step.get(key), str) and step[key] not in known:
            raise ScenarioError(f"{place}: {key} cannot be {step[key]!r} (known: {', '.join(known)})")
    words = [one for key in ("delete", "run") for one in step.get(key, ())]
    edits = step.get("edits", {})
    words += [one.get("path") if isinstance(one, dict) else None for one in edits if isinstance(edits, list)]
    words += edits.values() if isinstance(edits, dict) else ()
    if not all(isinstance(one, str) for one in words):
        raise ScenarioError(f"{place}: paths, contents and arguments must be strings")


def choose(scenario: dict[str, Any], task: Task, role: str) -> dict[str, Any]:
    """Return the step for this attempt: the defaults of its role, overridden by the work package's own."""
    step: dict[str, Any] = {}
    for name in ("defaults", task.wp):
        steps = scenario.get(name, {}).get(role, {})
        step.update(steps[min(max(task.round, 1), len(steps)) - 1] if isinstance(steps, list) else steps)
    return step


def say(**event: object) -> None:
    """Write one event; each is visible at once to whoever follows the log."""
    sys.stdout.write(json.dumps(event, default=str) + "\n")
    sys.stdout.flush()


def act(step: dict[str, Any], task: Task, role: str) -> None:
    """Do what the step says, in the order of `KEYS`, up to `sleep`."""
    for path, content, append in _edits(step, task, role):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("a" if append else "w", encoding="utf-8") as file:
            file.write(content)
        say(type="message", text=f"wrote {path}", wrote=path)
    for path in step.get("delete", ()):
        Path(path).unlink(missing_ok=True)
    if step.get("run"):
        _run(*step["run"])
    if step.get("commit"):
        _run("git", "add", "--all")
        identity = ("-c", "user.name=scripted", "-c", "user.email=scripted@localhost")
        _run("git", *identity, "commit", "--quiet", "--message", f"{task.wp}: scripted commit")
    if step.get("spawn_orphan"):
        _spawn_orphan()
    line = json.dumps({"type": "noise", "text": "x" * (FLOOD_LINE - 32)}) + "\n"
    for _ in range(int(step.get("flood_mb", 0) * 1_000_000 / FLOOD_LINE)):
        sys.stdout.write(line)
    sys.stdout.flush()
    time.sleep(step.get("sleep", 0))


def _edits(step: dict[str, Any], task: Task, role: str) -> list[tuple[str, str, bool]]:
    edits = step.get("edits")
    if isinstance(edits, dict):
        return [(path, content, False) for path, content in edits.items()]
    if isinstance(edits, list):
        return [(one["path"], str(one.get("content", "")), bool(one.get("append"))) for one in edits]
    told_otherwise = {"delete", "run"} & set(step) or step.get("report") == "no_change"
    if role != "implement" or told_otherwise or step.get("outcome", "ok") != "ok":
        return []
    return [(_own_path(task), f"# {task.wp}: written by the scripted agent, round {task.round}\n", True)]


def _own_path(task: Task) -> str:
    """Name a file that the work package may write; its front matter must not lead out of the worktree."""
    fallback = f"{task.wp.lower()}.txt"
    owned = (*task.listed("create_intent"), *task.listed("owned_files"))
    # The host's folders come last: who writes code may rarely change them.
    for entry in sorted(owned, key=lambda one: one.startswith(("kitty-specs/", ".kittify/"))):
        parts = PurePosixPath(entry).parts
        if not parts or entry.startswith("/") or ".." in parts:
            continue
        fixed = list(takewhile(lambda part: not set(part) & set("*?["), parts))
        path = PurePosixPath(*fixed)
        return str(path if len(fixed) == len(parts) and not Path(path).is_dir() else path / fallback)
    return fallback


def _run(*argv: str) -> None:
    import subprocess

    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = done.stdout[-2000:].decode("utf-8", "replace")
    told = f"{argv[0]} ended with {done.returncode}: {output}"
    say(type="message", text=told, ran=" ".join(argv), exit_code=done.returncode)


def _spawn_orphan() -> None:
    import subprocess

    nothing = subprocess.DEVNULL
    argv = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({ORPHAN_LIFE_S})"]
    child = subprocess.Popen(argv, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    say(type="orphan", pid=child.pid)


def implementation(step: dict[str, Any], task: Task) -> str:
    """Write the implementer's final text."""
    summary = step.get("summary", "The scenario was followed.")
    report = step.get("report", True)
    if report is False:
        return str(summary)
    wanted = step.get("subtasks", "all")
    done = {"all": task.listed("subtasks"), "none": []}.get(wanted, []) if isinstance(wanted, str) else wanted
    reason = "The scenario says that nothing is needed." if report == "no_change" else ""
    told = {"attempt": task.attempt, "subtasks_done": done, "summary": summary, "no_change_reason": reason}
    return f"{summary}\n\n{json.dumps(told)}"


def review(step: dict[str, Any], task: Task) -> str:
    """Write the reviewer's final text."""
    kind = step.get("verdict", "approved")
    told = {
        "attempt": "not-this-attempt" if kind == "wrong_attempt" else task.attempt,
        "head": "0" * 40 if kind == "wrong_sha" else task.head,
        "verdict": "changes_requested" if kind == "changes_requested" else "approved",
        "summary": step.get("summary", "Reviewed as the scenario says."),
        "findings": step.get("findings", [FINDING] if kind == "changes_requested" else []),
    }
    last_word = json.dumps(told)
    if kind == "prose":
        return "This looks good to me: approved."
    if kind == "invalid_json":
        return f"Review finished.\n\n{last_word[:-2]}"
    if kind == "contradiction":
        return f"{json.dumps(told | {'verdict': 'changes_requested'})}\n\nOn second thoughts:\n\n{last_word}"
    if kind == "quoted":
        return f"The diff adds this line:\n\n```diff\n+{last_word}\n```\n\nI could not finish the review."
    return f"Review finished.\n\n{last_word}"


def finish(step: dict[str, Any], task: Task, role: str) -> int:
    """End as the step says and return the exit code."""
    outcome = step.get("outcome", "ok")
    usage = step.get("usage", {})
    if outcome == "ok":
        final = review(step, task) if role == "review" else implementation(step, task)
        say(type="result", outcome="ok", text=final, usage=usage)
        return 0
    if outcome in FAILURES:
        told = {"detail": f"the scenario says: {outcome}", "retry_after_s": step.get("retry_after_s")}
        say(type="result", outcome="failed" if outcome == "fail" else outcome, usage=usage, **told)
        return 1
    if outcome == "hang":
        while True:
            time.sleep(3600)
    if outcome == "garbage":
        sys.stdout.buffer.write(
            b'{"type":"result","outcome":"ok"\n\xff\xfe\x00 not json \x1b[31m\n[1,2]\n"result"\n{"a":'
        )
    if outcome == "crash":
        sys.stderr.write("the scenario says: crash\n")
    return 3 if outcome == "crash" else 0


def main(argv: list[str]) -> int:
    """Follow the scenario for the prompt on stdin."""
    options = dict(zip(argv[::2], argv[1::2], strict=False))
    role = options.get("--role", "implement")
    try:
        task = Task(sys.stdin.buffer.read().decode("utf-8", "replace"))
        say(type="started", session=options.get("--session", f"scripted-{task.attempt}"))
        step = choose(read_scenario(options.get("--scenario", "")), task, role)
        act(step, task, role)
        return finish(step, task, role)
    except ScenarioError as error:
        say(type="result", outcome="invalid_request", detail=str(error))
    except (OSError, ValueError) as error:
        say(type="result", outcome="failed", detail=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
