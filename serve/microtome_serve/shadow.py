"""Asking the other model, too, where nobody waits for it."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from microtome.search.query import VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.engines import Answer, Engines
from microtome_serve.rollout import Compared, Following, overlap

WAITING: Final = 2  # comparisons at once, per replica; what comes meanwhile is skipped


@dataclass(frozen=True, slots=True)
class Answered:
    """A question that was answered.

    Attributes:
        access: who asked.
        ask: what.
        answer: what they were told.
        seconds: it took.
    """

    access: Access
    ask: Ask
    answer: Answer
    seconds: float


class Shadow:
    """Asks the other model a share of the questions, and notes how alike the answers are."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._waiting: list[Future[None]] = []

    def maybe(self, engines: Engines, answered: Answered) -> None:
        """Compare, if it is this question's turn and there is room."""
        ask = answered.ask
        if ask.level != "tile" or ask.model is not None or isinstance(ask.query, VectorQuery):
            return
        if ask.site_columns:  # counting takes time that isn't the model's
            return
        if random.random() >= self._following.choice.shadow:  # noqa: S311 - a sample, no secret
            return
        self._waiting = [one for one in self._waiting if not one.done()]
        if len(self._waiting) >= WAITING:
            self._following.note(Compared(skipped=1))
            return
        self._waiting.append(self._thread.submit(self._compare, engines, answered))

    def _compare(self, engines: Engines, answered: Answered) -> None:
        started = time.monotonic()
        try:
            ask = replace(answered.ask, alpha=None)  # only hits are compared
            other = engines.answer(answered.access, ask, self._following.choice.other)
        except Exception:  # noqa: BLE001 - whatever it is, the one who asked has an answer
            self._following.note(Compared(failed=1))
            return
        self._following.note(
            Compared(
                questions=1,
                overlap=overlap(answered.answer["hits"], other["hits"]),
                seconds=answered.seconds,
                other_seconds=time.monotonic() - started,
            )
        )
