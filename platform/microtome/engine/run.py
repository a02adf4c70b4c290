"""What every job on the cluster shares: what it counts, shows and writes down of itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.runs import RunStatus, RunTotals, finish_run
from microtome.atlas.writer import Writer
from microtome.engine.progress import ProgressDisplay, Tally
from microtome.errors import AtlasError


@dataclass(slots=True)
class IndexSummary:
    """What a run did.

    Attributes:
        run_id: its row in `runs`; empty where there was nothing to do.
        atlas: as the user named it.
        wanted: slides found at the sources.
        already_done: slides that earlier runs had finished.
        done: slides whose tiles this run stored.
        empty: slides without tissue.
        unchanged: slides that looked changed and weren't, or only go by another name now.
        failed: wanted slides that aren't in, by cause.
        left_alone: how many of those weren't tried: they failed in an earlier run, or are refused.
        refused: how many of those left alone were forgotten, and so may not come back.
        tiles: stored by this run.
        bytes_read: taken from files or the store.
        gpus: held by the workers.
        startup_s: finding slides, starting Ray and the workers, loading the model.
        embed_s: from the first slide planned to the last commit.
    """

    atlas: str
    wanted: int
    already_done: int
    run_id: str = ""
    done: int = 0
    empty: int = 0
    unchanged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left_alone: int = 0
    refused: int = 0
    tiles: int = 0
    bytes_read: int = 0
    gpus: float = 0.0
    startup_s: float = 0.0
    embed_s: float = 0.0

    def add(self, outcome: SlideOutcome) -> None:
        """Count one slide."""
        if outcome.status == "done":
            self.done += 1
            self.tiles += outcome.stored_tiles
        elif outcome.status == "empty":
            self.empty += 1
        elif outcome.status in {"unchanged", "known"}:
            self.unchanged += 1
        else:
            self.failed[outcome.cause] += 1
        self.bytes_read += outcome.bytes_read

    @property
    def finished(self) -> int:
        """Slides this run has an outcome for."""
        return self.done + self.empty + self.unchanged + self.failed_now

    @property
    def failed_now(self) -> int:
        """Slides that failed in this run."""
        return self.failed.total() - self.left_alone

    @property
    def tiles_per_s(self) -> float:
        """Tiles over the time spent on slides, Ray's start left out."""
        return self.tiles / self.embed_s if self.embed_s else 0.0

    @property
    def s_per_slide(self) -> float:
        """Wall time per slide, over all workers together."""
        return self.embed_s / self.finished if self.finished else 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary as scripts read it."""
        derived = {"tiles_per_s": self.tiles_per_s, "s_per_slide": self.s_per_slide}
        return asdict(self) | {"failed": dict(self.failed)} | derived


@contextmanager
def written_down(writer: Writer, summary: IndexSummary) -> Iterator[None]:
    """Note in `runs` how the run ended, however it does."""
    try:
        yield
    except BaseException as error:
        status: RunStatus = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(AtlasError):  # on a full disk the first error says more
            finish_run(writer, summary.run_id, status, _totals(summary))
        raise
    finish_run(writer, summary.run_id, "finished", _totals(summary))


@contextmanager
def counting(
    summary: IndexSummary, started: float, slides: int
) -> Iterator[tuple[Tally, ProgressDisplay]]:
    """Show progress, and at the end split the time into start-up and work."""
    tally = Tally()
    display = ProgressDisplay(tally, slides)
    try:
        with display:
            yield tally, display
    finally:
        now = time.time()
        working_since = display.since or now
        summary.startup_s = working_since - started
        summary.embed_s = now - working_since


def _totals(summary: IndexSummary) -> RunTotals:
    return RunTotals(
        slides_done=summary.done,
        slides_empty=summary.empty,
        slides_failed=summary.failed_now,
        tiles=summary.tiles,
        bytes_read=summary.bytes_read,
        seconds=summary.startup_s + summary.embed_s,
        tiles_per_s=summary.tiles_per_s,
        gpu_seconds=summary.gpus * summary.embed_s,
    )
