"""Threads for work that somebody waits for, and how much of the slow kind may wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeVar

from microtome.errors import Overloaded
from microtome.search import patience
from microtome.search.patience import Patience

T = TypeVar("T")


class Threads:
    """A few threads; work in them ends when nobody waits for it any more, see `patience`."""

    def __init__(self, name: str, most: int) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, work: Callable[[], T], until_s: float | None = None) -> T:
        """Do work in one of them.

        Args:
            work: what is done.
            until_s: by `time.monotonic`, how long it is waited for.

        Raises:
            DeadlinePassed: it took longer, or longer to begin.
        """
        cancelled = Event()

        def patiently() -> T:
            with patience.shown(Patience(until_s, cancelled)):
                patience.check()
                return work()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, patiently)
        finally:
            cancelled.set()


class Places:
    """How many may be inside; nobody waits for a place."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place while the context is open; from one loop.

        Raises:
            Overloaded: there is none.
        """
        if not self._free:
            raise Overloaded("the server has more to do than it can", remedy="Ask again shortly.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def all_or_none(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each of several comes to; the first error of one ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def in_s(seconds: float) -> float:
    """When so many seconds will have passed, by `time.monotonic`."""
    return time.monotonic() + seconds
