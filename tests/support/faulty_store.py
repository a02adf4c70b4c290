"""A store's bad days: a proxy before it that spoils the requests a test wants spoilt."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_HOP = {"connection", "transfer-encoding", "server", "date", "keep-alive"}


Fault = Callable[["Passed"], object]


class Passed(BaseHTTPRequestHandler):
    """One request on its way through; a fault calls one of its methods, or none to let it pass."""

    protocol_version = "HTTP/1.1"
    server: FaultyStore

    def do_GET(self) -> None:
        if not self.server.fault(self):
            self.forward()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (the server's own names)

    @property
    def is_write(self) -> bool:
        """Whether an object is written or deleted."""
        return self.command in {"PUT", "POST", "DELETE"}

    @property
    def is_content(self) -> bool:
        """Whether a byte range of an object is asked for."""
        return self.command == "GET" and "Range" in self.headers

    def refuse(self, status: int, body: bytes) -> bool:
        """Answer with an error of the store's own."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True  # what was sent to us lies unread in the line
        return True

    def hang_up(self) -> bool:
        """Cut the line without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def lose_answer(self) -> bool:
        """Hand the request on, and cut the line instead of answering: it was done, who knows."""
        with self._answer() as answer:
            answer.read()
        return self.hang_up()

    def _answer(self) -> Any:
        """What the store says; an answer of 4xx or 5xx is one, too."""
        headers = {"Content-Type": "binary/octet-stream", **self.headers}  # else urllib has its own
        headers.pop("Host", None)
        if headers.pop("Transfer-Encoding", "") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = urllib.request.Request(
            self.server.upstream + self.path, body or None, headers, method=self.command
        )
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            return error

    def _chunks(self) -> bytes:
        """A body that was sent without its length, as boto does over TLS."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def forward(self, *, share: float = 1.0) -> bool:
        """Hand the request on; of the answer only a `share` arrives before the line is cut."""
        with self._answer() as answer:
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: int(len(body) * share)])
        self.close_connection = share < 1.0
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests are quiet."""


@dataclass
class FaultyStore(ThreadingHTTPServer):
    """The proxy; `fault` sees each request first and says whether it has answered it."""

    upstream: str
    tls: ssl.SSLContext | None = None
    fault: Fault = lambda _: False

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Passed)
        if self.tls:
            # Hands are shaken in the thread of each connection, or one client could keep all away.
            self.socket = self.tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


@contextmanager
def faults_before(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[FaultyStore]:
    """Start a proxy before a store, spoken to by TLS if wanted; it ends with the block."""
    proxy = FaultyStore(upstream, tls)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
