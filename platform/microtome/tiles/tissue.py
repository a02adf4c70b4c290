"""Where on a slide there is stained tissue, seen at about 8 µm per pixel.

1. Optical density of the darkest channel, relative to the slide's own glass.
2. Otsu's threshold on it (Otsu 1979), held between two absolute bounds: on blank glass Otsu would
   find noise, and in a picture full of tissue it would part nuclei from stroma.
3. Ink taken out: its hues are none that haematoxylin, eosin or DAB have; so are strokes too dark
   to be tissue.
4. Gaps closed, holes filled and threads and specks dropped, up to sizes in µm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.errors import NotBrightfield
from microtome.slides.slide import Pixels, SlideReader
from microtome.tiles.overview import read_overview

MASK_MPP: Final = 8.0

Mask = NDArray[np.bool_]

OD_LEAST: Final = 0.05
"""Glass, its dust and a coverslip's shade stay below: 11 % of the light is absorbed."""
OD_MOST: Final = 0.08
"""Pale collagen and fat stay above: 17 % of the light is absorbed."""

GAP_UM: Final = 64.0
"""Gaps within tissue that are closed, e.g. tears and the lumen of one fat cell."""
HOLE_UM2: Final = 50_000.0
"""Holes that are filled: a vessel or an alveolus of 250 µm belongs to its tissue."""
THREAD_UM: Final = 40.0
"""Lines thinner than this are dropped: fibres, scratches, a coverslip's edge."""
SPECK_UM2: Final = 10_000.0
"""Pieces smaller than this are dropped: less than a tile of 112 µm holds."""
RIM_UM: Final = 150.0
"""How far ink runs out around a stroke."""


@dataclass(frozen=True, slots=True)
class _Ink:
    """A pen's colour: hues in degrees from `start` on to `stop`, at least so saturated."""

    start: float
    stop: float
    saturation: float


