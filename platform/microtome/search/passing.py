"""Which rows pass a filter, as bits; kept for the filters that come again.

A filter costs a scan of its columns, or a look into their scalar indices, once per version of the
table. A tile's own slide or case, which is another one with each query, is looked up and taken
away, which with a scalar index on the column costs little even the first time.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.vector_index import bits_of
from microtome.search.filters import Exclusion

KEPT: Final = 64  # filters, of one bit per row each

Bits = NDArray[np.uint8]
"""One bit per row id, lowest first; those after the end are 0."""


class Passing:
    """Rows that pass filters; safe to ask from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str], Bits] = OrderedDict()
        self._lock = Lock()

    def among(self, tiles: Any, rows: Bits, where: str | None, exclusion: Exclusion | None) -> Bits:
        """Those of some rows that pass a filter and aren't excluded."""
        if where is not None:
            rows = both(rows, self._rows(tiles, where))
        if exclusion is not None:
            rows = without(rows, self._rows(tiles, exclusion.own))
        return rows

    def _rows(self, tiles: Any, condition: str) -> Bits:
        key = (tiles.version, condition)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = tiles.scanner(columns=[], filter=condition, with_row_id=True).to_table()
        bits = bits_of(found["_rowid"].to_numpy())
        with self._lock:
            self._kept[key] = bits
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return bits


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
