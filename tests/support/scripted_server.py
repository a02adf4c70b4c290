"""A real HTTP server on loopback that answers as it is told to, one request after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer; status 0 closes the connection without one, `drip_s` lies between its bytes."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0


@dataclass
class ScriptedServer:
    """Gives `replies` in turn, the last again and again; `seen` holds what came."""

    url: str = ""
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def problem(status: int, cause: str, detail: str = "it is so", **headers: str) -> Reply:
    """A problem document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"status": status, "cause": cause, "detail": detail, "remedy": "Do so."}
    return Reply(status, body, {"Content-Type": "application/problem+json", **named})


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Run one."""
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.seen.append((self.command, self.path, dict(self.headers), body))
            reply = script.next()
            script.stopped.wait(reply.delay_s)
            if not reply.status:
                self.close_connection = True
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json"} | dict(reply.headers)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever asked has left
                step = 1 if reply.drip_s else max(1, len(data))
                for start in range(0, len(data), step):
                    self.wfile.write(data[start : start + step])
                    script.stopped.wait(reply.drip_s)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield script
    finally:
        script.stopped.set()
        server.shutdown()
        server.server_close()
