"""Serves the stand-in: it plays the model, fails where it is told to, and remembers what it saw."""

import json
import socket
import struct
import threading
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

from tests.e2e.model_api.dialects import DIALECTS
from tests.e2e.model_api.dialects.spec import (
    Call,
    Conversation,
    Dialect,
    Reply,
    Request,
    Schema,
    Turn,
    as_json,
)
from tests.e2e.model_api.tasks import find_task, last_word, steps_of
from tests.e2e.model_api.tools import as_call, prepared


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


REFUSED = Fault(
    401, {"type": "authentication_error", "code": "invalid_api_key", "message": "this key is refused"}
)


@dataclass
class ModelApi:
    """The server's address, what it was told to do, and what it saw.

    Attributes:
        url: without a path.
        faults: by role, how every request about a task goes wrong; none if it is not there.
        conversations: by attempt id, what the user is said to have written in the last request, oldest first.
        refused_keys: API keys that are answered with 401.
        to_reject: work packages whose next review requests changes.
        insists: whether a reviewer also calls the tools that only the implementer was offered. Of use where
            both have the same CLI.
        prompts: by attempt id, each of our prompts as it arrived.
        calls: by attempt id, the tool calls that the model makes in it.
        problems: requests that it could not make sense of.
        attack: a command that every attempt runs first, "" for none.
        watched: texts, and whether any request held them.
    """

    url: str
    faults: dict[str, Fault] = field(default_factory=dict)
    conversations: dict[str, Sequence[str]] = field(default_factory=dict)
    refused_keys: set[str] = field(default_factory=set)
    to_reject: set[str] = field(default_factory=set)
    insists: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    calls: dict[str, Sequence[Call]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    attack: str = ""
    watched: dict[str, bool] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    _results: dict[str, int] = field(default_factory=dict)
    _offered: dict[str, Schema] = field(default_factory=dict)

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
        tools = conversation.tools
        if task.line("Role") == "implement":
            self._offered |= tools
        elif self.insists:
            tools = {**self._offered, **tools}
        attack = [self.attack] if self.attack else []
        wanted = [one for step in (*attack, *steps_of(task)) for one in prepared(step, tools)]
        steps = enumerate(wanted, start=earlier)
        calls = [call for number, step in steps if (call := as_call(number, step, tools))]
        self.calls[attempt] = calls
        if conversation.results - earlier < len(calls):
            return calls[conversation.results - earlier]
        wp = task.line("Work package")
        if task.line("Role") == "implement" or wp not in self.to_reject:
            return last_word(task, "approved")
        self.to_reject.remove(wp)
        return last_word(task, "changes_requested")


class _Handler(BaseHTTPRequestHandler):
    api: ModelApi

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send_other(self.path.partition("?")[0])

    def do_POST(self) -> None:
        body = self._body()
        for text in self.api.watched:
            self.api.watched[text] |= text.encode() in body
        path = self.path.partition("?")[0]
        dialect = next((one for one in DIALECTS if one.path.fullmatch(path)), None)
        if dialect is None:
            self._send_other(path)
            return
        if self.api.refused_keys & self._keys():
            self._fail(REFUSED, dialect)
            return
        try:
            request = Request(path, json.loads(body))
            conversation = dialect.read(request)
            fault = self.api.fault(conversation)
            if fault is not None:
                self._fail(fault, dialect)
                return
            reply = dialect.write(self.api.answer(conversation), request)
        except Exception as error:  # noqa: BLE001 - the test shows it; the CLI would only try again
            self.api.problems.append(f"{path}: {error!r}")
            self._send(400, as_json({}))
            return
        self._send(200, reply)

    def _keys(self) -> set[str]:
        """Return whatever can be the key: APIs send it in different headers, or in the query."""
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        sent = [*self.headers.values(), *(value for values in query.values() for value in values)]
        return {value.removeprefix("Bearer ") for value in sent}

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") in {"gzip", "deflate"}:
            # Either of the two, by what it begins with.
            body = zlib.decompress(body, zlib.MAX_WBITS | 32)
        return body

    def _send_other(self, path: str) -> None:
        known = next((one.others[path] for one in DIALECTS if path in one.others), None)
        self._send(404 if known is None else 200, as_json({} if known is None else known))

    def _fail(self, fault: Fault, dialect: Dialect) -> None:
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
            self._send(fault.status, as_json(dialect.error(fault.status, fault.error)), fault.headers)

    def _send(self, status: int, reply: Reply, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", reply.kind)
        self.send_header("content-length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)


@contextmanager
def model_api() -> Iterator[ModelApi]:
    """Serve on a free port of this machine."""

    class Handler(_Handler):
        """Serves this one."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api = Handler.api = ModelApi(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            api.closing.set()
            server.shutdown()
            thread.join()
