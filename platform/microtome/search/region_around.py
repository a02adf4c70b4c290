"""The stored tiles around a spot of a slide, to be asked quickly which of them lies where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.sql import quoted
from microtome.config import GridSettings
from microtome.search.filters import all_of
from microtome.search.region_near import unit_rows
from microtome.search.region_placement import Floats

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A square of a slide.

    Attributes:
        slide_id: the slide.
        x: its middle, grid px.
        y: its middle, grid px.
        reach_px: from the middle to an edge, grid px.
        factor: level-0 px per grid px.
    """

    slide_id: str
    x: float
    y: float
    reach_px: float
    factor: float


@dataclass(frozen=True, slots=True)
class Around:
    """Stored tiles of one slide that have a vector, within a box.

    Attributes:
        box: what was asked for.
        row_ids: (N,) int64.
        vectors: (N, D) float32 of unit length.
        middles: (N, 2) of the tiles, grid px.
        stride_px: of the grid.
        tile_px: of the grid.
        numbers: (rows, columns) the tile at a place of the grid, -1 where there is none.
        first: (2,) column and row of the grid's place at `numbers[0, 0]`.
    """

    box: Box
    row_ids: NDArray[np.int64]
    vectors: Vectors
    middles: Floats
    stride_px: int
    tile_px: int
    numbers: NDArray[np.int64]
    first: NDArray[np.int64]

    def nearest(self, points: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The grid's place whose middle is nearest to points (…, 2) in grid px.

        Returns:
            The tile there, (…), or -1, and the distance from its middle in each direction,
            (…, 2), px.
        """
        place = (points - self.tile_px / 2) / self.stride_px
        cell = np.rint(place).astype(np.int64)
        distance = np.abs(place - cell) * self.stride_px
        return self.at(cell), distance

    def at(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tiles at columns and rows (…, 2) of the grid, -1 where there is none."""
        column, row = np.moveaxis(cells - self.first, -1, 0)
        rows, columns = self.numbers.shape
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        number = self.numbers[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return np.where(inside, number, -1)


def read_around(
    tiles: Any, column: str, grid: GridSettings, boxes: Sequence[Box], where: str | None
) -> list[Around]:
    """The tiles in each box that pass a filter, all read in one go.

    Args:
        tiles: the Lance dataset.
        column: its vector column.
        grid: of the atlas.
        boxes: which.
        where: Lance filter, or None.
    """
    if not boxes:
        return []
    anywhere = " OR ".join(f"({_condition(box)})" for box in boxes)
    found = tiles.to_table(
        columns=["slide_id", "x", "y", column],
        filter=all_of(where or "", f"{column} IS NOT NULL", anywhere),
        with_row_id=True,
    )
    slide_ids = np.array(found["slide_id"].to_pylist(), object)
    corners = np.column_stack([found["x"].to_numpy(), found["y"].to_numpy()]).astype(np.float64)
    vectors = unit_rows(found[column]) if len(found) else np.empty((0, 0), np.float32)
    row_ids = found["_rowid"].to_numpy().astype(np.int64)
    around = []
    for box in boxes:
        low, high = _corners(box)
        mine = (slide_ids == box.slide_id) & (corners >= low).all(1) & (corners <= high).all(1)
        around.append(_laid_out(box, grid, row_ids[mine], vectors[mine], corners[mine]))
    return around


def _condition(box: Box) -> str:
    (left, top), (right, bottom) = _corners(box).tolist()
    return (
        f"slide_id = {quoted(box.slide_id)} AND x >= {left} AND x <= {right} "
        f"AND y >= {top} AND y <= {bottom}"
    )


def _corners(box: Box) -> NDArray[np.int64]:
    """(2, 2) least and greatest x, y that the corner of a tile of the box may have, level-0 px."""
    middle = np.array([box.x, box.y])
    ends = np.stack([middle - box.reach_px, middle + box.reach_px])
    return np.rint(ends * box.factor).astype(np.int64)


def _laid_out(
    box: Box,
    grid: GridSettings,
    row_ids: NDArray[np.int64],
    vectors: Vectors,
    corners: Floats,
) -> Around:
    at = corners / box.factor
    cells = np.rint(at / grid.stride_px).astype(np.int64)
    first, last = (cells.min(axis=0), cells.max(axis=0)) if len(cells) else (np.zeros(2, int),) * 2
    numbers = np.full((last - first + 1)[::-1], -1)
    numbers[tuple((cells - first).T[::-1])] = np.arange(len(cells))
    middles = at + grid.tile_px / 2
    return Around(box, row_ids, vectors, middles, grid.stride_px, grid.tile_px, numbers, first)
