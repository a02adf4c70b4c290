"""The stored tiles nearest to each of many vectors, and where they lie.

Through the index where there is one. Else the table is read once for all vectors together, which
`exact.nearest` would do once for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import one_of
from microtome.atlas.vector_index import unit_vectors
from microtome.search import patience
from microtome.search.exact import BLOCK_BYTES, READ_AHEAD_BYTES, Nearest
from microtome.search.finder import Finder, View, Wanted, path_of
from microtome.search.region_placement import Floats

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Near:
    """Tiles near to vectors.

    Attributes:
        row_ids: (Q, K) int64, best first; -1 where there are fewer.
        scores: (Q, K) float32, cosines; -inf likewise.
        counted: tiles that were allowed, and those of them that have a vector.
    """

    row_ids: NDArray[np.int64]
    scores: Vectors
    counted: Nearest


def nearest_of_each(
    finder: Finder, view: View, model_id: str, vectors: Vectors, wanted: Wanted
) -> Near:
    """The `wanted.k` nearest tiles of each vector (Q, D) of unit length."""
    if path_of(view, wanted) == "exact":
        return _read_once(view.tiles, vector_column(model_id), vectors, wanted)
    found = finder.find(view, [vector[None] for vector in vectors], wanted)
    row_ids, scores = _nothing(len(vectors), wanted.k)
    for query, nearest in enumerate(found):
        row_ids[query, : len(nearest.row_ids)] = nearest.row_ids
        scores[query, : len(nearest.scores)] = nearest.scores
    return Near(row_ids, scores, found[0])


def _nothing(queries: int, k: int) -> tuple[NDArray[np.int64], Vectors]:
    return np.full((queries, k), -1), np.full((queries, k), -np.inf, np.float32)


def _read_once(tiles: Any, column: str, vectors: Vectors, wanted: Wanted) -> Near:
    row_ids, scores = _nothing(len(vectors), wanted.k)
    seen, scored = 0, 0
    scanner = tiles.scanner(
        columns=[column],
        filter=wanted.condition,
        with_row_id=True,
        batch_size=max(1, BLOCK_BYTES // (4 * max(vectors.shape))),
        io_buffer_size=READ_AHEAD_BYTES,
    )
    for block in scanner.to_batches():
        patience.check()
        valid = block.filter(pc.is_valid(block.column(column)))
        seen, scored = seen + len(block), scored + len(valid)
        if len(valid):
            cosines = vectors @ unit_vectors(valid.column(column)).T
            both = np.concatenate([scores, cosines], axis=1)
            names = valid.column("_rowid").to_numpy().astype(np.int64)
            rows = np.concatenate([row_ids, np.broadcast_to(names, cosines.shape)], axis=1)
            best = np.argsort(-both, axis=1, kind="stable")[:, : wanted.k]
            row_ids = np.take_along_axis(rows, best, axis=1)
            scores = np.take_along_axis(both, best, axis=1)
    counted = Nearest(row_ids[:1].astype(np.uint64), scores[:1], seen, scored)
    return Near(row_ids, scores, counted)


@dataclass(frozen=True, slots=True)
class Places:
    """Where tiles lie, (N,) each, in the order of ascending row ids.

    Attributes:
        row_ids: distinct.
        slide: index into `slide_ids`.
        middles: (N, 2) of the tiles, grid px.
        slide_ids: of the slides that occur.
        factors: level-0 px per grid px of each slide.
    """

    row_ids: NDArray[np.int64]
    slide: NDArray[np.int64]
    middles: Floats
    slide_ids: tuple[str, ...]
    factors: Floats


def places_of(atlas: Atlas, tiles: Any, row_ids: NDArray[np.int64]) -> Places:
    """Look up where some tiles lie."""
    distinct = np.unique(row_ids[row_ids >= 0])
    columns = ["slide_id", "x", "y", "_rowid"]
    rows = tiles._take_rows(distinct.tolist(), columns=columns).sort_by("_rowid")
    names, slide = np.unique(np.array(rows["slide_id"].to_pylist(), object), return_inverse=True)
    factor = level0_px_per_grid_px(atlas, names.tolist())
    factors = np.array([factor[name] for name in names])
    corners = np.column_stack([rows["x"].to_numpy(), rows["y"].to_numpy()])
    middles = corners / factors[slide][:, None] + atlas.grid.tile_px / 2
    row_ids = rows["_rowid"].to_numpy().astype(np.int64)
    return Places(row_ids, slide, middles, tuple(names.tolist()), factors)


def level0_px_per_grid_px(atlas: Atlas, slide_ids: list[str]) -> Mapping[str, float]:
    """How many level-0 px of each slide make one of the atlas's mpp."""
    columns = ["slide_id", "mpp"]
    rows = atlas.slides.to_table(columns=columns, filter=one_of("slide_id", slide_ids))
    mpps = zip(rows["slide_id"].to_pylist(), rows["mpp"].to_pylist(), strict=True)
    return {slide_id: atlas.grid.mpp / mpp for slide_id, mpp in mpps}
