"""`GET /metrics`, and the counting of every request."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microtome_serve.access import Operator
from microtome_serve.graph import Served
from microtome_serve.metrics import IN_FLIGHT, REFUSALS, REQUESTS, SECONDS, TALLY, Tally
from microtome_serve.problems import responses

router = APIRouter(tags=["server"])

_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
GONE: Final = 499  # nginx's number for a client that didn't wait


@router.get(
    "/metrics",
    summary="How the server does",
    response_class=Response,
    responses=_TEXT | responses(),
)
async def metrics(access: Operator, graph: Served) -> Response:
    """Prometheus' text, of all processes; a second old at most."""
    return Response(await graph.meter.text.remote(), media_type=CONTENT_TYPE_LATEST)


def install(app: FastAPI) -> None:
    """Count each request of `app`; to be called after `problems` and `guards` are installed."""
    app.add_middleware(Measured)


class Measured:
    """Counts requests: by route as it is declared, never by what a client wrote."""

    def __init__(self, app: ASGIApp, tally: Tally = TALLY) -> None:
        self._app = app
        self._tally = tally
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = GONE, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._change(+1)
        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            status = GONE
            raise
        except Exception:
            status = 500
            raise
        finally:
            self._change(-1)
            self._count(scope, status, time.monotonic() - started)

    def _change(self, by: int) -> None:
        self._in_flight += by
        self._tally.set(IN_FLIGHT, self._in_flight)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._tally.count(REQUESTS, route, method, str(status))
        self._tally.observe(SECONDS, seconds, route)
        if cause := scope.get("state", {}).get("cause"):
            self._tally.count(REFUSALS, cause)
