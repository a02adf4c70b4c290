"""The whole slide as one small picture, in bounded memory whatever the slide's size.

Read block by block at the coarsest scale that still serves, each block averaged down by a whole
number, so a slide of a single level costs time but no memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from microtome.slides.slide import Pixels, Slide, SlideReader
from microtome.tiles.reading import Rectangle, Scale, scale_for

MAX_OVERVIEW_PX: Final = 12_000_000
"""A 100,000² px slide at 0.25 µm/px makes 9.8 million pixels of 8 µm."""

BLOCK_PX: Final = 2048
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


def read_overview(reader: SlideReader, mpp: float, max_px: int = MAX_OVERVIEW_PX) -> Overview:
    """Read the whole slide at about `mpp`.

    The resolution is the nearest that a scale and a whole-number average give (within a third of
    `mpp`, unless the slide itself is coarser), or what `max_px` pixels allow.

    Raises:
        TileReadFailed: a block can't be decoded.
    """
    slide = reader.slide
    scale = scale_for(slide, mpp / slide.mpp)
    factor = _factor(slide, scale, mpp / slide.mpp, max_px)
    width, height = _shrunk(scale.size_px(slide), factor)
    pixels = np.empty((height, width, 3), np.uint8)
    for column, row, block in _blocks(reader, scale, factor):
        pixels[row : row + block.shape[0], column : column + block.shape[1]] = block
    return Overview(pixels, scale.downsample * factor)


def _factor(slide: Slide, scale: Scale, downsample: float, max_px: int) -> int:
    """How many pixels a side of `scale` become one."""
    factor = max(1, round(downsample / scale.downsample))
    while math.prod(_shrunk(scale.size_px(slide), factor)) > max_px:
        factor += 1
    return factor


def _shrunk(size_px: tuple[int, int], factor: int) -> tuple[int, int]:
    """Width and height after averaging; the last column and row may stand for fewer pixels."""
    return math.ceil(size_px[0] / factor), math.ceil(size_px[1] / factor)


def _blocks(reader: SlideReader, scale: Scale, factor: int) -> Iterator[tuple[int, int, Pixels]]:
    """Every block, averaged down, with its column and row in the overview."""
    width, height = scale.size_px(reader.slide)
    step = max(1, BLOCK_PX // factor) * factor
    corners = list(itertools.product(range(0, height, step), range(0, width, step)))
    blocks: list[Rectangle] = [
        (
            round(left * scale.downsample),
            round(top * scale.downsample),
            min(step, width - left),
            min(step, height - top),
        )
        for top, left in corners
    ]
    scale.announce(reader, blocks)
    for (top, left), block in zip(corners, blocks, strict=True):
        yield left // factor, top // factor, _average(scale.read(reader, *block), factor)


def _average(block: Pixels, factor: int) -> Pixels:
    """Mean of each factor × factor square; a part square at the edge is filled with its own rim."""
    if factor == 1:
        return block
    height, width = block.shape[:2]
    whole = cv2.copyMakeBorder(block, 0, -height % factor, 0, -width % factor, cv2.BORDER_REPLICATE)
    size = whole.shape[1] // factor, whole.shape[0] // factor
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
