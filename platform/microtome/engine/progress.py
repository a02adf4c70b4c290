"""Progress by slide and by tile: actors count, the driver draws."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple, Self

import ray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microtome.console import LOG_EVERY_S, err

POLL_S = 0.5
READ_S = 3.0  # an interrupt may have ended the counting process


class Counts(NamedTuple):
    """Tiles over all slides so far, and the time (s since 1970) when the first slide was planned.

    Until then a run starts up: Ray, the workers' processes, the model.
    """

    planned: int = 0
    embedded: int = 0
    since: float | None = None


@ray.remote(num_cpus=0)
class _Count:
    """Tiles planned and embedded so far, over all actors."""

    def __init__(self) -> None:
        self._counts = Counts()

    def add(self, planned: int, embedded: int) -> None:
        counts = self._counts
        self._counts = Counts(
            counts.planned + planned, counts.embedded + embedded, counts.since or time.time()
        )

    def read(self) -> Counts:
        return self._counts


class Tally:
    """A handle to the count that any process of the cluster can add to, without waiting."""

    def __init__(self) -> None:
        self._count: Any = _Count.remote()  # type: ignore[attr-defined]

    def add(self, planned: int, embedded: int) -> None:
        """Count tiles newly planned and newly embedded."""
        self._count.add.remote(planned, embedded)

    def read(self) -> Counts | None:
        """What has been counted so far; None where the cluster doesn't answer."""
        try:
            counts: Counts = ray.get(self._count.read.remote(), timeout=READ_S)
        except ray.exceptions.RayError:
            return None
        return counts


class ProgressDisplay:
    """Two bars on a terminal; in a log, a line now and then."""

    def __init__(self, tally: Tally, slides: int) -> None:
        self._tally = tally
        self._slides = slides
        self._finished = 0
        self._counts = Counts()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._by_slide = self._bars.add_task("slides", total=slides, rate="")
        self._by_tile = self._bars.add_task("tiles ", total=None, rate="")
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def since(self) -> float | None:
        """When the first slide was planned, s since 1970."""
        return self._counts.since

    def slide_finished(self) -> None:
        """Advance by one slide; called by the driver after its commit."""
        self._finished += 1
        self._bars.advance(self._by_slide)

    def __enter__(self) -> Self:
        self._bars.start()
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        if kind is None:
            self._look()
        self._bars.stop()

    def _watch(self) -> None:
        logged = time.monotonic()
        while not self._stop.wait(POLL_S):
            rate = self._look()
            if not err.is_terminal and time.monotonic() - logged >= LOG_EVERY_S:
                logged = time.monotonic()
                counts = self._counts
                err.print(
                    f"slides {self._finished:,}/{self._slides:,}  "
                    f"tiles {counts.embedded:,}/{counts.planned:,}  {rate}",
                    highlight=False,
                )

    def _look(self) -> str:
        """Read the count and draw it; returns the rate."""
        self._counts = counts = self._tally.read() or self._counts
        elapsed_s = time.time() - counts.since if counts.since else 0.0
        rate = f"{counts.embedded / elapsed_s:,.0f}/s" if elapsed_s else "starting"
        self._bars.update(self._by_tile, total=counts.planned, completed=counts.embedded, rate=rate)
        return rate
