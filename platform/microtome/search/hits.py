"""From rows of the table to hits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, time
from typing import Any

import pyarrow as pa

from microtome.atlas.schema import TILES
from microtome.search.result import Hit

_OF_A_HIT = tuple(name for name in TILES.names if name != "run_id")


def read_hits(tiles: Any, row_ids: Sequence[int], scores: Sequence[float]) -> tuple[Hit, ...]:
    """The tiles of these rows of the Lance dataset, which must be there, in the order given."""
    further = [
        field.name
        for field in tiles.schema
        if field.name not in TILES.names and not pa.types.is_fixed_size_list(field.type)
    ]
    rows = tiles._take_rows(list(row_ids), columns=[*_OF_A_HIT, *further]).to_pylist()
    return tuple(
        Hit(
            **{name: plain(row[name]) for name in _OF_A_HIT},
            score=score,
            metadata={name: plain(row[name]) for name in further},
        )
        for row, score in zip(rows, scores, strict=True)
    )


def plain(value: Any) -> Any:
    """A value of a table as JSON takes it: dates as ISO 8601 text, NaN and infinity as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date | time) else value
