"""One line of JSON for each request: who asked what kind of thing, and what became of it.

It holds nothing of a patient: routes stand as templates, without the ids in their paths, and
neither queries nor filters nor names of files are written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any, Final

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microtome_serve.problems import REQUEST_ID

log = logging.getLogger("microtome.audit")

LOOK_EVERY_S: Final = 1.0
"""For so long lines may still go to a file that was moved away; they are there, then."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def install(app: FastAPI, to: str = "") -> None:
    """Write a line for each request of `app`; install it last, so that it lies outside of all.

    Args:
        app: whose requests.
        to: a file, which a rotation may move away; `-` is standard output; empty leaves the lines
            to the logger `microtome.audit`.
    """
    if to and not log.handlers:
        handler = logging.StreamHandler(sys.stdout) if to == "-" else _Rotated(to)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(logging.INFO)
    app.add_middleware(Audit)


class _Rotated(WatchedFileHandler):
    """Looks but now and then whether its file was moved away; a look costs more than a line."""

    def __init__(self, to: str) -> None:
        super().__init__(to)
        self._looked = time.monotonic()

    def reopenIfNeeded(self) -> None:  # noqa: N802 - logging's name
        """Open the file anew if another one, or none, is in its place."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._looked = time.monotonic()
            super().reopenIfNeeded()


class Audit:
    """Names each request, times it, and writes its line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line = _Line(scope)

        async def receiving() -> Message:
            message = await receive()
            line.bytes_in += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                line.status = message["status"]
                if REQUEST_ID not in Headers(scope=scope):  # Serve's proxy names and answers it
                    MutableHeaders(scope=message)[REQUEST_ID] = line.request_id
            line.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            log.info(json.dumps(line.facts(), ensure_ascii=False))


class _Line:
    """What is known of one request."""

    def __init__(self, scope: Scope) -> None:
        said = Headers(scope=scope).get(REQUEST_ID, "")
        self.request_id = said if _REQUEST_ID.fullmatch(said) else uuid.uuid4().hex
        self.status = 0
        self.bytes_in = self.bytes_out = 0
        self._scope = scope
        self._began = time.perf_counter()
        scope.setdefault("state", {})["request_id"] = self.request_id

    def facts(self) -> dict[str, Any]:
        """The line: status 0 is a client that left before there was an answer."""
        access = self._scope["state"].get("access")
        route = getattr(self._scope.get("route"), "path", None)
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "token": access.name if access else None,
            "method": self._scope["method"],
            "route": route,
            "status": self.status,
            "ms": round((time.perf_counter() - self._began) * 1000, 1),
            "rows_limited": bool(access and access.rows),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
