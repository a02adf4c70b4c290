"""How long whoever asked waits for an answer: work that nobody waits for any more ends.

Whoever runs a search in a thread says so around it:

    with patience.shown(Patience(until_s=time.monotonic() + 30, cancelled=event)):
        searcher.search(query)

A search looks at it between its steps, which take a fraction of a second each: pictures given to
a model, placements compared, mosaics made. Where nothing is said, nobody loses patience.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Event

from microtome.errors import DeadlinePassed


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is waited for.

    Attributes:
        until_s: by `time.monotonic`; None for as long as it takes.
        cancelled: set once nobody waits any more.
    """

    until_s: float | None = None
    cancelled: Event | None = None

    def check(self) -> None:
        """Go on if somebody still waits.

        Raises:
            DeadlinePassed: nobody does.
        """
        late = self.until_s is not None and time.monotonic() > self.until_s
        if late or (self.cancelled is not None and self.cancelled.is_set()):
            raise DeadlinePassed(
                "the answer wasn't ready in time", remedy="Ask for less, or again later."
            )


_SHOWN: ContextVar[Patience] = ContextVar("patience", default=Patience())  # noqa: B039 - frozen


@contextmanager
def shown(patience: Patience) -> Iterator[None]:
    """Do what is done inside with such patience; of this thread alone."""
    token = _SHOWN.set(patience)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def left_s() -> float:
    """Seconds for which what this thread does is waited for; endless where nothing is said.

    Raises:
        DeadlinePassed: there are none left.
    """
    check()
    until_s = _SHOWN.get().until_s
    return math.inf if until_s is None else max(0.0, until_s - time.monotonic())


def check() -> None:
    """Go on if somebody still waits for what this thread does.

    Raises:
        DeadlinePassed: nobody does.
    """
    _SHOWN.get().check()