INKS: Final = (
    _Ink(70, 195, 0.15),  # green; no stain of H&E or DAB is green, however pale
    _Ink(195, 232, 0.35),  # blue; haematoxylin alone reaches 203° too, but below 0.30
    _Ink(343, 12, 0.62),  # red; eosin and blood stay below 0.60
)
BLACK_INK: Final = 60
"""Brightest channel below this: no tissue is so dark when averaged over 8 µm."""


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Which places of a slide are tissue.

    Attributes:
        mask: (h, w) bool; pixel (0, 0) starts at the slide's corner.
        downsample_x: level-0 pixels per mask pixel, across.
        downsample_y: level-0 pixels per mask pixel, down.
    """

    mask: Mask
    downsample_x: float
    downsample_y: float

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_ or not self.mask.size:
            raise ValueError(f"mask must be (h, w) bool, not {self.mask.shape} {self.mask.dtype}")
        if not (self.downsample_x > 0 and self.downsample_y > 0):
            raise ValueError(f"no such downsample: {self.downsample_x}, {self.downsample_y}")

    def fraction(self, corners: NDArray[np.int64], size_px: int) -> NDArray[np.float32]:
        """The fraction of each square that is tissue; what leaves the mask is none.

        Exact to parts of a mask pixel: the integral of a piecewise constant picture is bilinear
        between the points of its summed-area table (Crow 1984).

        Args:
            corners: (N, 2) x and y of the upper left corners, level-0 pixels.
            size_px: side of the squares, level-0 pixels.

        Returns:
            (N,) float32 in [0, 1].
        """
        table = np.asarray(cv2.integral(self.mask.astype(np.uint8)), np.float64)
        left, top = corners[:, 0] / self.downsample_x, corners[:, 1] / self.downsample_y
        right = (corners[:, 0] + size_px) / self.downsample_x
        bottom = (corners[:, 1] + size_px) / self.downsample_y
        within_right = _bilinear(table, right, bottom) - _bilinear(table, right, top)
        within_left = _bilinear(table, left, bottom) - _bilinear(table, left, top)
        area = size_px**2 / (self.downsample_x * self.downsample_y)
        return np.clip((within_right - within_left) / area, 0, 1).astype(np.float32)

    def area_mm2(self, mpp: float) -> float:
        """Area of the tissue, for a slide of `mpp` µm per level-0 pixel."""
        pixel_um2 = self.downsample_x * self.downsample_y * mpp**2
        return int(np.count_nonzero(self.mask)) * pixel_um2 / 1e6


def find_tissue(reader: SlideReader) -> TissueMask:
    """Find the stained tissue of a brightfield slide.

    Raises:
        NotBrightfield: the picture is dark, see `check_brightfield`.
        TileReadFailed: the slide can't be decoded somewhere.
    """
    overview = read_overview(reader, MASK_MPP)
    check_brightfield(overview.pixels, reader.slide.slide_id)
    mask = tissue_in(overview.pixels, overview.downsample * reader.slide.mpp)
    return TissueMask(mask, overview.downsample, overview.downsample)


def check_brightfield(pixels: Pixels, slide_id: str) -> None:
    """Refuse a picture that no light came through.

    In brightfield the lamp shines through glass and tissue alike, so half the picture is brighter
    than luma 50 of 255 (dense lymphoid tissue has about 90), even if tissue fills it. Where a
    scanner fills unscanned places with black, at least 2 % of the rest is white glass. Neither
    holds in fluorescence: its glass is black.

    Raises:
        NotBrightfield: neither holds.
    """
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if np.median(luma) >= 50 or np.mean(_darkest(pixels) >= 180) >= 0.02:
        return
    raise NotBrightfield(
        f"{slide_id} is dark (median brightness {np.median(luma):.0f} of 255, no white glass), "
        "so it is no brightfield scan; fluorescence, most likely",
        remedy="Leave it out: Microtome finds stained tissue in transmitted light only.",
    )


def tissue_in(pixels: Pixels, mpp: float) -> Mask:
    """Tissue in a picture of about 8 µm per pixel.

    Args:
        pixels: (h, w, 3) uint8, RGB.
        mpp: µm per pixel of the picture.

    Returns:
        (h, w) bool.
    """
    ink = _ink(pixels, mpp)
    closed = _shaped(cv2.MORPH_CLOSE, _stained(pixels) & ~ink, GAP_UM / mpp)
    filled = ~_without_pieces(~closed, HOLE_UM2 / mpp**2, but_at_edge=True)
    opened = _shaped(cv2.MORPH_OPEN, filled, THREAD_UM / mpp)
    return _without_pieces(opened & ~ink, SPECK_UM2 / mpp**2)


def _darkest(pixels: Pixels) -> Pixels:
    """(h, w) uint8, the least of R, G and B."""
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)


def _stained(pixels: Pixels) -> Mask:
    """Pixels whose darkest channel absorbs more light than glass does, inks included."""
    darkest = _darkest(pixels)
    # Density in steps of 1/255, so that one byte holds 0 to 1 and Otsu sees 256 bins.
    levels = np.maximum(np.arange(256), 1)
    density = np.clip(-np.log10(levels / _glass(pixels, darkest)), 0, 1)
    steps = np.rint(density * 255).astype(np.uint8)[darkest]
    otsu, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = np.clip(otsu / 255, OD_LEAST, OD_MOST) * 255
    return np.asarray(steps > threshold)


def _glass(pixels: Pixels, darkest: Pixels) -> float:
    """Brightness of the glass: the median of bright grey pixels, else what scanners usually give.

    Pure white is left out: it fills places that were not scanned.
    """
    red, green, blue = cv2.split(pixels)
    chroma = cv2.max(cv2.max(red, green), blue) - darkest
    glass = darkest[(darkest >= 200) & (darkest < 255) & (chroma <= 12)]
    return float(np.median(glass)) if glass.size >= 0.01 * darkest.size else 240.0


def _ink(pixels: Pixels, mpp: float) -> Mask:
    """Pen strokes, and what ran out of them or is blurred around them."""
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    hue, saturation, brightness = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    grey = saturation <= 0.1 * 255  # a hue means nothing there
    found = _stroke_and_rim(brightness < BLACK_INK, grey, mpp)
    for ink in INKS:
        coloured = _between(hue, ink) & ~grey
        strong = coloured & (saturation >= ink.saturation * 255)
        found |= _stroke_and_rim(strong, coloured, mpp)
    return found


def _stroke_and_rim(strong: Mask, alike: Mask, mpp: float) -> Mask:
    """Strokes at least three pixels wide (a red cell is none), and what is like them nearby."""
    stroke = _shaped(cv2.MORPH_OPEN, strong, 3)
    distance_px = cv2.distanceTransform((~stroke).astype(np.uint8), cv2.DIST_L2, 3)
    return stroke | (alike & (distance_px <= RIM_UM / mpp))


def _between(hue: NDArray[np.uint8], ink: _Ink) -> Mask:
    """Whether a hue, of 256 steps a turn, lies between the ink's two."""
    start, stop = ink.start * 256 / 360, ink.stop * 256 / 360
    after, before = hue >= start, hue < stop
    return np.asarray(after & before if start < stop else after | before)


def _shaped(operation: int, mask: Mask, diameter_px: float) -> Mask:
    """Close or open with a disc of the nearest odd number of pixels across."""
    side = 2 * round(max(0.0, diameter_px - 1) / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), operation, disc), np.bool_)


def _without_pieces(mask: Mask, area_px: float, *, but_at_edge: bool = False) -> Mask:
    """Drop connected pieces below an area; at will, never those cut by the picture's edge."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stays = np.asarray(stats[:, cv2.CC_STAT_AREA] >= area_px)
    if but_at_edge:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            stays[edge] = True
    stays[0] = False  # the background
    return np.asarray(stays[labels], np.bool_)


def _bilinear(
    table: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values of a (h + 1, w + 1) table between its points; constant outside."""
    height, width = table.shape[0] - 1, table.shape[1] - 1
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    column = np.minimum(x.astype(np.int64), width - 1)
    row = np.minimum(y.astype(np.int64), height - 1)
    right, down = x - column, y - row
    above = table[row, column] * (1 - right) + table[row, column + 1] * right
    below = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
    return np.asarray(above * (1 - down) + below * down, np.float64)
