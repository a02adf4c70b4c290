"""The way in: it is shut before a server ends, so that who is inside is still answered."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from microtome.errors import Overloaded
from microtome_serve.refusals import problem_of

LOOK_EVERY_S: Final = 0.05


class Door:
    """Counts who is inside; once shut, nobody comes in."""

    def __init__(self) -> None:
        self.inside = 0
        self.is_shut = False

    async def shut(self, timeout_s: float) -> bool:
        """Let nobody in, and wait until all are out; whether they are."""
        self.is_shut = True
        try:
            async with asyncio.timeout(timeout_s):
                while self.inside:
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            return False
        return True


class Entered:
    """A middleware: requests come in by a door."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it where the door is shut."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._door.is_shut:
            ending = Overloaded("the server is about to end", remedy="Ask again shortly.")
            problem = problem_of(ending)
            scope.setdefault("state", {})["cause"] = problem.cause
            await problem.response()(scope, receive, send)
            return
        self._door.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._door.inside -= 1
