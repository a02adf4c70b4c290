"""The index of one model's vectors, and how it stands to a version of `tiles`.

An index codes rows of `tiles` by their stable row id. Lance never gives an id twice, and what a
model makes of a tile never changes (a slide whose content changed has new tiles), so a row that
is there and coded is coded rightly, in every version, after compaction as before. What remains is
to know, for the version that is searched,

- which of its rows are coded: `Standing.coded`; codes of other rows are passed over;
- which fragments hold further rows that may have vectors: `Standing.open_fragments`; they are
  searched exactly.

Scores never come from codes: each candidate is compared exactly, with its vector in the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.index_codes import Codes
from microtome.atlas.index_files import IndexCard, newest_card, read_codes
from microtome.atlas.schema import vector_column

_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index in memory.

    Attributes:
        card: what it is.
        codes: its codes.
        row_ids: (N,) int64, sorted: which rows are coded.
    """

    card: IndexCard
    codes: Codes
    row_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Standing:
    """How an index stands to one version of `tiles`.

    Attributes:
        coded: bits by row id, lowest first: rows of the version that are coded.
        coded_rows: how many.
        empty: likewise: rows that are known to have no vector.
        open_fragments: ids of the fragments that hold rows it doesn't code, which may have vectors.
        open_rows: how many such rows there are, at most.
        all_coded: whether there are no codes of other rows.
    """

    coded: NDArray[np.uint8]
    coded_rows: int
    empty: NDArray[np.uint8]
    open_fragments: tuple[int, ...]
    open_rows: int
    all_coded: bool


def open_index(atlas: Atlas, model_id: str, known: VectorIndex | None = None) -> VectorIndex | None:
    """The stored index of a model; None where there is none.

    Args:
        atlas: whose it is.
        model_id: whose vectors it codes.
        known: one that was opened before, and is returned where it is still the newest.

    Raises:
        IndexUnusable: it is missing a part, damaged, of another format or of another table.
    """
    card = newest_card(atlas.uri, model_id)
    if card is None:
        return None
    if known is not None and known.card == card:
        return known
    try:
        codes = read_codes(atlas.uri, card)
    except IndexUnusable:
        newer = newest_card(atlas.uri, model_id)  # replaced while it was read
        if newer is None or newer.number == card.number:
            raise
        card, codes = newer, read_codes(atlas.uri, newer)
    return VectorIndex(card, codes, np.sort(codes.row_ids))


def stand(index: VectorIndex, tiles: Any) -> Standing:
    """Hold an index against a version of `tiles`; reads no columns.

    Raises:
        IndexUnusable: it was made from another table.
    """
    check_witnesses(index.card.witnesses, tiles)
    row_ids, fragments = row_places(tiles)
    coded = np.isin(row_ids, index.row_ids, assume_unique=True)
    seen = {
        fragment
        for fragment, file in vector_files(tiles, index.card.model_id).items()
        if file in index.card.files
    }
    known = coded | np.isin(fragments, list(seen))
    return Standing(
        coded=bits_of(row_ids[coded]),
        coded_rows=int(coded.sum()),
        empty=bits_of(row_ids[known & ~coded]),
        open_fragments=tuple(np.unique(fragments[~known]).tolist()),
        open_rows=int((~known).sum()),
        all_coded=bool(coded.sum() == len(index.row_ids)),
    )


def bits_of(row_ids: NDArray[Any]) -> NDArray[np.uint8]:
    """A bit for each row id up to the largest, lowest first."""
    held = np.zeros(int(row_ids.max()) + 1 if len(row_ids) else 0, dtype=np.bool_)
    held[row_ids] = True
    return np.packbits(held, bitorder="little")


def check_witnesses(witnesses: Mapping[int, str], tiles: Any) -> None:
    """Raise `IndexUnusable` where rows of the table, by their id, are other tiles than is said."""
    there = tiles._take_rows(list(witnesses), columns=["tile_id", "_rowid"])
    for row, tile in zip(there["_rowid"].to_pylist(), there["tile_id"].to_pylist(), strict=True):
        if witnesses[row] != tile:
            raise IndexUnusable("it was made from another table")


def row_places(tiles: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row id and fragment id of every row; both are known without reading a column."""
    table = tiles.scanner(columns=[], with_row_id=True, with_row_address=True).to_table()
    row_ids = table["_rowid"].to_numpy().astype(np.int64)
    return row_ids, (table["_rowaddr"].to_numpy() >> np.uint64(32)).astype(np.int64)


def vector_files(tiles: Any, model_id: str) -> dict[int, str]:
    """By fragment id, the data file that holds the model's vectors."""
    column = vector_column(model_id)
    (number,) = (field.id() for field in tiles.lance_schema.fields() if field.name() == column)
    return {
        fragment.fragment_id: file.path
        for fragment in tiles.get_fragments()
        for file in fragment.metadata.files
        if number in file.fields
    }


def rows_with_vectors(tiles: Any, model_id: str, known: Collection[str]) -> NDArray[np.int64]:
    """The rows of which something made of vectors may still be true.

    Args:
        tiles: the Lance dataset.
        model_id: whose vectors.
        known: files with vectors that it was made from. They never change, so all rows in them are
            taken; of rows elsewhere, those that have a vector now.
    """
    row_ids, fragments = row_places(tiles)
    files = vector_files(tiles, model_id)
    new = [one for one in tiles.get_fragments() if files.get(one.fragment_id) not in known]
    seen = row_ids[~np.isin(fragments, [one.fragment_id for one in new])]
    if not new:
        return seen
    present = f"{vector_column(model_id)} IS NOT NULL"
    scanner = tiles.scanner(columns=[], filter=present, fragments=new, with_row_id=True)
    return np.append(seen, scanner.to_table()["_rowid"].to_numpy().astype(np.int64))


def unit_vectors(stored: pa.FixedSizeListArray | pa.ChunkedArray) -> NDArray[np.float32]:
    """(N, D) float32 of unit length from stored vectors, none of them null; zeros stay zeros."""
    if isinstance(stored, pa.ChunkedArray):
        stored = stored.combine_chunks()
    return unit(stored.flatten().to_numpy().reshape(-1, stored.type.list_size))


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """(N, D) float32 rows of unit length; zeros stay zeros."""
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = rows / np.maximum(lengths, _TINY)
    return units
