"""An agent that does what a test says: `attacker.py ROLE FOLDER`, with the prompt on standard input.

It writes the file of its work package, runs `FOLDER/<WP>.<role>.sh` in the worktree (with WP, ATTEMPT, HEAD,
N: how often this role worked on this WP before; descriptor 3 is our output), and ends with the object that it
was asked for. What the script writes to the file $SAY comes before that object.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

role, folder = sys.argv[1], Path(sys.argv[2])
prompt = sys.stdin.buffer.read().decode("utf-8", "replace")


def line(name: str) -> str:
    """Return what follows a name on the prompt's top lines, "" if it is not there."""
    found = re.search(rf"^{name}: (.+)$", prompt, re.MULTILINE)
    return found[1] if found else ""


wp, attempt, head = line("Work package"), line("Attempt"), line("Head")
count, say = folder / f"{wp}.{role}.count", folder / f"{wp}.{role}.said"
before = int(count.read_text()) if count.exists() else 0
count.write_text(str(before + 1))
created = re.search(r"Create `([^`]+)`", prompt)
if role == "implement" and created:
    module = Path(created[1])
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(f"ROUND = {before}\n")
script = folder / f"{wp}.{role}.sh"
if script.exists():
    env = {**os.environ, "WP": wp, "ATTEMPT": attempt, "HEAD": head, "N": str(before)}
    env |= {"SAY": str(say), "STATE": str(folder)}
    os.dup2(1, 3)
    argv = ["/bin/sh", str(script)]
    subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[3], check=False)
if say.exists():
    sys.stdout.buffer.write(say.read_bytes())
    say.unlink()
if role == "implement":
    report = {"attempt": attempt, "subtasks_done": [], "summary": f"wrote {wp}", "no_change_reason": ""}
else:
    report = {"attempt": attempt, "head": head, "verdict": "approved", "summary": "read it", "findings": []}
sys.stdout.write(f"\n{json.dumps(report)}\n")
