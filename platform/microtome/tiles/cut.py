"""From an open slide to batches of tiles: plan once, then cut.

- `plan_tiles` finds the tissue and keeps the grid's tiles that hold enough of it;
- `places_again` reads tiles that were chosen before;
- `cut_tiles` decodes them in threads, a little ahead of whoever embeds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.config import GridSettings, check_fraction, check_whole
from microtome.slides.slide import SlideReader
from microtome.tiles.batch import TileBatch
from microtome.tiles.grid import TileGrid
from microtome.tiles.quality import sharpness
from microtome.tiles.reading import ReadPlan, read_tile
from microtome.tiles.tissue import TissueMask, find_tissue

MIN_TISSUE: Final = 0.5
"""At least half of a tile is tissue: what it shows is then mostly tissue, and where a tile at the
rim has less, its neighbour has more."""

BATCHES_AHEAD: Final = 2

BLOCK_TILES: Final = 16
"""Tiles are read in squares of so many a side: file tiles that neighbours share are then still in
the reader's cache, where a whole row of a wide slide would have pushed them out."""


@dataclass(frozen=True, slots=True)
class TilePlaces:
    """Tiles of one slide that are to be read.

    Attributes:
        corners: (N, 2) int64, x and y of the upper left corners in level-0 pixels, in the
            order they are read: block by block, row by row within a block.
        tissue: (N,) float32 in [0, 1], the fraction of each tile that is tissue.
        size_px: side of a tile in level-0 pixels.
        read: how their pixels are read.
    """

    corners: NDArray[np.int64]
    tissue: NDArray[np.float32]
    size_px: int
    read: ReadPlan

    def __post_init__(self) -> None:
        if self.corners.shape != (len(self.tissue), 2):
            raise ValueError(f"{len(self.tissue)} tiles, but corners {self.corners.shape}")

    def __len__(self) -> int:
        return len(self.tissue)


@dataclass(frozen=True, slots=True)
class TilePlan(TilePlaces):
    """The tiles of one slide that are worth reading.

    Attributes:
        mask: the tissue they were chosen by.
    """

    mask: TissueMask


def plan_tiles(reader: SlideReader, grid: GridSettings, min_tissue: float = MIN_TISSUE) -> TilePlan:
    """Choose the tiles of a slide: those whose fraction of tissue is at least `min_tissue`.

    Raises:
        SettingError: `min_tissue` isn't in [0, 1].
        SlideTooCoarse: the slide's resolution is lower than the grid's.
        NotBrightfield: the slide is dark.
        TileReadFailed: the slide can't be decoded somewhere.
    """
    check_fraction("min_tissue", min_tissue)
    read = ReadPlan.of(reader.slide, grid)
    tiles = TileGrid.of(reader.slide, grid)
    mask = find_tissue(reader)
    corners = tiles.corners()
    corners = corners[_reading_order(corners, tiles.size_px * BLOCK_TILES)]
    tissue = mask.fraction(corners, tiles.size_px)
    enough = tissue >= min_tissue
    return TilePlan(corners[enough], tissue[enough], tiles.size_px, read, mask)


def places_again(
    reader: SlideReader,
    grid: GridSettings,
    corners: NDArray[np.int64],
    tissue: NDArray[np.float32],
) -> TilePlaces:
    """Tiles that `plan_tiles` chose before, in its order, so that their pixels are the same.

    Args:
        reader: the slide, opened as it was then.
        grid: as it was then.
        corners: (N, 2) int64, x and y in level-0 pixels, in any order.
        tissue: (N,) float32, of those tiles.

    Raises:
        SlideTooCoarse: the slide's resolution is lower than the grid's.
    """
    read, size_px = ReadPlan.of(reader.slide, grid), TileGrid.of(reader.slide, grid).size_px
    order = _reading_order(corners, size_px * BLOCK_TILES)
    return TilePlaces(corners[order], tissue[order], size_px, read)


def _reading_order(corners: NDArray[np.int64], block_px: int) -> NDArray[np.int64]:
    x, y = corners[:, 0], corners[:, 1]
    order: NDArray[np.int64] = np.lexsort((x, y, x // block_px, y // block_px))
    return order


def cut_tiles(
    reader: SlideReader, plan: TilePlaces, *, batch_size: int, threads: int
) -> Generator[TileBatch, None, None]:
    """Decode the planned tiles, in their order, `batch_size` at a time.

    Threads decode up to two batches ahead of the consumer (the codecs release the GIL), so memory
    holds three batches whatever the slide's size. Closing the generator early ends the threads
    after the tiles they are at.

    Raises:
        SettingError: `batch_size` or `threads` is below 1.
        TileReadFailed: a tile can't be decoded; the batches before it have been given.
    """
    check_whole("batch_size", batch_size, least=1)
    check_whole("threads", threads, least=1)
    return _cut(reader, plan, batch_size, threads)


def _cut(
    reader: SlideReader, plan: TilePlaces, batch_size: int, threads: int
) -> Generator[TileBatch, None, None]:
    side_px = plan.read.read_px
    plan.read.scale.announce(
        reader, ((*corner.tolist(), side_px, side_px) for corner in plan.corners)
    )
    pool = ThreadPoolExecutor(threads, thread_name_prefix="cut-tiles")
    try:
        starts = range(0, len(plan), batch_size)
        begun = (_begin(pool, reader, plan, slice(start, start + batch_size)) for start in starts)
        ahead = deque(islice(begun, BATCHES_AHEAD))
        while ahead:
            batch, tiles = ahead.popleft()
            for tile in tiles:
                tile.result()
            ahead.extend(islice(begun, 1))  # before the consumer takes its time
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(
    pool: ThreadPoolExecutor, reader: SlideReader, plan: TilePlaces, part: slice
) -> tuple[TileBatch, list[Future[None]]]:
    """Start decoding one batch: its arrays hold what they should once every future is done."""
    corners, side_px = plan.corners[part], plan.read.tile_px
    batch = TileBatch(
        pixels=np.empty((len(corners), side_px, side_px, 3), np.uint8),
        corners=corners,
        tissue=plan.tissue[part],
        sharpness=np.empty(len(corners), np.float32),
    )

    def decode(i: int) -> None:
        x, y = corners[i].tolist()
        batch.pixels[i] = read_tile(reader, plan.read, x, y)
        batch.sharpness[i] = sharpness(batch.pixels[i : i + 1])[0]

    return batch, [pool.submit(decode, i) for i in range(len(corners))]
