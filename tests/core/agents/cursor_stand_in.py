"""Stands in for `cursor-agent`: takes the arguments that its vendor documents, and prints such events."""

import argparse
import json
import sys
from pathlib import Path

SESSION = "6a1f0c1e-5b2d-4f7a-9a53-0c8e6f0d7b11"


def main() -> None:
    """Write `a.txt` unless the mode forbids it, and tell how long the prompt was."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-p", "--print", action="store_true", required=True)
    parser.add_argument("--output-format", choices=("text", "json", "stream-json"), required=True)
    parser.add_argument("--trust", action="store_true", required=True)
    parser.add_argument("--sandbox", choices=("enabled", "disabled"))
    parser.add_argument("--mode", choices=("ask", "plan"))
    parser.add_argument("--resume")
    parser.add_argument("--model")
    asked = parser.parse_args()
    prompt = sys.stdin.read()
    if asked.mode is None:
        Path("a.txt").write_text("hello\n")
    session = asked.resume or SESSION
    said = f"DONE: read {len(prompt)} characters."
    message = {"role": "assistant", "content": [{"type": "text", "text": said}]}
    usage = {"inputTokens": 10, "outputTokens": 2, "cacheReadTokens": 5, "cacheWriteTokens": 0}
    for event in (
        {"type": "system", "subtype": "init", "session_id": session, "permissionMode": "default"},
        {"type": "assistant", "message": message, "session_id": session},
        {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "result": said,
            "session_id": session,
            "usage": usage,
        },
    ):
        print(json.dumps(event))  # noqa: T201 - it stands in for a program that prints


if __name__ == "__main__":
    main()
