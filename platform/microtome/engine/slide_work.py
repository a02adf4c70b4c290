"""One slide from its file to durable, still invisible fragments; knows no Ray.

open → plan → cut → encode → write
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from microtome.atlas.fragments import FragmentWriter, TilesTarget
from microtome.atlas.outcome import SlideOutcome, Status
from microtome.config import GridSettings, MppSettings, ReaderChoice
from microtome.errors import (
    MicrotomeError,
    ModelError,
    SlideError,
    SlideUnexpected,
    TileReadFailed,
)
from microtome.models.encoder import Encoder
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.tiles.cut import cut_tiles, plan_tiles
from microtome.tiles.thumbnail import thumbnail

log = logging.getLogger(__name__)

OnTiles = Callable[[int, int], None]
"""Called with (tiles newly planned, tiles newly embedded)."""


class Work(Protocol):
    """What an actor does with each slide it is given."""

    def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
        """Turn one slide into an outcome; one that can't be read is an outcome too.

        Raises:
            MicrotomeError: what isn't this slide's fault, e.g. `AtlasWriteFailed` on a full disk.
        """
        ...


@dataclass(frozen=True, slots=True)
class SlideWork:
    """What is the same for every slide of a run.

    Attributes:
        target: the `tiles` table that fragments are written for.
        grid: where tiles lie.
        mpp: who may say how large a pixel is.
        reader: how slides are read.
        min_tissue: least fraction of a tile that is tissue.
        batch_size: tiles per call of the model.
        threads: decoding threads.
        known: slide id by content id of what the atlas holds already: there is nothing to embed.
    """

    target: TilesTarget
    grid: GridSettings
    mpp: MppSettings
    reader: ReaderChoice
    min_tissue: float
    batch_size: int
    threads: int
    known: Mapping[str, str] = field(default_factory=dict)

    def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
        """Embed one slide; one that can't be is an outcome too.

        Raises:
            MicrotomeError: what isn't this slide's fault, e.g. `AtlasWriteFailed` on a full disk.
        """
        return attempted(ref, lambda: self._attempt(ref, encoder, on_tiles))

    def _attempt(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
        outcome = self._read(ref, self.reader, encoder, on_tiles)
        if outcome.cause == TileReadFailed.cause and self.reader == "auto" and outcome.slide:
            other: ReaderChoice = "tiff" if outcome.slide.reader == "openslide" else "openslide"
            again = self._read(ref, other, encoder, on_tiles)
            outcome = outcome if again.status == "failed" else again  # the first says more
        return outcome

    def _read(
        self, ref: SlideRef, choice: ReaderChoice, encoder: Encoder, on_tiles: OnTiles
    ) -> SlideOutcome:
        return with_reader(
            ref, self.mpp, choice, lambda reader: self._embed(ref, reader, encoder, on_tiles)
        )

    def _embed(
        self, ref: SlideRef, reader: SlideReader, encoder: Encoder, on_tiles: OnTiles
    ) -> SlideOutcome:
        slide = reader.slide
        if holder := self.known.get(slide.content_id):
            status: Status = "unchanged" if holder == ref.slide_id else "known"
            return SlideOutcome(ref, status, content_id=slide.content_id, slide=slide)
        plan = plan_tiles(reader, self.grid, self.min_tissue)
        on_tiles(len(plan), 0)
        picture = thumbnail(reader)
        writer = FragmentWriter(self.target, ref, slide, plan.size_px)
        for batch in cut_tiles(reader, plan, batch_size=self.batch_size, threads=self.threads):
            writer.add(batch, encoder.encode(batch.pixels))
            on_tiles(0, len(batch))
        return SlideOutcome(
            ref,
            "done" if len(plan) else "empty",
            content_id=slide.content_id,
            slide=slide,
            planned_tiles=len(plan),
            fragments=writer.close(),
            stored_tiles=writer.rows,
            tissue_mm2=plan.mask.area_mm2(slide.mpp),
            thumbnail=picture,
            bytes_read=reader.bytes_read,
        )


def attempted(ref: SlideRef, attempt: Callable[[], SlideOutcome]) -> SlideOutcome:
    """The outcome of an attempt, with its time; an error nobody foresaw is an outcome too."""
    started = time.monotonic()
    try:
        outcome = attempt()
    except MicrotomeError:
        raise
    except Exception as error:
        log.exception("an error nobody foresaw on %s", ref.slide_id)
        unexpected = SlideUnexpected(
            f"{ref.slide_id} brought up a {type(error).__name__} that nobody foresaw",
            remedy="Please report it with the trace in the worker's log.",
        )
        outcome = _failure(ref, unexpected)
    return replace(outcome, seconds=time.monotonic() - started)


def with_reader(
    ref: SlideRef,
    mpp: MppSettings,
    choice: ReaderChoice,
    use: Callable[[SlideReader], SlideOutcome],
) -> SlideOutcome:
    """What comes of an open slide; an error that is the slide's own is an outcome too."""
    try:
        with open_slide(ref, mpp, choice) as reader:
            try:
                return use(reader)
            except (SlideError, ModelError) as error:
                return _failure(ref, error, reader)
    except SlideError as error:
        return _failure(ref, error)


def _failure(
    ref: SlideRef, error: MicrotomeError, reader: SlideReader | None = None
) -> SlideOutcome:
    return SlideOutcome(
        ref,
        "failed",
        content_id=reader.slide.content_id if reader else "",
        cause=error.cause,
        message=str(error),
        slide=reader.slide if reader else None,
        bytes_read=reader.bytes_read if reader else 0,
    )
