"""From an image file to RGB pixels, and from pixels of any size to tiles.

open (known formats, one picture, bounded size) → 8 bits → alpha on white → RGB → the atlas's mpp
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microtome.datasets.image import FORMATS, rgb_pixels
from microtome.errors import ImageUnreadable, QueryUnreadable
from microtome.search.query import FORMS, ImageQuery
from microtome.slides.slide import Pixels
from microtome.slides.storage import explained, filesystem_of

MAX_PIXELS: Final = 64_000_000
"""A query holds at most 64 megapixels: 4 mm × 4 mm of tissue at 0.5 µm, 192 MB as RGB."""

MAX_BYTES: Final = 512 << 20
"""More than an uncompressed 16-bit RGB picture of `MAX_PIXELS` takes."""

MAX_TILES: Final = 64
"""A larger query is sampled by this many tiles: about 2.5 tiles a side are covered densely."""

STEPS_PER_TILE: Final = 4
"""Neighbours lie a quarter of a tile apart, so one of them lies within an eighth of any tile of the
atlas in each direction: with whole steps a crop of a slide found its own place in 65–85 % of
trials, with quarter steps in all (20 crops of 448 px)."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def load_image(query: ImageQuery) -> Pixels:
    """Read a picture as a viewer would show it, on white where it is transparent.

    Returns:
        (height, width, 3) uint8 RGB; 16-bit samples are scaled so that 65535 becomes 255.

    Raises:
        QueryUnreadable: no picture, a broken one, several in one file, more than `MAX_PIXELS`,
            or samples without a known white (32-bit).
        SettingError: the URI holds a secret.
    """
    data = query.data if query.data is not None else _read(query.text)
    with _explained(query.text), _opened(data) as image:
        check_size(query.text, *image.size)
        _check_single(query.text, image)
        return rgb_pixels(image, query.text)


def check_header(query: ImageQuery, most_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture by what its first bytes say; nothing is decoded.

    Args:
        query: with its data.
        most_pixels: it may have.

    Raises:
        QueryUnreadable: no picture, several in one file, or more pixels.
    """
    with _explained(query.text), _opened(query.data or b"") as image:
        check_size(query.text, *image.size, most_pixels)
        _check_single(query.text, image)


def resized(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    """Resample: the mean over the area where it shrinks, linear where it grows."""
    if pixels.shape[:2] == (height_px, width_px):
        return pixels
    how = cv2.INTER_AREA if width_px * height_px < pixels.size // 3 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width_px, height_px), interpolation=how), np.uint8)


def check_size(text: str, width_px: int, height_px: int, most_pixels: int = MAX_PIXELS) -> None:
    """Raise `QueryUnreadable` where a query has more than `most_pixels`.

    Asked before anything is decoded: a small file can unfold into any number of pixels.
    """
    if width_px * height_px > most_pixels:
        raise _too_large(text, f"with {width_px} × {height_px} pixels", most_pixels)


def cover(pixels: Pixels, tile_px: int) -> NDArray[np.uint8]:
    """Tiles that stand for a picture of any size.

    A side shorter than a tile is padded on both ends by reflection. Along a longer one tiles begin
    at both ends and evenly between, at most a quarter of a tile apart. Were it more than
    `MAX_TILES` in all, both sides get proportionally fewer, an even sample.

    Returns:
        (N, tile_px, tile_px, 3) uint8, 1 ≤ N ≤ `MAX_TILES`, row by row.
    """
    pixels = _padded(pixels, tile_px)
    height, width = pixels.shape[:2]
    rows, columns = _counts(_dense(height, tile_px), _dense(width, tile_px))
    return np.stack(
        [
            pixels[top : top + tile_px, left : left + tile_px]
            for top in starts(height, tile_px, rows)
            for left in starts(width, tile_px, columns)
        ]
    )


def starts(side_px: int, tile_px: int, count: int) -> list[int]:
    """Where `count` tiles begin along a side: both ends and evenly between; one in the middle."""
    room = side_px - tile_px
    if count == 1:
        return [room // 2]
    return [round(room * number / (count - 1)) for number in range(count)]


def _dense(side_px: int, tile_px: int) -> int:
    """Tiles along a side that lie at most a quarter of a tile apart."""
    return 1 + math.ceil((side_px - tile_px) * STEPS_PER_TILE / tile_px)


def _counts(down: int, across: int) -> tuple[int, int]:
    """Tiles down and across, in about the same proportion, at most `MAX_TILES` in all."""
    shrink = min(1.0, math.sqrt(MAX_TILES / (down * across)))
    across = min(max(1, math.floor(across * shrink)), MAX_TILES)
    return min(down, MAX_TILES // across), across


def _padded(pixels: Pixels, tile_px: int) -> Pixels:
    missing = [max(0, tile_px - side) for side in pixels.shape[:2]]
    around = [(lack // 2, lack - lack // 2) for lack in missing]
    return np.pad(pixels, [*around, (0, 0)], mode="reflect") if any(missing) else pixels


def _read(text: str) -> bytes:
    with explained(text, missing=QueryUnreadable, refused=QueryUnreadable):
        filesystem, path = filesystem_of(text)
        with filesystem.open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise QueryUnreadable(f"{text} is larger than {MAX_BYTES >> 20} MiB", remedy=FORMS)
    return data


@contextmanager
def _explained(text: str) -> Iterator[None]:
    """Turn whatever is raised of a broken file into `QueryUnreadable`."""
    try:
        yield
    except ImageUnreadable as error:
        raise QueryUnreadable(error.message, remedy=error.remedy) from None
    except _BOMB:
        raise _too_large(text, "far") from None
    except _BROKEN:
        raise QueryUnreadable(
            f"{text} is no image that can be read, or is cut short", remedy=FORMS
        ) from None


def _opened(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a file cut short is refused just below
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=FORMATS)


def _too_large(text: str, how: str, most_pixels: int = MAX_PIXELS) -> QueryUnreadable:
    return QueryUnreadable(
        f"{text} is {how} beyond the {most_pixels // 10**6} megapixels a query may have",
        remedy="Ask with a smaller part of it; of a slide, with slide.svs#x,y,w,h.",
    )


def _check_single(text: str, image: Image.Image) -> None:
    """Refuse several pictures in one file, but for what phones add to a JPEG (MPO)."""
    if _holds_several(image):
        raise QueryUnreadable(
            f"{text} holds several pictures, not one",
            remedy="If it is a slide, ask with a region of it: slide.svs#x,y,w,h.",
        )


def _holds_several(image: Image.Image) -> bool:
    """Of a TIFF only the second is looked for: counting a million made ones takes minutes."""
    if image.format != "TIFF":
        return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    try:
        image.seek(1)
    except EOFError:
        return False
    return True
