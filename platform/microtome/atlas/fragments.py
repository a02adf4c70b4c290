"""Tiles become durable, not yet visible: what a worker does with the vectors of one slide.

1. The tiles of one slide are gathered as Arrow tables (`tile_rows`).
2. Every few thousand rows go to the store as a Lance fragment (`write_fragments`); no version of
   the table names it yet, so no reader sees it.
3. What came of it, JSON of a few hundred bytes per fragment, travels to the committer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from lance.fragment import write_fragments as write_lance_fragments
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import tile_ids, vector_column
from microtome.atlas.storage import location, patiently, storage_options, writing
from microtome.atlas.tables import table_uri
from microtome.errors import ModelError
from microtome.slides.slide import Slide, SlideRef
from microtome.tiles.batch import TileBatch

FLUSH_ROWS = 8192  # 8 MB of 512 float16 values: few files per slide, little memory per worker


@dataclass(frozen=True, slots=True)
class TilesTarget:
    """Where tiles go; small, and safe to send: a worker finds credentials in its own environment.

    Attributes:
        uri: of the atlas, meaning the same in every process.
        shown_uri: of the atlas, as the user named it.
        schema: of its table `tiles`.
        grid_key: `GridSettings.key` of its grid.
        model_id: the model that embeds.
        run_id: the run that writes.
    """

    uri: str
    shown_uri: str
    schema: pa.Schema
    grid_key: str
    model_id: str
    run_id: str

    @classmethod
    def of(cls, atlas: Atlas, model_id: str, run_id: str) -> TilesTarget:
        """The tiles of this atlas, written by this run with this model."""
        return cls(
            location(atlas.uri), atlas.uri, atlas.tiles.schema, atlas.grid.key, model_id, run_id
        )


@dataclass(frozen=True, slots=True)
class TileOrigin:
    """What all tiles of one slide share.

    Attributes:
        ref: the slide, with its manifest columns.
        content_id: hash of its bytes.
        size_px: side of a tile in level-0 pixels.
    """

    ref: SlideRef
    content_id: str
    size_px: int


def tile_rows(
    target: TilesTarget, origin: TileOrigin, tiles: TileBatch, vectors: NDArray[np.float32]
) -> pa.Table:
    """Rows of the table `tiles`; columns nobody gives, such as other models' vectors, are null.

    Args:
        target: where they go.
        origin: the slide they come from.
        tiles: N tiles; their pixels aren't looked at.
        vectors: (N, D) of unit length, kept as float16.

    Raises:
        ModelError: a vector holds values that are no finite numbers.
    """
    count = len(vectors)
    shared: dict[str, Any] = {
        **origin.ref.columns,
        "slide_id": origin.ref.slide_id,
        "case_id": origin.ref.case_id,
        "size_px": origin.size_px,
        "run_id": target.run_id,
    }
    columns = {
        field.name: pa.repeat(pa.scalar(shared.get(field.name), field.type), count)
        for field in target.schema
    } | {
        "tile_id": pa.array(tile_ids(origin.content_id, target.grid_key, tiles.corners)),
        "x": pa.array(tiles.corners[:, 0], pa.int32()),
        "y": pa.array(tiles.corners[:, 1], pa.int32()),
        "tissue": pa.array(tiles.tissue),
        "sharpness": pa.array(tiles.sharpness),
        vector_column(target.model_id): vector_array(vectors, target.model_id, origin.ref.slide_id),
    }
    return pa.table(columns, schema=target.schema)


def vector_array(
    vectors: NDArray[np.float32], model_id: str, slide_id: str
) -> pa.FixedSizeListArray:
    """Vectors as an atlas keeps them.

    Args:
        vectors: (N, D) of unit length.
        model_id: the model they come from.
        slide_id: the slide they are of.

    Returns:
        N lists of D float16.

    Raises:
        ModelError: a vector holds values that are no finite numbers.
    """
    if not np.isfinite(vectors).all():
        raise ModelError(
            f"the model {model_id} gave vectors that aren't finite for the slide {slide_id}",
            remedy="Try another precision, or check the model's weights.",
        )
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def write_fragments(target: TilesTarget, rows: pa.Table) -> tuple[str, ...]:
    """Write rows of `tiles`: see `write_unseen`."""
    with writing(target.shown_uri, "tiles"):
        return write_unseen(target.uri, "tiles", rows)


def write_unseen(uri: str, table: str, rows: pa.Table) -> tuple[str, ...]:
    """Write rows durably beside a table, visible to nobody; returns JSON, one text per fragment.

    Raises:
        OSError: the disk is full, or the store refuses.
    """
    fragments = patiently(
        lambda: write_lance_fragments(
            rows, table_uri(uri, table), mode="append", storage_options=storage_options(uri)
        )
    )
    return tuple(json.dumps(fragment.to_json()) for fragment in fragments)


class Gathered:
    """Rows that wait until they are worth a fragment.

    Attributes:
        rows: taken so far.
    """

    def __init__(
        self, write: Callable[[pa.Table], Sequence[str]], flush_rows: int = FLUSH_ROWS
    ) -> None:
        """Args: what makes fragments of a table and tells them, and from how many rows on."""
        self.rows = 0
        self._write = write
        self._flush_rows = flush_rows
        self._waiting: list[pa.Table] = []
        self._fragments: list[str] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows; what waits is written once there is enough."""
        self._waiting.append(rows)
        self.rows += len(rows)
        if sum(map(len, self._waiting)) >= self._flush_rows:
            self._flush()

    def close(self) -> tuple[str, ...]:
        """Write what is left; returns all fragments."""
        if self._waiting:
            self._flush()
        return tuple(self._fragments)

    def _flush(self) -> None:
        self._fragments += self._write(pa.concat_tables(self._waiting))
        self._waiting.clear()


class FragmentWriter:
    """Gathers the tiles of one slide and writes a fragment whenever there are enough."""

    def __init__(
        self,
        target: TilesTarget,
        ref: SlideRef,
        slide: Slide,
        size_px: int,
        *,
        flush_rows: int = FLUSH_ROWS,
    ) -> None:
        """Args: where to, the slide as wanted and as opened, a tile's side in level-0 pixels."""
        self._target = target
        self._origin = TileOrigin(ref, slide.content_id, size_px)
        self._gathered = Gathered(partial(write_fragments, target), flush_rows)

    @property
    def rows(self) -> int:
        """Tiles taken so far."""
        return self._gathered.rows

    def add(self, tiles: TileBatch, vectors: NDArray[np.float32]) -> None:
        """Take N tiles and their (N, D) vectors.

        Raises:
            AtlasWriteFailed: the disk is full, or the store refuses.
            ModelError: a vector isn't finite.
        """
        self._gathered.add(tile_rows(self._target, self._origin, tiles, vectors))

    def close(self) -> tuple[str, ...]:
        """Write what is left; returns all fragments of the slide, as `SlideOutcome` takes them.

        Raises:
            AtlasWriteFailed: the disk is full, or the store refuses.
        """
        return self._gathered.close()
