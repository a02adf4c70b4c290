"""Building the index of one model's vectors, and bringing it up to date; only under the lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.index_codes import TRAIN_PER_LIST, CodePlan, Codes
from microtome.atlas.index_coding import BLOCK_ROWS, Coder, CodingWork, code_here
from microtome.atlas.index_files import (
    IndexCard,
    drop_index,
    remove_leftovers,
    write_index,
)
from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import (
    VectorIndex,
    check_witnesses,
    open_index,
    row_places,
    stand,
    unit_vectors,
    vector_files,
)

LEAST_ROWS = 20_000  # fewer are searched exactly within milliseconds
OUTGROWN = 4.0  # times the rows it was trained for, or a part of them, an index is trained anew
WITNESSES = 8


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of an index.

    Attributes:
        card: of the index that is there now; None where there are too few rows for one.
        added: rows coded now.
        removed: codes taken out.
        trained: whether it was built from nothing.
    """

    card: IndexCard | None
    added: int = 0
    removed: int = 0
    trained: bool = False

    @property
    def changed(self) -> bool:
        """Whether there is anything to write: also which rows have no vector is."""
        return self.card is not None and self.card.number == 0


def refresh_index(
    atlas: Atlas,
    model_id: str,
    *,
    plan: Callable[[int], CodePlan] = CodePlan.for_rows,
    least_rows: int = LEAST_ROWS,
    code: Coder = code_here,
    may_publish: Callable[[], None] = lambda: None,
) -> Refreshed:
    """Build a model's index, or bring it up to the newest version of `tiles`; under the lease.

    Codes of rows that are gone are removed, also from the files: an index never holds more than
    the newest version does. It is trained anew where it has outgrown its centroids (which are
    means of many slides' vectors), or can't be read.

    Args:
        atlas: what is indexed.
        model_id: whose vectors.
        plan: how so many rows are coded.
        least_rows: where fewer rows have vectors, there is no index.
        code: who codes vectors, once there are centroids.
        may_publish: see `write_index`.

    Raises:
        AtlasWriteFailed: the store refuses; the index before it stays.
        AtlasError: the table can't be read.
    """
    remove_leftovers(atlas.uri)
    tiles = atlas.tiles
    index = _usable(atlas, model_id, tiles)
    rows = tiles.count_rows(f"{vector_column(model_id)} IS NOT NULL")
    if rows < least_rows:
        return Refreshed(None, removed=drop_index(atlas.uri, model_id))
    if index is None or not 1 / OUTGROWN < rows / index.card.trained_rows <= OUTGROWN:
        became, codes = _build(atlas, tiles, model_id, plan(rows), code)
    else:
        became, codes = _extend(atlas, tiles, index, code)
    if became.card is None or not became.changed:
        return became
    written = write_index(atlas.uri, became.card, codes, may_publish)
    drop_index(atlas.uri, model_id, before=written.number)
    return replace(became, card=written)


def _usable(atlas: Atlas, model_id: str, tiles: Any) -> VectorIndex | None:
    try:
        index = open_index(atlas, model_id)
        if index is not None:
            check_witnesses(index.card.witnesses, tiles)
    except IndexUnusable:
        return None
    return index


def _build(
    atlas: Atlas, tiles: Any, model_id: str, plan: CodePlan, code: Coder
) -> tuple[Refreshed, Codes]:
    row_ids, _ = row_places(tiles)
    codes = Codes.trained(plan, _sample(tiles, model_id, row_ids, plan.lists * TRAIN_PER_LIST))
    added = code(codes, CodingWork.of(atlas, tiles, model_id))
    return Refreshed(_card(model_id, tiles, codes, plan, added), added=added, trained=True), codes


def _extend(atlas: Atlas, tiles: Any, index: VectorIndex, code: Coder) -> tuple[Refreshed, Codes]:
    card, codes, standing = index.card, index.codes, stand(index, tiles)
    row_ids, places = row_places(tiles)
    gone = np.setdiff1d(index.row_ids, row_ids, assume_unique=True)
    if not len(gone) and not standing.open_rows:
        return Refreshed(card), codes
    codes.remove(gone)
    coded = np.isin(row_ids, index.row_ids, assume_unique=True)
    known = {one: row_ids[coded & (places == one)] for one in standing.open_fragments}
    added = code(codes, CodingWork.of(atlas, tiles, card.model_id, known)) if known else 0
    plan = CodePlan(card.lists, card.bits, card.probes)
    card = _card(card.model_id, tiles, codes, plan, card.trained_rows)
    return Refreshed(card, added=added, removed=len(gone)), codes


def _card(model_id: str, tiles: Any, codes: Codes, plan: CodePlan, trained_rows: int) -> IndexCard:
    row_ids = np.sort(codes.row_ids)
    chosen = row_ids[np.linspace(0, len(row_ids) - 1, WITNESSES, dtype=np.int64)]
    witnesses = tiles._take_rows(np.unique(chosen).tolist(), columns=["tile_id", "_rowid"])
    return IndexCard(
        model_id=model_id,
        number=0,
        tiles_version=tiles.version,
        rows=len(codes),
        trained_rows=trained_rows,
        lists=plan.lists,
        bits=plan.bits,
        probes=plan.probes,
        files=tuple(sorted(vector_files(tiles, model_id).values())),
        witnesses=dict(
            zip(witnesses["_rowid"].to_pylist(), witnesses["tile_id"].to_pylist(), strict=True)
        ),
    )


def _sample(
    tiles: Any, model_id: str, row_ids: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Unit vectors of rows at random, at most `count`; rows without a vector are passed over."""
    column = vector_column(model_id)
    if len(row_ids) > 2 * count:  # of others, half may have none
        row_ids = np.sort(np.random.default_rng(0).choice(row_ids, 2 * count, replace=False))
    parts, found = [], 0
    for start in range(0, len(row_ids), BLOCK_ROWS):
        some = tiles._take_rows(row_ids[start : start + BLOCK_ROWS].tolist(), columns=[column])
        parts.append(unit_vectors(some[column].combine_chunks().drop_null()))
        found += len(parts[-1])
    sample = np.concatenate(parts)
    return sample[np.random.default_rng(1).permutation(found)[:count]]
