"""How many of the truly nearest tiles a search through the index finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import row_places, unit_vectors
from microtome.config import check_whole
from microtome.errors import ModelMismatch
from microtome.search.finder import Finder, Wanted, path_of

BLOCK_ROWS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Recall:
    """What was measured.

    Attributes:
        recall: of the k truly nearest tiles of each sampled one, the share that was found, 0 to 1.
        k: nearest tiles per query, its own row not counted.
        sample: how many stored vectors were asked with.
        path: `index`, or `exact` where there is none to be used.
        problem: why it can't be used; empty where it can, or where there is none.
        tiles_version: the version that was searched.
    """

    recall: float
    k: int
    sample: int
    path: str
    problem: str
    tiles_version: int


def check_recall(
    atlas: Atlas, model_id: str, sample: int = 100, *, k: int = 10, seed: int = 0
) -> Recall:
    """Ask with a sample of stored vectors, and compare with an exact scan, which is one for all.

    Ties count as found: a tile whose cosine equals that of the k-th is as near as that.

    Raises:
        ModelMismatch: the atlas has no vectors of the model.
        AtlasError: a table can't be read.
    """
    check_whole("sample", sample, least=1)
    check_whole("k", k, least=1)
    if model_id not in atlas.models:
        raise ModelMismatch(f"the atlas {atlas.uri} holds no vectors of the model {model_id}")
    finder = Finder(atlas, model_id)
    view = finder.view()
    row_ids, vectors = _sampled(view.tiles, vector_column(model_id), sample, seed)
    wanted = Wanted(k + 1)
    found = finder.find(view, [vector[None] for vector in vectors], wanted)
    bars = _kth_best(view.tiles, vector_column(model_id), (row_ids, vectors), k)
    shares = [
        np.sum(near.scores[near.row_ids != row][:k] >= bar - 1e-6) / k if np.isfinite(bar) else 1.0
        for row, near, bar in zip(row_ids, found, bars, strict=True)
    ]
    return Recall(
        float(np.mean(shares)) if shares else 1.0,
        k,
        len(row_ids),
        path_of(view, wanted),
        view.problem,
        view.tiles.version,
    )


def _sampled(
    tiles: Any, column: str, sample: int, seed: int
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Row ids and unit vectors of rows at random that have a vector."""
    order = np.random.default_rng(seed).permutation(row_places(tiles)[0])
    row_ids, vectors, held = [np.empty(0, np.uint64)], [], 0
    for start in range(0, len(order), 4 * sample):
        taken = tiles._take_rows(
            order[start : start + 4 * sample].tolist(), columns=[column, "_rowid"]
        )
        valid = taken.filter(taken[column].is_valid())
        row_ids.append(valid["_rowid"].to_numpy())
        vectors.append(unit_vectors(valid[column]))
        held += len(valid)
        if held >= sample:
            break
    dim = tiles.schema.field(column).type.list_size
    together = np.concatenate([np.empty((0, dim), np.float32), *vectors])
    return np.concatenate(row_ids)[:sample], together[:sample]


def _kth_best(
    tiles: Any, column: str, asked: tuple[NDArray[np.uint64], NDArray[np.float32]], k: int
) -> NDArray[np.float32]:
    """(Q,) the k-th best cosine of each vector with all rows but its own; −inf where fewer are."""
    row_ids, vectors = asked
    best = np.full((len(vectors), k), -np.inf, dtype=np.float32)
    scanner = tiles.scanner(columns=[column], with_row_id=True, batch_size=BLOCK_ROWS)
    for block in scanner.to_batches():
        rows = block.filter(block.column(column).is_valid())
        cosines = vectors @ unit_vectors(rows.column(column)).T
        cosines[row_ids[:, None] == rows.column("_rowid").to_numpy()] = -np.inf
        both = np.concatenate([best, cosines], axis=1)
        best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
    bars: NDArray[np.float32] = best.min(axis=1)
    return bars
