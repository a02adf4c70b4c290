"""What a request may not do to the server: send too much, too slowly, or keep it too long.

A middleware, so that no route can forget it. A body arrives here piece by piece while the client
still sends it; a refusal ends the reading of whatever part of Serve takes it in. Slow headers never
come this far: `front` gives them up. Where it doesn't stand before Serve, which waits for ever
(`serve deploy`, KubeRay, other systems than Linux), another reverse proxy has to.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microtome.errors import DeadlinePassed, RequestError, RequestTooLarge, RequestTooSlow
from microtome_serve.limits import Limits, has_body
from microtome_serve.refusals import problem_of


async def left_s(request: Request) -> float:
    """Seconds until the answer to a request is given up."""
    until_s: float = request.state.until_s
    return max(0.0, until_s - asyncio.get_running_loop().time())


Left = Annotated[float, Depends(left_s)]
"""A route's parameter."""


def install(app: FastAPI, limits: Limits) -> None:
    """Watch each request of `app`; to be called after `problems.install`."""
    app.add_middleware(Guards, limits=limits)


class Guards:
    """Refuses what is over the limits with a problem document."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, watched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(self._limits, scope, receive, send)
        try:
            watch.check_length()
            async with asyncio.timeout(self._limits.deadline_s) as deadline:
                scope.setdefault("state", {})["until_s"] = deadline.when()
                await self._app(scope, watch.receive, watch.send)
        except RequestError as error:
            watch.refused = error
        except TimeoutError:
            if watch.started or not deadline.expired():
                raise
            watch.refused = DeadlinePassed(
                f"the answer wasn't ready within {self._limits.deadline_s:g} s",
                remedy="Ask for less, or again later.",
            )
        if watch.refused is not None and not watch.started:
            problem = problem_of(watch.refused)
            scope.setdefault("state", {})["cause"] = problem.cause
            await problem.response()(scope, receive, watch.send_last)


class _Watch:
    """One request's body on its way in.

    A refusal is kept, since a framework may take the error that `receive` raises for its own and
    answer something else, which is then not sent.
    """

    def __init__(self, limits: Limits, scope: Scope, receive: Receive, send: Send) -> None:
        self.refused: RequestError | None = None
        self.started = False
        headers = Headers(scope=scope)
        self._length = headers.get("content-length", "")
        uploads = headers.get("content-type", "").startswith("multipart/")
        self._most = limits.upload_bytes if uploads else limits.body_bytes
        self._received, self._ended = 0, False
        self._unread = has_body(scope)
        self._body_s = limits.body_s
        self._until = asyncio.get_running_loop().time() + limits.body_s
        self._receive, self._send = receive, send

    def check_length(self) -> None:
        """Raise `RequestTooLarge` by what a client says, before anything is read."""
        if self._length.isascii() and self._length.isdigit() and int(self._length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next piece of the body; after its end, the client's leaving."""
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until) as time:
                message = await self._receive()
        except TimeoutError:
            if time.expired():
                raise self._refuse(
                    RequestTooSlow(f"the body didn't arrive within {self._body_s:g} s")
                ) from None
            raise
        self._received += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._received > self._most:
            raise self._refuse(self._too_large())
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless the request was refused."""
        if self.refused is None:
            await self.send_last(message)

    async def send_last(self, message: Message) -> None:
        """Pass an answer on; one that comes before the body's end ends the connection.

        What is left of the body would be taken for the next request, or be read for nothing.
        """
        if message["type"] == "http.response.start":
            self.started = True
            if self._unread and not self._ended:
                MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    def _refuse(self, error: RequestError) -> RequestError:
        self.refused = error
        return error

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body is larger than {self._most:,} bytes", remedy="Ask with less at once."
        )
