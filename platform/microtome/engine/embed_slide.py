"""The stored tiles of one slide from its file to vectors of a further model; knows no Ray.

open → check that its bytes are those the tiles were cut from → cut again → encode → write
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from microtome.atlas.backfill_plan import HeldSlide, stored_places
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.staged import StagingTarget, VectorWriter
from microtome.atlas.tables import lost_table, open_table
from microtome.config import GridSettings, MppSettings
from microtome.engine.slide_work import OnTiles, attempted, with_reader
from microtome.errors import SlideChanged
from microtome.models.encoder import Encoder
from microtome.slides.slide import SlideReader, SlideRef
from microtome.tiles.cut import cut_tiles, places_again


@dataclass(frozen=True, slots=True)
class EmbedWork:
    """What is the same for every slide of a run.

    Attributes:
        target: where vectors go.
        grid: of the atlas.
        batch_size: tiles per call of the model.
        threads: decoding threads.
        version: of `tiles`, in which the fragments are.
        slides: what the atlas knows of each, by slide id.
        fragments: of each slide, all that hold its tiles.
    """

    target: StagingTarget
    grid: GridSettings
    batch_size: int
    threads: int
    version: int
    slides: Mapping[str, HeldSlide]
    fragments: Mapping[str, tuple[int, ...]]

    def run(self, ref: SlideRef, encoder: Encoder, on_tiles: OnTiles) -> SlideOutcome:
        """Embed all tiles that the atlas holds of one slide.

        The reader is the one that read them first, so that their pixels are the same.

        Raises:
            MicrotomeError: what isn't this slide's fault, e.g. `AtlasWriteFailed` on a full disk.
        """
        held = self.slides[ref.slide_id]
        return attempted(
            ref,
            lambda: with_reader(
                ref,
                MppSettings(),
                held.reader,
                lambda reader: self._embed(ref, reader, encoder, on_tiles),
            ),
        )

    def _embed(
        self, ref: SlideRef, reader: SlideReader, encoder: Encoder, on_tiles: OnTiles
    ) -> SlideOutcome:
        slide, held = reader.slide, self.slides[ref.slide_id]
        if slide.content_id != held.content_id:
            raise SlideChanged(
                f"{ref.slide_id} has other bytes than those its tiles were cut from",
                remedy="Run `microtome index` on it first, which replaces its tiles.",
            )
        target = self.target
        tiles = open_table(target.uri, "tiles", self.version, shown_uri=target.shown_uri)
        if tiles is None:
            raise lost_table(target.shown_uri, "tiles")
        corners, tissue = stored_places(tiles, ref.slide_id, self.fragments[ref.slide_id])
        places = places_again(reader, self.grid, corners, tissue)
        on_tiles(len(places), 0)
        writer = VectorWriter(target, ref.slide_id, slide.content_id)
        for batch in cut_tiles(reader, places, batch_size=self.batch_size, threads=self.threads):
            writer.add(batch.corners, encoder.encode(batch.pixels))
            on_tiles(0, len(batch))
        return SlideOutcome(
            ref,
            "done",
            content_id=slide.content_id,
            slide=slide,
            planned_tiles=held.tiles,
            stored_tiles=writer.rows,
            fragments=writer.close(),
            bytes_read=reader.bytes_read,
        )
