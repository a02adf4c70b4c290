"""From outcomes as they come to waves that are committed together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue

from microtome.atlas.outcome import SlideOutcome
from microtome.errors import WorkerLost
from microtome.slides.slide import SlideRef


def waves(
    outcomes: Iterable[SlideOutcome], slides: int, seconds: float
) -> Iterator[list[SlideOutcome]]:
    """Group outcomes for one commit each: so many slides, or what has come in so many seconds.

    A slide that takes hours doesn't hold back those that are finished. Ctrl-C while waiting yields
    what has come before it goes on up, so finished work is kept.
    """
    wave: list[SlideOutcome] = []
    since = time.monotonic()
    with _Arrivals(outcomes) as arrivals:
        try:
            while True:
                due_s = since + seconds - time.monotonic()
                try:
                    outcome = arrivals.next(within_s=max(due_s, 0.0) if wave else None)
                except Empty:
                    yield wave
                    wave, since = [], time.monotonic()
                    continue
                if outcome is None:
                    break
                wave.append(outcome)
                if len(wave) >= slides or time.monotonic() - since >= seconds:
                    yield wave
                    wave, since = [], time.monotonic()
        except KeyboardInterrupt:
            if wave:
                yield wave
            raise
    if wave:
        yield wave


class _Arrivals:
    """Outcomes that a thread waits for, so that waiting for the next one can end in time."""

    def __init__(self, outcomes: Iterable[SlideOutcome]) -> None:
        self._outcomes = outcomes
        self._arrived: SimpleQueue[SlideOutcome | BaseException | None] = SimpleQueue()
        self._unwanted = threading.Event()

    def __enter__(self) -> _Arrivals:
        threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._unwanted.set()

    def next(self, within_s: float | None) -> SlideOutcome | None:
        """The next outcome, or None where there are no more.

        Raises:
            Empty: none has come within the time.
            BaseException: whatever was raised in place of an outcome.
        """
        arrived = self._arrived.get(timeout=within_s)
        if isinstance(arrived, BaseException):
            raise arrived
        return arrived

    def _wait(self) -> None:
        try:
            for outcome in self._outcomes:
                self._arrived.put(outcome)
                if self._unwanted.is_set():
                    return
            self._arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcomes are taken
            self._arrived.put(error)


def with_lost(
    outcomes: Iterable[SlideOutcome], wanted: Iterable[SlideRef]
) -> Iterator[SlideOutcome]:
    """Every outcome, then a failure for each wanted slide that has none: its process died."""
    missing = {ref.slide_id: ref for ref in wanted}
    for outcome in outcomes:
        missing.pop(outcome.ref.slide_id, None)
        yield outcome
    for ref in missing.values():
        lost = WorkerLost(
            f"the process that read {ref.slide_id} died each time it was tried",
            remedy="It may have run out of memory, or a codec crashed; the worker's log says more.",
        )
        yield SlideOutcome(ref, status="failed", cause=lost.cause, message=str(lost))
