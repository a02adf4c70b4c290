"""Answers of the graph that an ingress keeps for a moment, so that asking often costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT_S: Final = 1.0


class Kept(Generic[T]):
    """What was answered last, or the error instead; asked anew by one for all.

    Args:
        ask: asks for it.
        kept_s: how long an answer is kept.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], kept_s: float = KEPT_S) -> None:
        self._ask = ask
        self._kept_s = kept_s
        self._lock = asyncio.Lock()
        self._asked_s = float("-inf")
        self._error: Exception | None = None
        self._answer: T

    async def answer(self) -> T:
        """The answer.

        Raises:
            Exception: what asking for it raised.
        """
        async with self._lock:
            if time.monotonic() - self._asked_s >= self._kept_s:
                try:
                    self._answer, self._error = await self._ask(), None
                except Exception as error:  # noqa: BLE001 - told to all who ask meanwhile
                    self._error = error
                self._asked_s = time.monotonic()
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._answer
