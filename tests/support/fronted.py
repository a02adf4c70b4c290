"""Made servers behind a real HAProxy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from microtome_serve import front
from microtome_serve.config_file import Place
from microtome_serve.settings import ServeSettings
from support.serving import free_port


class Behind(BaseHTTPRequestHandler):
    """Says its name, with 503 at `/v1/full`; answers posts once it is let to, and counts them."""

    protocol_version = "HTTP/1.1"
    name = "serve"
    let = threading.Event()
    inside: ClassVar[Counter] = Counter()

    def do_GET(self) -> None:
        self._say(503 if self.path == "/v1/full" else 200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Behind.inside[self.path, self.name] += 1
        Behind.let.wait(60)
        self._say()

    def _say(self, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.name)))
        self.end_headers()
        self.wfile.write(self.name.encode())

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    request_queue_size = 100  # nobody waits long for a connection

    def handle_error(self, *_: object) -> None:
        """HAProxy's checks only knock."""


@contextmanager
def listening(port: int, name: str) -> Iterator[None]:
    """A made server."""
    server = _Quiet(("127.0.0.1", port), type(name, (Behind,), {"name": name}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def fronted(settings: ServeSettings) -> Iterator[str]:
    """The URL of a HAProxy before what stands for Serve's proxy."""
    Behind.let.clear()
    Behind.inside.clear()
    place = Place(port=free_port())
    with ExitStack() as stack, front.in_front(settings, place) as behind:
        assert behind.port != place.port
        stack.enter_context(listening(behind.port, "serve"))
        stack.callback(Behind.let.set)
        yield place.url
