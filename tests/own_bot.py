"""A program such as people make agents of: does what the prompt names, and says so as one JSON object a line.

It understands the prompts of this project: what to create stands in backquotes, what to answer is an object.
"""

import argparse
import json
import re
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("prompt", nargs="?", type=Path)
parser.add_argument("--read-only", action="store_true")
parser.add_argument("--resume")
parser.add_argument("--fault", choices=["deaf", "writes", "forgets", "idle", "rambles", "fails"])
chosen = parser.parse_args()

prompt = chosen.prompt.read_text() if chosen.prompt else sys.stdin.read()
memory = Path(sys.argv[0]).with_name("memory.json")
word = re.findall(r"word-[0-9a-f]{8}\b", prompt)
if chosen.fault == "deaf":
    word = []
if chosen.resume:
    known = json.loads(memory.read_text()) if memory.exists() and chosen.fault != "forgets" else {}
    word = [known[chosen.resume]] if chosen.resume in known else []
elif word:
    memory.write_text(json.dumps({"s-1": word[-1]}))

answer = json.loads(re.findall(r'^\{"attempt": .*\}$', prompt, re.MULTILINE)[-1])
answer["summary"] = " ".join(["done", *word])
wanted = re.findall(r"[Cc]reate (?:the file )?`([^`]+)`", prompt)
if "verdict" in answer:
    answer |= {"verdict": "approved", "findings": []}
    if not chosen.read_only or chosen.fault == "writes":
        Path("left-by-the-reviewer.txt").write_text("x\n")
elif wanted and chosen.fault != "idle":
    file = Path(wanted[-1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hello\n")
said = "I think that it is fine." if chosen.fault == "rambles" else f"Done.\n\n{json.dumps(answer)}"
result = {"type": "result", "is_error": chosen.fault == "fails", "result": said, "usd": 0.25}
sys.stdout.write(f"{json.dumps({'type': 'session', 'id': 's-1'})}\n{json.dumps(result)}\n")
