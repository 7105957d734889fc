"""Messages to real servers on the loopback, the worst included: each try ends, and says what came of it."""

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from tests.webhooks import Answer, answers, server

from spec_kitty_orchestrator.machine import delivery

LIMIT_S = 60


def post(url: str, headers: dict[str, str] | None = None) -> str:
    async def send() -> str:
        with anyio.fail_after(LIMIT_S):
            return await delivery.post(url, headers or {}, '{"a": 1}', Path.cwd())

    return anyio.run(send)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE_S", 0.0)


def test_a_message_arrives_with_its_headers() -> None:
    with server(answers("204 No Content")) as (url, asked):
        assert post(url, {"Content-Type": "application/x", "Authorization": "Bearer t"}) == ""
    (one,) = asked
    head, _, body = one.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook HTTP/1.1")
    assert {b"content-type: application/x", b"authorization: bearer t"} <= set(head.lower().split(b"\r\n"))
    assert body == b'{"a": 1}'


@pytest.mark.parametrize("status", ["500 Oh", "503 Busy", "429 Slow down"])
def test_a_server_that_fails_is_tried_twice(status: str) -> None:
    with server(answers(status, "no_service\nmore")) as (url, asked):
        assert post(url) == f"it answered {status[:3]}: no_service"
    assert len(asked) == 2


@pytest.mark.parametrize("status", ["400 Bad", "403 No", "404 Gone"])
def test_a_server_that_refuses_is_tried_once(status: str) -> None:
    with server(answers(status)) as (url, asked):
        assert post(url) == f"it answered {status[:3]}"
    assert len(asked) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed_so_nobody_else_gets_the_message_or_the_token(status: str) -> None:
    with (
        server(answers("200 OK")) as (other, asked),
        server(answers(status, "", f"Location: {other}")) as (url, _),
    ):
        assert post(url, {"Authorization": "Bearer t"}) == f"it answered {status[:3]}"
    assert asked == []


def waits(connection: socket.socket) -> None:
    connection.recv(1)


def after_its_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    connection.recv(1)


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    connection.settimeout(0.05)
    while True:
        connection.sendall(b"x")
        with suppress(TimeoutError):
            connection.recv(1)


@pytest.mark.parametrize("hangs", [waits, after_its_headers, drips])
def test_a_server_that_hangs_is_left_at_the_limit(hangs: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "POST_S", 1.0)
    with server(hangs) as (url, asked):
        assert post(url) == "no answer within 1 s"
    assert len(asked) == 2


def test_a_machine_that_does_not_answer_at_all_is_left_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "POST_S", 1.0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with socket.create_connection(listening.getsockname()):
            # Its queue is full: whoever comes next gets no answer.
            told = post(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert told == "no answer within 1 s"


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(300) + b"\n" + os.urandom(300))


@pytest.mark.parametrize("bad", [resets, garbage, lambda _: None], ids=["resets", "garbage", "closes"])
def test_what_is_no_answer_is_told_in_one_line(bad: Answer) -> None:
    with server(bad) as (url, asked):
        told = post(url)
    assert told
    assert told.isprintable()
    assert len(told) <= 160
    assert len(asked) == 2


def test_an_answer_can_have_any_length() -> None:
    with server(answers("200 OK", "x" * 5_000_000)) as (url, _):
        assert post(url) == ""


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert "refused" in post(f"http://127.0.0.1:{port}/")
    assert post("https://nowhere.invalid/hook")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server(answers("200 OK"), context) as (url, asked):
        assert "CERTIFICATE_VERIFY_FAILED" in post(url).upper()
    assert asked == []


def test_no_proxy_gets_what_is_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(answers("200 OK")) as (proxy, seen), server(answers("200 OK")) as (url, asked):
        monkeypatch.setenv("http_proxy", proxy)
        assert post(url) == ""
    assert (len(seen), len(asked)) == (0, 1)


def run(words: list[str], root: Path, message: str = "{}") -> str:
    async def give() -> str:
        with anyio.fail_after(LIMIT_S):
            return await delivery.run(words, message, root)

    return anyio.run(give)


def test_a_command_gets_the_message_on_its_stdin_and_no_shell_sees_its_words(tmp_path: Path) -> None:
    copy = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    message = json.dumps({"title": "a" * 200_000})
    assert run([sys.executable, "-c", copy, "$HOME; x"], tmp_path, message) == ""
    assert (tmp_path / "$HOME; x").read_text() == message


def test_a_command_that_fails_hangs_or_is_not_there_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "import sys; sys.exit('no\\nbus')"
    assert run([sys.executable, "-c", fails], tmp_path) == "exit code 1: bus"
    assert run(["no-such-program"], tmp_path) == "there is no program no-such-program"
    assert run(["./no-such-program"], tmp_path) == "there is no program ./no-such-program"
    monkeypatch.setattr(delivery, "COMMAND_S", 0.5)
    waits = "import signal; signal.pause()"
    assert run([sys.executable, "-c", waits], tmp_path) == "it did not end within 0.5 s"


def test_a_relative_program_begins_at_the_repository(tmp_path: Path) -> None:
    (tmp_path / "tell").write_text("#!/bin/sh\ncat > told\n")
    (tmp_path / "tell").chmod(0o755)
    assert run(["./tell"], tmp_path, "hello") == ""
    assert (tmp_path / "told").read_text() == "hello"
