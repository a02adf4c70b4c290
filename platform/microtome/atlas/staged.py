"""Vectors of a model that wait for their place in `tiles`.

A column file holds all rows of a fragment, and a compacted fragment holds hundreds of slides. So
that a job which is killed loses no more than a few slides, the vectors of each slide go to a table
of their own first, `_embed/<model id>`, as soon as it is embedded; from there they fill the column,
fragment by fragment. The table goes when the job is through, or with `maintain` once no job would
go on from it (`orphans`); without it, work is lost, not truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.columns import counted
from microtome.atlas.fragments import Gathered, vector_array, write_unseen
from microtome.atlas.schema import tile_ids
from microtome.atlas.sql import one_of
from microtome.atlas.staging_tables import discard_staged, staging_table
from microtome.atlas.storage import location, writing
from microtome.atlas.tables import newest_table, open_table, reading
from microtome.atlas.writer import Writer
from microtome.errors import AtlasDamaged
from microtome.models.card import ModelCard


def staging_schema(card: ModelCard) -> pa.Schema:
    """Its columns: whose vectors, of which bytes, and which tile's."""
    return pa.schema(
        [
            pa.field("slide_id", pa.string()),
            pa.field("content_id", pa.string()),
            pa.field("tile_id", pa.string()),
            pa.field("vector", pa.list_(pa.float16(), card.dim)),
        ]
    )


@dataclass(frozen=True, slots=True)
class StagingTarget:
    """Where a worker writes vectors; small, and safe to send.

    Attributes:
        uri: of the atlas, meaning the same in every process.
        shown_uri: of the atlas, as the user named it.
        grid_key: `GridSettings.key` of its grid.
        card: of the model that embeds.
    """

    uri: str
    shown_uri: str
    grid_key: str
    card: ModelCard

    @classmethod
    def of(cls, atlas: Atlas, card: ModelCard) -> StagingTarget:
        """The vectors of this model for this atlas."""
        return cls(location(atlas.uri), atlas.uri, atlas.grid.key, card)


class VectorWriter:
    """Gathers the vectors of one slide; writes them durably, visible to nobody."""

    def __init__(self, target: StagingTarget, slide_id: str, content_id: str) -> None:
        """Args: where to, and whose vectors they are."""
        self._target = target
        self._slide_id = slide_id
        self._content_id = content_id
        self._schema = staging_schema(target.card)
        self._gathered = Gathered(self._write)

    @property
    def rows(self) -> int:
        """Vectors taken so far."""
        return self._gathered.rows

    def add(self, corners: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take the (N, D) vectors of the tiles at (N, 2) corners, level-0 px.

        Raises:
            AtlasWriteFailed: the disk is full, or the store refuses.
            ModelError: a vector isn't finite.
        """
        count, model_id = len(vectors), self._target.card.model_id
        columns = [
            pa.repeat(self._slide_id, count),
            pa.repeat(self._content_id, count),
            pa.array(tile_ids(self._content_id, self._target.grid_key, corners)),
            vector_array(vectors, model_id, self._slide_id),
        ]
        self._gathered.add(pa.table(columns, schema=self._schema))

    def close(self) -> tuple[str, ...]:
        """Write what is left; returns JSON of all fragments, as `SlideOutcome` takes them.

        Raises:
            AtlasWriteFailed: the disk is full, or the store refuses.
        """
        return self._gathered.close()

    def _write(self, rows: pa.Table) -> tuple[str, ...]:
        with writing(self._target.shown_uri, "vectors"):
            return write_unseen(self._target.uri, staging_table(self._target.card.model_id), rows)


class Staged:
    """The vectors of a model that wait, as the job that fills its column sees them."""

    def __init__(self, writer: Writer, card: ModelCard) -> None:
        """Make the table, or take over what a job that was ended left in it, unless damaged."""
        self._writer = writer
        self._model_id = card.model_id
        self._table = staging_table(card.model_id)
        self._found: dict[tuple[str, str], Counter[int]] = {}
        self._seen = -1
        with suppress(AtlasDamaged), self._reading():
            if open_table(writer.uri, self._table) is not None:
                self._look()
                return
        writer.create(self._table, staging_schema(card))

    def holds(self, slide_id: str, content_id: str, tiles: int) -> bool:
        """Whether the vectors of all tiles of a slide wait here."""
        return self._found.get((slide_id, content_id), Counter()).total() == tiles

    def add(self, fragments: Iterable[str]) -> None:
        """Keep what workers wrote, JSON of `VectorWriter.close`; all of it or nothing.

        Raises:
            AtlasWriteFailed: the store refuses.
            AtlasDamaged: a file is damaged or gone; the next job embeds what waited again.
        """
        arriving = [lance.FragmentMetadata.from_json(text) for text in fragments]
        if arriving:
            self._writer.append(self._table, arriving)
            with self._reading():
                self._look()

    def vectors(self, slide_ids: Iterable[str]) -> pa.Table:
        """Columns `tile_id` and `vector` of all that waits for some slides.

        Raises:
            AtlasDamaged: a file is damaged or gone; the next job embeds what waited again.
        """
        wanted = set(slide_ids)
        places: set[int] = set()
        for (slide_id, _), fragments in self._found.items():
            if slide_id in wanted:
                places |= fragments.keys()
        with self._reading():
            dataset = newest_table(self._writer.uri, self._table)
            return dataset.scanner(
                columns=["tile_id", "vector"],
                filter=one_of("slide_id", wanted),
                fragments=[dataset.get_fragment(number) for number in sorted(places)],
            ).to_table()

    def _look(self) -> None:
        """Take note of the fragments that have come."""
        dataset = newest_table(self._writer.uri, self._table)
        new = [one for one in dataset.get_fragments() if one.fragment_id > self._seen]
        if not new:
            return
        rows = dataset.scanner(
            columns=["slide_id", "content_id"], fragments=new, with_row_address=True
        ).to_table()
        for slide_id, content_id, fragment, count in counted(rows, ["slide_id", "content_id"]):
            self._found.setdefault((slide_id, content_id), Counter())[fragment] += count
        self._seen = max(one.fragment_id for one in new)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let go of a table that turns out to be damaged: no job could ever go on from it."""
        try:
            with reading(self._writer.uri, self._table):
                yield
        except AtlasDamaged as error:
            self._writer.check_lease()
            discard_staged(self._writer.uri, self._model_id)
            raise AtlasDamaged(
                error.message, remedy="Run the same command again: it embeds anew what waited."
            ) from error
