"""Stored tiles in full rows and columns, without any slide."""

from __future__ import annotations

import numpy as np

from microtome.config import GridSettings
from microtome.search.region_around import Around, tiles_around

TILE_PX = 224


def tiles_of(columns: int, rows: int, stride_px: int = TILE_PX) -> Around:
    """The tiles of such a grid, from the slide's corner on, numbered row by row."""
    grid = GridSettings(mpp=0.5, tile_px=TILE_PX, stride_px=stride_px)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    cells = np.column_stack([column.ravel(), row.ravel()])
    return tiles_around("a", grid, np.arange(len(cells)), cells)
