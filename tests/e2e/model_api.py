"""A stand-in for three model APIs, so that the real agent CLIs work without an account or a network.

It plays the model by what our own prompts ask on their top lines: an implementer writes the file that the
work package is to create, ticks the subtasks as it was told and reports them; a reviewer looks at the range,
tries to write into the worktree (its CLI must refuse that) and gives its verdict. It makes one tool call a
turn; the number of results in the conversation says which is next.
"""

import json
import re
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

FORBIDDEN_FILE = "written-by-the-reviewer.txt"
INPUT_TOKENS, OUTPUT_TOKENS = 1000, 40
"""What every turn is said to have used."""
_TOTAL = {"total_tokens": INPUT_TOKENS + OUTPUT_TOKENS}
_USED = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, **_TOTAL}
Body = Mapping[str, Any]
Events = Iterator[dict[str, Any]]


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


@dataclass(frozen=True)
class Call:
    """What the model says when it calls a tool; CLIs take a repeated id for the same call."""

    id: str
    tool: str
    arguments: Mapping[str, str]


Turn = Call | str


def find_task(texts: Sequence[str]) -> Task | None:
    """Find our last prompt among what the user is said to have written."""
    for text in reversed(texts):
        start = re.search(r"^Role: (?:implement|review)$", text, re.MULTILINE)
        if start:
            return Task(text[start.start() :], "\n".join(texts))
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


def as_call(number: int, step: Write | str, tools: frozenset[str]) -> Call | None:
    """Express a step by a tool that is offered; None if none can do it."""
    name = f"call_{number}"
    if isinstance(step, Write):
        for tool, path in (("Write", "file_path"), ("write", "filePath")):
            if tool in tools:
                return Call(name, tool, {path: step.path, "content": step.content})
        step = by_shell(step)
    for tool in ("Bash", "bash"):
        if tool in tools:
            return Call(name, tool, {"command": step, "description": "one step"})
    return Call(name, "exec_command", {"cmd": step}) if "exec_command" in tools else None


@dataclass(frozen=True)
class Conversation:
    """What a request tells the model."""

    user: Sequence[str]
    results: int
    tools: frozenset[str]


def _texts(content: object) -> list[str]:
    parts = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _read_messages(body: Body) -> Conversation:
    sent = [one["content"] for one in body["messages"] if one["role"] == "user"]
    blocks = [block for content in sent if isinstance(content, list) for block in content]
    results = sum(block["type"] == "tool_result" for block in blocks)
    tools = frozenset(one["name"] for one in body.get("tools", ()))
    return Conversation([text for content in sent for text in _texts(content)], results, tools)


def _messages(turn: Turn) -> Events:
    if isinstance(turn, Call):
        block: dict[str, Any] = {"type": "tool_use", "id": turn.id, "name": turn.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": turn}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "content": []}
    end = {"stop_reason": "tool_use" if isinstance(turn, Call) else "end_turn", "stop_sequence": None}
    yield {"type": "message_start", "message": {**head, "stop_reason": None, "usage": _USED}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": end, "usage": _USED}
    yield {"type": "message_stop"}


def _read_responses(body: Body) -> Conversation:
    items: Sequence[Body] = body["input"]
    sent = [one.get("content") for one in items if one.get("role") == "user"]
    results = sum(one.get("type") == "function_call_output" for one in items)
    tools = frozenset(one["name"] for one in body.get("tools", ()) if "name" in one)
    return Conversation([text for content in sent for text in _texts(content)], results, tools)


def _responses(turn: Turn) -> Events:
    if isinstance(turn, Call):
        item: dict[str, Any] = {"type": "function_call", "id": turn.id, "call_id": turn.id, "name": turn.tool}
        item["arguments"] = json.dumps(turn.arguments)
    else:
        item = {"type": "message", "id": "msg_1", "role": "assistant"}
        item["content"] = [{"type": "output_text", "text": turn, "annotations": []}]
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": response}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    done = {**response, "status": "completed", "output": [item], "usage": _USED}
    yield {"type": "response.completed", "response": done}


def _read_chat(body: Body) -> Conversation:
    texts = [text for one in body["messages"] if one["role"] == "user" for text in _texts(one["content"])]
    results = sum(one["role"] == "tool" for one in body["messages"])
    return Conversation(texts, results, frozenset(one["function"]["name"] for one in body.get("tools", ())))


def _chat(turn: Turn) -> Events:
    if isinstance(turn, Call):
        function = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
        call = {"index": 0, "id": turn.id, "type": "function", "function": function}
        delta: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
    else:
        delta = {"role": "assistant", "content": turn}
    end = "tool_calls" if isinstance(turn, Call) else "stop"
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stand-in"}
    used = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, **_TOTAL}
    yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end}]}
    yield {**head, "choices": [], "usage": used}


