"""Tiles drawn from an atlas to ask it about itself, and what each finds among the others.

Drawn are groups (cases, for instance) at random, and in each a tile at random: one of every group,
then a second one of every group, until there are enough. So a case of ten thousand tiles says no
more than one of ten, and where there are at least as many groups as tiles wanted, no two tiles
have a group in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import unit_vectors
from microtome.search.exact import Nearest
from microtome.search.filters import Exclusion
from microtome.search.finder import Finder, View, Wanted, path_of

BLOCK_ROWS: Final = 16_384

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """Tiles that were drawn.

    Attributes:
        row_ids: (S,) uint64.
        vectors: (S, D) float32 of unit length.
        groups: of each its own group; where that is unknown, its slide.
    """

    row_ids: NDArray[np.uint64]
    vectors: Vectors
    groups: tuple[Exclusion, ...]

    def __len__(self) -> int:
        return len(self.row_ids)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How tiles are drawn.

    Attributes:
        model_id: they have a vector of this model.
        by: the column whose values are the groups.
        size: how many, at most.
        where: Lance filter of those that may be drawn.
        seed: another draws others.
    """

    model_id: str
    by: str
    size: int
    where: str | None = None
    seed: int = 0


def draw(tiles: Any, drawing: Drawing) -> Sample:
    """Draw tiles from the Lance dataset, evenly from all groups."""
    columns = list(dict.fromkeys(["slide_id", drawing.by]))
    scanner = tiles.scanner(columns=columns, filter=drawing.where, with_row_id=True)
    rows = scanner.to_table().combine_chunks()
    order = np.random.default_rng(drawing.seed).permutation(len(rows))
    order = order[np.argsort(_turns(_codes(rows, drawing.by)[order]), kind="stable")]
    column = vector_column(drawing.model_id)
    places: list[NDArray[np.intp]] = [order[:0]]
    vectors = [np.empty((0, tiles.schema.field(column).type.list_size), np.float32)]
    start, amount = 0, 2 * drawing.size
    while start < len(order):  # many may have no vector: ever more are looked at
        some = order[start : start + amount]
        start, amount = start + amount, 2 * amount
        stored = tiles._take_rows(rows["_rowid"].to_numpy()[some].tolist(), columns=[column])[
            column
        ]
        valid = stored.is_valid().to_numpy()
        places.append(some[valid])
        vectors.append(unit_vectors(stored.combine_chunks().drop_null()))
        if sum(map(len, places)) >= drawing.size:
            break
    chosen = rows.take(pa.array(np.concatenate(places)[: drawing.size]))
    groups = tuple(
        Exclusion("slide_id", slide) if value is None else Exclusion(drawing.by, value)
        for slide, value in zip(
            chosen["slide_id"].to_pylist(), chosen[drawing.by].to_pylist(), strict=True
        )
    )
    return Sample(chosen["_rowid"].to_numpy(), np.concatenate(vectors)[: drawing.size], groups)


def nearest_others(
    finder: Finder, sample: Sample, k: int, where: str | None = None
) -> list[Nearest]:
    """The tiles nearest to each drawn one, its own group left out; through the index if there is.

    Args:
        finder: of the model whose vectors the sample has.
        sample: what is asked.
        k: how many tiles each finds; fewer where no more are left.
        where: Lance filter of those that may be found.
    """
    view = finder.view()
    if path_of(view, Wanted(k)) == "index":
        return [
            finder.find(view, [vector[None]], Wanted(k, where, group))[0]
            for vector, group in zip(sample.vectors, sample.groups, strict=True)
        ]
    return _scanned(view, finder.column, sample, Wanted(k, where))


def _codes(rows: pa.Table, by: str) -> NDArray[np.int64]:
    """A number for each group; a slide stands for a group that is unknown."""
    groups, slides = (
        pc.dictionary_encode(rows[name].combine_chunks()) for name in (by, "slide_id")
    )
    alone = pc.add(slides.indices, len(groups.dictionary))
    codes: NDArray[np.int64] = pc.coalesce(groups.indices, alone).to_numpy().astype(np.int64)
    return codes


def _turns(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same code stand before each."""
    by_code = np.argsort(codes, kind="stable")
    sorted_codes = codes[by_code]
    turns = np.empty(len(codes), np.int64)
    turns[by_code] = np.arange(len(codes)) - np.searchsorted(sorted_codes, sorted_codes)
    return turns


def _scanned(view: View, column: str, sample: Sample, wanted: Wanted) -> list[Nearest]:
    """As `nearest_others`, by one scan of all vectors for the whole sample."""
    row_ids = np.zeros((len(sample), 0), np.uint64)
    scores = np.zeros((len(sample), 0), np.float32)
    names = list(dict.fromkeys(["slide_id", *(group.column for group in sample.groups)]))
    scanner = view.tiles.scanner(
        columns=[column, *names], filter=wanted.where, with_row_id=True, batch_size=BLOCK_ROWS
    )
    for block in scanner.to_batches():
        rows = block.filter(block.column(column).is_valid())
        cosines = sample.vectors @ unit_vectors(rows.column(column)).T
        cosines[_own(rows, sample.groups)] = -np.inf
        best = _largest(cosines, wanted.k)
        ids = np.hstack([row_ids, rows.column("_rowid").to_numpy()[best]])
        values = np.hstack([scores, np.take_along_axis(cosines, best, axis=1)])
        best = _largest(values, wanted.k)
        row_ids = np.take_along_axis(ids, best, axis=1)
        scores = np.take_along_axis(values, best, axis=1)
    found = []
    for ids, values in zip(row_ids, scores, strict=True):
        order = np.lexsort((ids, -values))
        order = order[np.isfinite(values[order])]
        found.append(Nearest(ids[order], values[order], seen=len(order), scored=len(order)))
    return found


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """(S, ≤ k): columns of the k largest of each row, in no order."""
    count = values.shape[1]
    places: NDArray[np.intp]
    if count <= k:
        places = np.broadcast_to(np.arange(count), values.shape)
    elif k == 1:
        places = values.argmax(axis=1)[:, None]
    else:
        places = np.argpartition(values, count - k, axis=1)[:, count - k :]
    return places


def _own(rows: pa.RecordBatch, groups: Sequence[Exclusion]) -> NDArray[np.bool_]:
    """(S, N): whether a row is of the group of a drawn tile."""
    own = np.zeros((len(groups), len(rows)), np.bool_)
    for column in {group.column for group in groups}:
        mine = np.array([place for place, one in enumerate(groups) if one.column == column])
        values = pa.array([groups[place].value for place in mine], rows.schema.field(column).type)
        known = pc.unique(values)
        wanted = pc.index_in(values, known).to_numpy()
        there = pc.fill_null(pc.index_in(rows.column(column), known), -1).to_numpy()
        own[mine] = wanted[:, None] == there[None, :]
    return own
