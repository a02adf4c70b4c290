"""Which rows pass a filter, as bits; kept for the filters that come again.

A filter costs a scan of its columns, or a look into their scalar indices, once per version of the
table. A tile's own slide or case, which is another one with each query, is looked up and taken
away, which with a scalar index on the column costs little even the first time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.vector_index import bits_of
from microtome.search.filters import Exclusion
from microtome.search.keeping import Kept

KEPT_BYTES: Final = 256 << 20  # a filter takes one bit per row

Bits = NDArray[np.uint8]
"""One bit per row id, lowest first; those after the end are 0."""


class Passing:
    """Rows that pass filters; safe to ask from many threads."""

    def __init__(self) -> None:
        self._kept = Kept[Bits](KEPT_BYTES, lambda bits: bits.nbytes)

    def among(self, tiles: Any, rows: Bits, where: str | None, exclusion: Exclusion | None) -> Bits:
        """Those of some rows that pass a filter and aren't excluded."""
        if where is not None:
            rows = both(rows, self._rows(tiles, where))
        if exclusion is not None:
            rows = without(rows, self._rows(tiles, exclusion.own))
        return rows

    def _rows(self, tiles: Any, condition: str) -> Bits:
        def found() -> Bits:
            rows = tiles.scanner(columns=[], filter=condition, with_row_id=True).to_table()
            return bits_of(rows["_rowid"].to_numpy())

        return self._kept.of((tiles.version, condition), found)


def both(left: Bits, right: Bits) -> Bits:
    """Rows that are in both."""
    shorter = min(len(left), len(right))
    return left[:shorter] & right[:shorter]


def without(rows: Bits, taken: Bits) -> Bits:
    """Rows that are not taken away."""
    left = rows.copy()
    shorter = min(len(rows), len(taken))
    left[:shorter] &= ~taken[:shorter]
    return left


def count(rows: Bits) -> int:
    """How many rows there are."""
    return int(np.bitwise_count(rows).sum())
