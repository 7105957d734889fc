"""Servers on the loopback that answer as a test wants."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Serve on the loopback; yield the address and the requests that came, as far as they were read."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with suppress(OSError):
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                with connection:
                    asked.append(request(connection))
                    answer(connection)

        Thread(target=serve, daemon=True).start()
        scheme = "https" if context else "http"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/hook", asked
        listening.shutdown(socket.SHUT_RDWR)


def request(connection: socket.socket) -> bytes:
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        length = next(
            (
                int(one.split(b":")[1])
                for one in head.split(b"\r\n")
                if one.lower().startswith(b"content-length")
            ),
            0,
        )
        if found and len(body) >= length:
            return data
        chunk = connection.recv(65536)
        if not chunk:
            return data
        data += chunk


def answers(status: str, body: str = "", *headers: str) -> Answer:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body)
    return lambda connection: connection.sendall("\r\n".join(lines).encode())
