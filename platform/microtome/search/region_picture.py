"""The query's pixels, to be looked at from any side.

A picture is held as it is, mirrored at its edges where more is asked for. A drawn region is read
with what lies around it: as a whole where it is small enough, else window by window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from microtome.search.picture import resized
from microtome.search.region_placement import Floats, Placement
from microtome.slides.slide import Pixels, SlideReader
from microtome.tiles.reading import Scale, scale_for

SHOWN_PX: Final = 480
"""Longer side of a region's picture in a gallery."""


class Canvas(Protocol):
    """Pixels at the atlas's mpp."""

    def window(self, left: int, top: int, side_px: int) -> Pixels:
        """The square whose corner is given, (side_px, side_px, 3) uint8, wherever it lies."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A picture in memory.

    Attributes:
        pixels: (H, W, 3) uint8.
        left: of the picture's corner.
        top: of the picture's corner.
    """

    pixels: Pixels
    left: int = 0
    top: int = 0

    def window(self, left: int, top: int, side_px: int) -> Pixels:
        """See `Canvas`; mirrored at the edges."""
        rows = _mirrored(np.arange(side_px) + top - self.top, self.pixels.shape[0])
        columns = _mirrored(np.arange(side_px) + left - self.left, self.pixels.shape[1])
        return self.pixels[rows[:, None], columns]


@dataclass(frozen=True, slots=True)
class OnSlide:
    """A slide that is read window by window.

    Attributes:
        reader: the open slide.
        scale: at which it is decoded.
        factor: level-0 px per px of the canvas.
    """

    reader: SlideReader
    scale: Scale
    factor: float

    def window(self, left: int, top: int, side_px: int) -> Pixels:
        """See `Canvas`; white outside of the slide."""
        return self.read(left, top, side_px, side_px)

    def read(self, left: int, top: int, width_px: int, height_px: int) -> Pixels:
        """A rectangle, (height_px, width_px, 3)."""
        x, y = round(left * self.factor), round(top * self.factor)
        shrink = self.factor / self.scale.downsample
        size = max(1, round(width_px * shrink)), max(1, round(height_px * shrink))
        return resized(self.scale.read(self.reader, x, y, *size), width_px, height_px)


def _mirrored(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    folded = places % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def tile_of(canvas: Canvas, centre: Floats, turn: Floats, tile_px: int) -> Pixels:
    """The tile that a slide would show if the canvas lay on it with such a turn.

    Args:
        canvas: the query's pixels.
        centre: (2,) the point of the canvas on which the tile's middle lies, not rounded.
        turn: (2, 2) from the canvas's directions to the slide's, see `region_placement.turns`.
        tile_px: side of the tile.

    Returns:
        (tile_px, tile_px, 3) uint8, interpolated linearly; at a whole place and a quarter turn
        the very pixels.
    """
    return _turned(canvas, centre, turn.T, (tile_px, tile_px))  # orthogonal: its own inverse


def shown(reader: SlideReader, factor: float, outline: Any, placement: Placement) -> Pixels:
    """A region's picture, turned and mirrored back to how the query lies.

    Args:
        reader: the slide.
        factor: level-0 px per grid px.
        outline: polygon in the query's frame.
        placement: of the query on the slide.

    Returns:
        (h, w, 3) uint8, its longer side at most `SHOWN_PX`; paler beyond the outline.
    """
    left, top, right, bottom = outline.bounds
    zoom = zoom_of(right - left, bottom - top)
    size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
    canvas = OnSlide(reader, scale_for(reader.slide, factor / zoom), factor / zoom)
    middle = placement.on_slide(np.array([[left + right, top + bottom]]) / 2)[0]
    picture = _turned(canvas, middle * zoom, placement.turn, size)
    corners = (shapely.get_coordinates(outline) - (left, top)) * zoom
    inside = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(inside, [np.rint(corners).astype(np.int32)], 1)
    paler = picture // 2 + np.uint8(128)
    return np.where(inside[..., None] > 0, picture, paler)


def zoom_of(width: float, height: float) -> float:
    """Px of a region's picture per grid px, at most 1."""
    return min(1.0, SHOWN_PX / max(width, height))


def _turned(canvas: Canvas, centre: Floats, back: Floats, size: tuple[int, int]) -> Pixels:
    """A picture of such a width and height, whose directions `back` maps to the canvas's."""
    half = np.array(size) / 2
    reach = math.ceil(float(np.hypot(*half))) + 1
    left, top = np.floor(centre).astype(int).tolist()
    left, top = left - reach, top - reach
    window = canvas.window(left, top, 2 * reach)
    # Pixel i covers [i, i + 1): its middle lies at i + ½, in the picture as in the window.
    at_zero = centre - (left, top) - 0.5 + back @ (0.5 - half)
    matrix = np.column_stack([back, at_zero])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(window, matrix, size, flags=how), np.uint8)
