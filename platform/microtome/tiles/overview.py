"""The whole slide as one small picture, in bounded memory whatever the slide's size.

Read block by block from the coarsest level that still serves, each block averaged down by a whole
number, so a slide of a single level costs time but no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from microtome.slides.slide import Level, Pixels, Slide, SlideReader

MAX_OVERVIEW_PX = 12_000_000
"""A 100,000² px slide at 0.25 µm/px makes 9.8 million pixels of 8 µm."""

BLOCK_PX = 2048
"""Side of a block as it is read: 12 MB, several file tiles wide."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A slide, shrunk.

    Attributes:
        pixels: (h, w, 3) uint8, RGB; pixel (0, 0) starts at the slide's corner.
        downsample: level-0 pixels per pixel, ≥ 1, the same in x and y.
    """

    pixels: Pixels
    downsample: float


@dataclass(frozen=True, slots=True)
class _Reduction:
    """A level to read, and how many of its pixels a side become one."""

    level: int
    factor: int

    def downsample(self, slide: Slide) -> float:
        return slide.levels[self.level].downsample * self.factor

    def size_px(self, slide: Slide) -> tuple[int, int]:
        """Width and height of the picture; the last row and column may be part pixels."""
        level = slide.levels[self.level]
        return math.ceil(level.width_px / self.factor), math.ceil(level.height_px / self.factor)


def level_for(slide: Slide, downsample: float, *, tolerance: float = 0.02) -> int:
    """The coarsest level no coarser than `downsample`, give or take `tolerance`; at least 0."""
    fits = [
        i
        for i, level in enumerate(slide.levels)
        if level.downsample <= downsample * (1 + tolerance)
    ]
    return max(fits, key=lambda i: slide.levels[i].downsample, default=0)


def read_overview(reader: SlideReader, mpp: float, max_px: int = MAX_OVERVIEW_PX) -> Overview:
    """Read the whole slide at about `mpp`.

    The resolution is the nearest that a level and a whole-number average give (within a third of
    `mpp`, unless the slide itself is coarser), or what `max_px` pixels allow.

    Raises:
        TileReadFailed: a block can't be decoded.
    """
    slide = reader.slide
    reduction = _reduction_for(slide, mpp / slide.mpp, max_px)
    width, height = reduction.size_px(slide)
    pixels = np.empty((height, width, 3), np.uint8)
    for column, row, block in _blocks(reader, reduction):
        pixels[row : row + block.shape[0], column : column + block.shape[1]] = block
    return Overview(pixels, reduction.downsample(slide))


def _reduction_for(slide: Slide, downsample: float, max_px: int) -> _Reduction:
    level = level_for(slide, downsample)
    factor = max(1, round(downsample / slide.levels[level].downsample))
    while math.prod(_Reduction(level, factor).size_px(slide)) > max_px:
        factor += 1
    return _Reduction(level, factor)


def _blocks(reader: SlideReader, reduction: _Reduction) -> Iterator[tuple[int, int, Pixels]]:
    """Every block, averaged down, with its column and row in the overview."""
    level = reader.slide.levels[reduction.level]
    step = max(1, BLOCK_PX // reduction.factor) * reduction.factor
    for top in range(0, level.height_px, step):
        for left in range(0, level.width_px, step):
            block = reader.read_region(
                round(left * level.downsample),
                round(top * level.downsample),
                reduction.level,
                *_inside(level, left, top, step),
            )
            small = _average(block, reduction.factor)
            yield left // reduction.factor, top // reduction.factor, small


def _inside(level: Level, left: int, top: int, step: int) -> tuple[int, int]:
    return min(step, level.width_px - left), min(step, level.height_px - top)


def _average(block: Pixels, factor: int) -> Pixels:
    """Mean of each factor × factor square; a part square at the edge is filled with its own rim."""
    if factor == 1:
        return block
    height, width = block.shape[:2]
    whole = cv2.copyMakeBorder(block, 0, -height % factor, 0, -width % factor, cv2.BORDER_REPLICATE)
    size = whole.shape[1] // factor, whole.shape[0] // factor
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
