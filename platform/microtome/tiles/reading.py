"""From which level a tile is read, and how it comes to the wanted resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from microtome.config import GridSettings
from microtome.errors import SlideTooCoarse
from microtome.slides.slide import Pixels, Slide, SlideReader
from microtome.tiles.overview import level_for

MOST_ENLARGED: Final = 1.25
"""A 0.5 µm tile may come from a slide of 0.625 µm; beyond that its detail would be invented."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How every tile of one slide is read.

    Attributes:
        level: index into `slide.levels`.
        read_px: side of the square to read, that level's pixels.
        tile_px: side of the tile it becomes.
    """

    level: int
    read_px: int
    tile_px: int

    def __post_init__(self) -> None:
        if self.level < 0 or self.read_px < 1 or self.tile_px < 1:
            raise ValueError(f"not a way to read tiles: {self}")

    @classmethod
    def of(cls, slide: Slide, grid: GridSettings) -> ReadPlan:
        """Plan from the coarsest level that is no coarser than wanted, give or take 2 %.

        Raises:
            SlideTooCoarse: even level 0 would have to be enlarged more than 1.25 times.
        """
        if slide.mpp > grid.mpp * MOST_ENLARGED:
            raise SlideTooCoarse(
                f"{slide.slide_id} has {slide.mpp:.3g} µm per pixel, too coarse for tiles of "
                f"{grid.mpp:g}",
                remedy=f"Index it in an atlas of --mpp {slide.mpp:.3g} or more.",
            )
        wanted = grid.mpp / slide.mpp
        level = level_for(slide, wanted)
        read_px = max(1, round(grid.tile_px * wanted / slide.levels[level].downsample))
        return cls(level, read_px, grid.tile_px)


def read_tile(reader: SlideReader, plan: ReadPlan, x: int, y: int) -> Pixels:
    """Read the tile whose corner lies at level-0 pixel (x, y).

    Returns:
        (tile_px, tile_px, 3) uint8: averaged by area when it shrinks, interpolated linearly when
        it grows, untouched when the level has just the wanted resolution.

    Raises:
        TileReadFailed: the pixels there can't be decoded.
    """
    pixels = reader.read_region(x, y, plan.level, plan.read_px, plan.read_px)
    if plan.read_px == plan.tile_px:
        return pixels
    how = cv2.INTER_AREA if plan.read_px > plan.tile_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (plan.tile_px, plan.tile_px), interpolation=how), np.uint8)