APIS: Mapping[str, tuple[Callable[[Body], Conversation], Callable[[Turn], Events]]] = {
    "/v1/messages": (_read_messages, _messages),
    "/v1/responses": (_read_responses, _responses),
    "/v1/chat/completions": (_read_chat, _chat),
}


@dataclass(frozen=True)
class Fault:
    """How requests go wrong.

    Attributes:
        status: of the answer; 0 for an answer that begins well.
        error: the members of its error object, for every API at once.
        headers: of the answer.
        hangs: whether there is no answer at all.
        cuts: whether the connection breaks after the beginning of the answer.
    """

    status: int = 0
    error: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    cuts: bool = False


@dataclass
class ModelApi:
    """The server's address, what it was told to do, and what it saw.

    Attributes:
        url: without a path.
        faults: by role, how every request about a task goes wrong; none if it is not there.
        conversations: by attempt id, what the user is said to have written in the last request, oldest first.
        refused_keys: API keys that are answered with 401.
        to_reject: work packages whose next review requests changes.
        prompts: by attempt id, each of our prompts as it arrived.
        problems: requests that it could not make sense of.
    """

    url: str
    faults: dict[str, Fault] = field(default_factory=dict)
    conversations: dict[str, Sequence[str]] = field(default_factory=dict)
    refused_keys: set[str] = field(default_factory=set)
    to_reject: set[str] = field(default_factory=set)
    prompts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    _results: dict[str, int] = field(default_factory=dict)

    def fault(self, conversation: Conversation) -> Fault | None:
        """Tell how the answer to a request goes wrong, None if it does not."""
        task = find_task(conversation.user)
        return self.faults.get(task.line("Role")) if task and conversation.tools else None

    def answer(self, conversation: Conversation) -> Turn:
        """Play the model for one turn."""
        task = find_task(conversation.user)
        if task is None or not conversation.tools:
            return "A title"
        attempt = task.line("Attempt")
        self.prompts[attempt] = task.prompt
        self.conversations[attempt] = conversation.user
        # In a session that is resumed, the results of the earlier attempts stand before ours.
        earlier = self._results.setdefault(attempt, conversation.results)
        steps = enumerate(steps_of(task), start=earlier)
        calls = [call for number, step in steps if (call := as_call(number, step, conversation.tools))]
        if conversation.results - earlier < len(calls):
            return calls[conversation.results - earlier]
        wp = task.line("Work package")
        if task.line("Role") == "implement" or wp not in self.to_reject:
            return last_word(task, "approved")
        self.to_reject.remove(wp)
        return last_word(task, "changes_requested")


_REFUSAL = b"""{"type": "error", "error": {
    "type": "authentication_error", "code": "invalid_api_key", "message": "this key is refused"
}}"""


class _Handler(BaseHTTPRequestHandler):
    api: ModelApi

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        if path not in APIS:
            self._send(404, b"{}")
            return
        key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        if key in self.api.refused_keys:
            self._send(401, _REFUSAL)
            return
        read, write = APIS[path]
        try:
            conversation = read(json.loads(body))
            fault = self.api.fault(conversation)
            if fault is not None:
                self._fail(fault)
                return
            events = list(write(self.api.answer(conversation)))
        except Exception as error:  # noqa: BLE001 - the test shows it; the CLI would only try again
            self.api.problems.append(f"{path}: {error!r}")
            self._send(400, b"{}")
            return
        lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events if "type" in one]
        if not lines:
            lines = [*(f"data: {json.dumps(one)}\n\n" for one in events), "data: [DONE]\n\n"]
        self._send(200, "".join(lines).encode(), "text/event-stream")

    def _fail(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.hangs:
            self.api.closing.wait()
        elif fault.cuts:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b": it begins\n\n")
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            error = {"type": "error", "error": dict(fault.error)}
            self._send(fault.status, json.dumps(error).encode(), headers=fault.headers)

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def model_api() -> Iterator[ModelApi]:
    """Serve on a free port of this machine; one at a time."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        api = _Handler.api = ModelApi(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            api.closing.set()
            server.shutdown()
            thread.join()
