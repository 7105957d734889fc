"""Stands in for the `claude` and `codex` executables: sleeps, writes one file, answers in the CLI's format.

`mission.py` puts this file on PATH under both names, with `fake_agent.json` beside it:
`{"seconds": 3, "log": PATH, "mission": SLUG, "subtasks": {"WP01": ["T001"]}}`. As `claude` it implements, as
`codex` it reviews and approves. It takes any argv, and the prompt from stdin or argv. It uses the standard
library only and starts with `python -I -S`, so that its own cost stays small beside what is measured.

What it plays is `"work"`, or `"broken"`: it fails in the same words each time; `"idle"`: it changes nothing
and does not say why; `"refuse"`: it writes the same each time, and as a reviewer refuses it.

With `"flood_mib": 100` an implementer first prints so many MiB of events, in lines of `"line_kib"` each.

Each run appends one JSON line to the log when it starts and one when it ends: `pid`, `wp`, `role`, `event`,
`at` in seconds since the epoch, and `cpu` in seconds, its children's included.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROLES = {
    "claude": "implement",
    "codex": "review",
}  # fixed, for not every orchestrator names the role in its prompt


def find(pattern: str, text: str) -> str:
    """Return the first group of the first match of `pattern` in `text`, or an empty string."""
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else ""


def read_prompt(argv: list[str]) -> str:
    """Join what came on stdin and on argv: the two orchestrators differ in where they put the prompt."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    return piped + "\n" + "\n".join(argv)


def log(settings: dict[str, Any], event: str, wp: str, role: str) -> None:
    """Append one line to the log that the bound is computed from."""
    spent = os.times()
    line = {
        "pid": os.getpid(),
        "wp": wp,
        "role": role,
        "event": event,
        "at": time.time(),
        "cpu": spent.user + spent.system + spent.children_user + spent.children_system,
    }
    with Path(settings["log"]).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def implement(settings: dict[str, Any], wp: str, prompt: str) -> dict[str, Any]:
    """Write and commit the WP's module, tick its subtasks as a real agent is told to, and report."""
    done = {"attempt": find(r"^Attempt: (\S+)", prompt), "summary": "done", "no_change_reason": ""}
    if settings["play"] == "idle":
        return {**done, "subtasks_done": []}
    number = wp[2:]
    folder = Path("src", f"mod{number}")
    folder.mkdir(parents=True, exist_ok=True)
    code = f'def status() -> str:\n    return "module {number} is ready"\n'
    (folder / f"m{number}.py").write_text(code, encoding="utf-8")
    subprocess.run(["git", "add", folder], check=True, stdout=subprocess.DEVNULL)
    if subprocess.run(["git", "diff", "--cached", "--quiet"], check=False).returncode:
        subprocess.run(["git", "commit", "-qm", f"{wp}: add the module"], check=True)
    subtasks = settings["subtasks"].get(wp, [])
    if subtasks:
        tick = ["spec-kitty", "agent", "tasks", "mark-status", *subtasks, "--status", "done"]
        subprocess.run([*tick, "--mission", settings["mission"]], check=True, stdout=subprocess.DEVNULL)
    return {**done, "subtasks_done": subtasks}


def review(prompt: str) -> dict[str, Any]:
    """Approve the commit that the prompt names."""
    return {
        "attempt": find(r"^Attempt: (\S+)", prompt),
        "head": find(r"^Head: ([0-9a-f]+)", prompt),
        "verdict": "approved",
        "summary": "ok",
        "findings": [],
    }


def flood(flood_mib: int, line_kib: int) -> None:
    """Print assistant events without end, as a chatty agent does."""
    text = "all work and no play " * (line_kib * 1024 // 21)
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    line = json.dumps({"type": "assistant", "message": message}) + "\n"
    for _ in range(flood_mib * 1024 // line_kib):
        sys.stdout.write(line)


def answer(name: str, argv: list[str], text: str) -> None:
    """Print `text` as the final answer in the format that the real CLI prints for this argv."""
    session = f"00000000-0000-4000-8000-{os.getpid():012d}"
    if name == "codex":
        events: list[dict[str, Any]] = [
            {"type": "thread.started", "thread_id": session},
            {"type": "turn.started"},
            {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": text}},
            {
                "type": "turn.completed",
                "usage": {"input_tokens": 1200, "cached_input_tokens": 0, "output_tokens": 34},
            },
        ]
    else:
        usage = {"input_tokens": 1200, "output_tokens": 34}
        message = {"role": "assistant", "content": [{"type": "text", "text": text}], "usage": usage}
        events = [
            {"type": "system", "subtype": "init", "cwd": str(Path.cwd()), "session_id": session},
            {"type": "assistant", "message": message, "session_id": session},
            {
                "type": "result",
                "subtype": "success",
                "is_error": False,
                "api_error_status": None,
                "num_turns": 1,
                "result": text,
                "session_id": session,
                "total_cost_usd": 0.01,
                "usage": usage,
                "permission_denials": [],
            },
        ]
        if "stream-json" not in argv:
            events = events[-1:]
    for event in events:
        print(json.dumps(event), flush=True)


def main() -> None:
    """Play one agent run."""
    name, argv = Path(sys.argv[0]).name, sys.argv[1:]
    if argv and argv[0] in ("--version", "--help", "login"):
        print("2.1.197 (Claude Code)" if name == "claude" else "codex-cli 0.169.0")
        return
    settings = json.loads((HERE / "fake_agent.json").read_text(encoding="utf-8"))
    prompt = read_prompt(argv)
    role = ROLES[name]
    wp = find(r"^(?:Work package|work_package_id): (WP\d\d)$", prompt)
    log(settings, "start", wp, role)
    time.sleep(settings["seconds"])
    if settings["play"] == "broken" or (settings["play"] == "refuse" and role == "review"):
        log(settings, "end", wp, role)
        sys.exit("boom" if role == "implement" else "the tests are red")
    if role == "implement" and settings["flood_mib"]:
        flood(settings["flood_mib"], settings["line_kib"])
    result = implement(settings, wp, prompt) if role == "implement" else review(prompt)
    answer(name, argv, f"All is done.\n\n{json.dumps(result)}")
    log(settings, "end", wp, role)


if __name__ == "__main__":
    main()
