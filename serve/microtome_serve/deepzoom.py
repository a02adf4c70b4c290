"""A slide as a Deep Zoom image, the form that OpenSeadragon and most viewers ask for.

Level `last_level` is the slide as scanned; each level below has half the width and height of the
one above, rounded up, down to one pixel at level 0. A level is cut into tiles of `TILE_PX` that
share `OVERLAP_PX` with each neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np

from microtome.slides.slide import Pixels, SlideReader
from microtome.tiles.reading import scale_for

TILE_PX: Final = 254
OVERLAP_PX: Final = 1  # an inner tile is 256 px a side, which viewers draw quickest

MOST_READ_PX: Final = 4096 * 4096
"""Pixels that are decoded for one tile, 50 MB; all of a slide without coarse levels is too much."""


@dataclass(frozen=True, slots=True)
class TileAddress:
    """Which tile: `deepzoom_files/{level}/{column}_{row}` of a viewer."""

    level: int
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of one Deep Zoom level, in pixels of that level."""

    x: int
    y: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class DeepZoom:
    """The levels and tiles of one slide.

    Attributes:
        width_px: of the slide, level 0 of its own pyramid.
        height_px: the same.
    """

    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 1:
            raise ValueError(f"no picture has {self.width_px} × {self.height_px} px")

    @property
    def last_level(self) -> int:
        """The level of the slide as scanned: ⌈log₂ of its longer side⌉."""
        return (max(self.width_px, self.height_px) - 1).bit_length()

    def downsample(self, level: int) -> int:
        """Slide pixels per pixel of a level, a power of two."""
        return 1 << (self.last_level - level)

    def size_px(self, level: int) -> tuple[int, int]:
        """Width and height of a level."""
        shrink = self.downsample(level)
        return -(-self.width_px // shrink), -(-self.height_px // shrink)

    def box(self, tile: TileAddress) -> Box | None:
        """Where a tile lies in its level, its overlap included; None where there is no such."""
        if not 0 <= tile.level <= self.last_level:
            return None
        width, height = self.size_px(tile.level)
        across, down = _span(tile.column, width), _span(tile.row, height)
        return Box(across[0], down[0], across[1], down[1]) if across and down else None

    def descriptor(self, extension: str) -> str:
        """The XML that a viewer loads first.

        Args:
            extension: how the names of its tiles end.
        """
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
            f'TileSize="{TILE_PX}" Overlap="{OVERLAP_PX}" Format={quoteattr(extension)}>'
            f'<Size Width="{self.width_px}" Height="{self.height_px}"/></Image>\n'
        )


def read_box(reader: SlideReader, box: Box, downsample: int) -> Pixels | None:
    """Read a box of a level from the coarsest scale of the slide that is no coarser.

    Args:
        reader: the open slide.
        box: in pixels of the level.
        downsample: of the level.

    Returns:
        (height_px, width_px, 3) uint8 of the box's size; None where more than `MOST_READ_PX` would
        have to be decoded for it.

    Raises:
        TileReadFailed: the pixels there can't be decoded.
    """
    scale = scale_for(reader.slide, downsample)
    width, height = scale.size_px(reader.slide)
    ratio = downsample / scale.downsample
    left, read_width = _scaled(box.x, box.width_px, ratio, width)
    top, read_height = _scaled(box.y, box.height_px, ratio, height)
    if read_width * read_height > MOST_READ_PX:
        return None
    x, y = round(left * scale.downsample), round(top * scale.downsample)
    return resized(scale.read(reader, x, y, read_width, read_height), box.width_px, box.height_px)


def crop(picture: Pixels, box: Box, size_px: tuple[int, int]) -> Pixels:
    """Cut a box of a level of `size_px` out of a small picture of the whole slide, enlarged."""
    height, width = picture.shape[:2]
    left, cut_width = _scaled(box.x, box.width_px, width / size_px[0], width)
    top, cut_height = _scaled(box.y, box.height_px, height / size_px[1], height)
    part = picture[top : top + cut_height, left : left + cut_width]
    return resized(part, box.width_px, box.height_px)


def resized(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    """The picture at another size: averaged by area when it shrinks, else interpolated."""
    if pixels.shape[:2] == (height_px, width_px):
        return pixels
    shrinks = pixels.shape[0] >= height_px and pixels.shape[1] >= width_px
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width_px, height_px), interpolation=how), np.uint8)


def _span(number: int, limit: int) -> tuple[int, int] | None:
    """Start and length of a tile along one axis of a level of `limit` pixels."""
    if not 0 <= number * TILE_PX < limit:
        return None
    start = max(0, number * TILE_PX - OVERLAP_PX)
    end = min(limit, (number + 1) * TILE_PX + OVERLAP_PX)
    return start, end - start


def _scaled(start: int, length: int, ratio: float, limit: int) -> tuple[int, int]:
    """The same span at another scale, kept inside: beyond the rim there is only white."""
    first = min(round(start * ratio), limit - 1)
    return first, max(1, min(round(length * ratio), limit - first))
