"""From which level a tile is read, and how it comes to the wanted resolution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

import cv2
import numpy as np

from microtome.config import GridSettings
from microtome.errors import SlideTooCoarse
from microtome.slides.slide import (
    FetchingReader,
    Pixels,
    ReducingReader,
    Region,
    Slide,
    SlideReader,
)

TOLERANCE: Final = 0.02
"""A resolution this much too coarse is taken for equal: scanners' mpp differ by as much."""

MOST_ENLARGED: Final = 1.25
"""A 0.5 µm tile may come from a slide of 0.625 µm; beyond that its detail would be invented."""


Rectangle = tuple[int, int, int, int]
"""x and y of the corner in level-0 pixels, width and height in pixels of a scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A resolution at which a slide can be read without resampling.

    Attributes:
        level: index into `slide.levels`.
        reduction: by how much the decoder shrinks that level, 1 for not at all.
        downsample: level-0 pixels per pixel so read.
    """

    level: int
    reduction: int
    downsample: float

    def size_px(self, slide: Slide) -> tuple[int, int]:
        """Width and height of the whole slide at this scale, in whole pixels, ≥ 1."""
        level = slide.levels[self.level]
        return max(1, level.width_px // self.reduction), max(1, level.height_px // self.reduction)

    def read(self, reader: SlideReader, x: int, y: int, width_px: int, height_px: int) -> Pixels:
        """Read a rectangle: corner in level-0 pixels, size in pixels of this scale.

        A corner between two pixels of the scale is moved to one of them, so a tile lies up to
        half a pixel of its own beside its place; resampling it back would blur every tile.
        """
        if self.reduction == 1:
            return reader.read_region(x, y, self.level, width_px, height_px)
        reducing = cast("ReducingReader", reader)  # no other reader's levels offer a reduction
        return reducing.read_reduced(
            x, y, self.level, width_px, height_px, reduction=self.reduction
        )

    def announce(self, reader: SlideReader, rectangles: Iterable[Rectangle]) -> None:
        """Tell a reader what `read` will be asked for, in that order, if it wants to know."""
        if isinstance(reader, FetchingReader):
            reader.fetch_ahead(
                Region(x, y, self.level, width_px, height_px, self.reduction)
                for x, y, width_px, height_px in rectangles
            )


def scale_for(slide: Slide, downsample: float) -> Scale:
    """The coarsest scale that is no coarser than `downsample`, else level 0 as it is.

    Of scales that are about as coarse, the one that decodes least: from the smallest level.
    """
    scales = [
        Scale(index, reduction, level.downsample * reduction)
        for index, level in enumerate(slide.levels)
        for reduction in level.reductions
    ]
    fit = [scale for scale in scales if scale.downsample <= downsample * (1 + TOLERANCE)]
    if not fit:
        return Scale(0, 1, slide.levels[0].downsample)
    coarsest = max(scale.downsample for scale in fit)
    alike = (scale for scale in fit if scale.downsample * (1 + TOLERANCE) >= coarsest)
    return min(alike, key=lambda scale: scale.reduction)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How every tile of one slide is read.

    Attributes:
        scale: the resolution that is decoded.
        read_px: side of the square to read, in pixels of that scale.
        tile_px: side of the tile it becomes.
    """

    scale: Scale
    read_px: int
    tile_px: int

    def __post_init__(self) -> None:
        if self.read_px < 1 or self.tile_px < 1:
            raise ValueError(f"no tile of {self.tile_px} px comes from {self.read_px} px")

    @classmethod
    def of(cls, slide: Slide, grid: GridSettings) -> ReadPlan:
        """Plan from the coarsest scale that is no coarser than wanted, give or take 2 %.

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
        scale = scale_for(slide, wanted)
        return cls(scale, max(1, round(grid.tile_px * wanted / scale.downsample)), grid.tile_px)


def read_tile(reader: SlideReader, plan: ReadPlan, x: int, y: int) -> Pixels:
    """Read the tile whose corner lies at level-0 pixel (x, y).

    Returns:
        (tile_px, tile_px, 3) uint8: averaged by area when it shrinks, interpolated linearly when
        it grows, untouched when it is read at just the wanted resolution.

    Raises:
        TileReadFailed: the pixels there can't be decoded.
    """
    pixels = plan.scale.read(reader, x, y, plan.read_px, plan.read_px)
    if plan.read_px == plan.tile_px:
        return pixels
    how = cv2.INTER_AREA if plan.read_px > plan.tile_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (plan.tile_px, plan.tile_px), interpolation=how), np.uint8)
