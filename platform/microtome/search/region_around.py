"""The stored tiles around spots of slides, to be asked quickly which of them lies where.

Vectors are compared with the query's as they are read, and forgotten: of each tile only its cosines
with the query's points are held, and of as many tiles at once as `AT_ONCE` says, or of one slide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.sql import quoted
from microtome.atlas.vector_index import unit_vectors
from microtome.config import GridSettings
from microtome.search import patience
from microtome.search.exact import BLOCK_BYTES, READ_AHEAD_BYTES
from microtome.search.filters import all_of
from microtome.search.region_placement import Floats

AT_ONCE: Final = 1 << 16
"""Tiles whose cosines are held at once: 100 MB with 384 points; of one slide, all in its boxes."""

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
    """Stored tiles of one slide that have a vector, within boxes.

    Attributes:
        slide_id: the slide.
        row_ids: (N,) int64.
        stride_px: of the grid.
        tile_px: of the grid.
        numbers: (rows, columns) int32, the tile at a place of the grid, -1 where there is none.
        first: (2,) column and row of the grid's place at `numbers[0, 0]`.
    """

    slide_id: str
    row_ids: NDArray[np.int64]
    stride_px: int
    tile_px: int
    numbers: NDArray[np.int32]
    first: NDArray[np.int64]

    def nearest(self, points: Floats) -> tuple[NDArray[np.int32], Floats]:
        """The grid's place whose middle is nearest to points (…, 2) in grid px.

        Returns:
            The tile there, (…), or -1, and the distance from its middle in each direction,
            (…, 2), px.
        """
        place = (points - self.tile_px / 2) / self.stride_px
        cell = np.rint(place).astype(np.int64)
        distance = np.abs(place - cell) * self.stride_px
        return self.at(cell), distance

    def at(self, cells: NDArray[np.int64]) -> NDArray[np.int32]:
        """The tiles at columns and rows (…, 2) of the grid, -1 where there is none."""
        column, row = np.moveaxis(cells - self.first, -1, 0)
        rows, columns = self.numbers.shape
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        number = self.numbers[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return np.where(inside, number, np.int32(-1))


@dataclass(frozen=True, slots=True)
class Compared:
    """Tiles of a slide, and how alike the query's vectors are to each.

    Attributes:
        boxes: in which they lie.
        around: the tiles.
        cosines: (N, Q) float32, of each with each vector.
    """

    boxes: tuple[Box, ...]
    around: Around
    cosines: Vectors


@dataclass(frozen=True, slots=True)
class Stored:
    """Where tiles are read.

    Attributes:
        tiles: the Lance dataset.
        column: its vector column.
        grid: of the atlas.
        where: Lance filter that they pass, or None.
    """

    tiles: Any
    column: str
    grid: GridSettings
    where: str | None

    def compared(self, boxes: Sequence[Box], vectors: Vectors) -> Iterator[Compared]:
        """Compare the tiles in boxes with vectors (Q, D) of unit length, slide by slide.

        As many slides are read in one go as hold no more than `AT_ONCE` tiles.
        """
        for group in self._groups(boxes):
            yield from self._read(group, vectors)

    def vectors(self, row_ids: NDArray[np.int64]) -> Vectors:
        """(N, D) float32 of unit length, of a few tiles."""
        wanted, places = np.unique(row_ids, return_inverse=True)
        rows = self.tiles._take_rows(wanted.tolist(), columns=[self.column, "_rowid"])
        return unit_vectors(rows.sort_by("_rowid")[self.column])[places]

    def _groups(self, boxes: Sequence[Box]) -> Iterator[list[Box]]:
        group: list[Box] = []
        count = 0
        for slide_id in dict.fromkeys(box.slide_id for box in boxes):
            mine = [box for box in boxes if box.slide_id == slide_id]
            more = sum(most_tiles(box.reach_px, self.grid.stride_px) for box in mine)
            if group and count + more > AT_ONCE:
                yield group
                group, count = [], 0
            group, count = group + mine, count + more
        if group:
            yield group

    def _read(self, boxes: Sequence[Box], vectors: Vectors) -> Iterator[Compared]:
        found = defaultdict(list)
        for block in self._scanner(boxes, vectors).to_batches():
            patience.check()
            names = np.array(block["slide_id"].to_pylist(), object)
            row_ids = block["_rowid"].to_numpy().astype(np.int64)
            corners = np.column_stack([block["x"].to_numpy(), block["y"].to_numpy()])
            cosines = unit_vectors(block[self.column]) @ vectors.T
            for slide_id in np.unique(names).tolist():
                mine = names == slide_id
                found[slide_id].append((row_ids[mine], corners[mine], cosines[mine]))
        for slide_id in list(found):
            parts = zip(*found.pop(slide_id), strict=True)
            row_ids, corners, cosines = (np.concatenate(part) for part in parts)
            inside = tuple(box for box in boxes if box.slide_id == slide_id)
            cells = np.rint(corners / inside[0].factor / self.grid.stride_px).astype(np.int64)
            yield Compared(inside, tiles_around(slide_id, self.grid, row_ids, cells), cosines)

    def _scanner(self, boxes: Sequence[Box], vectors: Vectors) -> Any:
        anywhere = " OR ".join(f"({_condition(box)})" for box in boxes)
        return self.tiles.scanner(
            columns=["slide_id", "x", "y", self.column],
            filter=all_of(self.where or "", f"{self.column} IS NOT NULL", anywhere),
            with_row_id=True,
            batch_size=max(1, BLOCK_BYTES // (4 * max(vectors.shape))),
            io_buffer_size=READ_AHEAD_BYTES,
        )


def most_tiles(reach_px: float, stride_px: int) -> int:
    """How many tiles of a grid can begin in a box of such a reach."""
    return int(2 * reach_px // stride_px + 1) ** 2


def tiles_around(
    slide_id: str, grid: GridSettings, row_ids: NDArray[np.int64], cells: NDArray[np.int64]
) -> Around:
    """The tiles of a slide, one at least, at columns and rows (N, 2) of its grid."""
    first, last = cells.min(axis=0), cells.max(axis=0)
    numbers = np.full((last - first + 1)[::-1], -1, np.int32)
    numbers[tuple((cells - first).T[::-1])] = np.arange(len(cells))
    return Around(slide_id, row_ids, grid.stride_px, grid.tile_px, numbers, first)


def _condition(box: Box) -> str:
    middle = np.array([box.x, box.y])
    ends = np.stack([middle - box.reach_px, middle + box.reach_px]) * box.factor
    (left, top), (right, bottom) = np.rint(ends).astype(np.int64).tolist()
    return (
        f"slide_id = {quoted(box.slide_id)} AND x >= {left} AND x <= {right} "
        f"AND y >= {top} AND y <= {bottom}"
    )
