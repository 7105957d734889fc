"""Output in bulk that agents may write, and a process that reads it and says what memory that took."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.machine.attempt_files import read_report
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.settings.declaration import Declaration, OutputFormat

WORDS = "word \N{GRINNING FACE} " * 600
KINDS = (
    *(
        {"type": kind, "content": WORDS, "result": WORDS}
        for kind in ("message", "assistant", "result", "error")
    ),
    {"type": "message", "role": "assistant", "content": WORDS},
    {"type": "text", "part": {"text": WORDS}},
    {"type": "item.completed", "item": {"type": "agent_message", "text": WORDS}},
    {"type": "assistant.message", "data": {"content": WORDS}},
    {"message_type": "assistant_message", "content": WORDS, "otid": "1"},
    {"type": "message_end", "message": {"role": "assistant", "content": [{"type": "text", "text": WORDS}]}},
)
"""What the agents' CLIs say of a message; each of them ignores the others' words."""


OWN = {
    "own text": OutputFormat("text"),
    "own json": OutputFormat("json", ("content",)),
    "own jsonl": OutputFormat("jsonl", ("content",)),
}


def agent(name: str) -> Agent:
    return Declared(Declaration("own", "own", ("own",), output=OWN[name])) if name in OWN else BUILT_IN[name]


def flood(megabytes: int) -> Iterator[str]:
    """Yield lines: huge ones, dense ones, many, and those that break a parser."""
    share = megabytes * 1_000_000 // 4
    for kind in KINDS:
        yield json.dumps(kind).replace("word", "word" * (3 * share // len(KINDS) // 600 // 4))
    yield from (
        '{"type":"result","x":[' + one * (1_000_000 // len(one)) + "0]}" for one in ("[],", "{},", '"",')
    )
    lines = [json.dumps(one, ensure_ascii=False) for one in KINDS]
    for _ in range(share // sum(len(line.encode()) for line in lines)):
        yield from lines
    yield from ('{"a":' * 200_000, "[" * 400_000, '{"n":' + "9" * 900_000 + "}")


def peak_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def taken_mb(name: str, folder: Path) -> float:
    (folder / name).mkdir(exist_ok=True)
    redactor = Redactor(["some-secret-1"])
    read_report(folder / name, agent(name), 0, redactor)  # What only the first one needs is loaded.
    before = peak_kb()
    read_report(folder, agent(name), 0, redactor)
    return (peak_kb() - before) / 1024


if __name__ == "__main__":
    sys.stdout.write(str(taken_mb(sys.argv[1], Path(sys.argv[2]))))
