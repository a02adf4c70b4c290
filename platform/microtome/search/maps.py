"""Slides as small maps: their thumbnails, with the tiles marked that speak for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import one_of
from microtome.search.pictures import Picture
from microtome.search.result import Hit
from microtome.slides.slide import Pixels

ACCENT: Final = (142, 42, 107)
HALO: Final = (255, 255, 255)
LEAST_MARK_PX: Final = 9
"""A tile is a pixel or two of a thumbnail: it is marked by a square of at least this side."""


def read_maps(slides: Sequence[tuple[str, Sequence[Hit]]], atlas: Atlas) -> list[Picture]:
    """A map of each slide, in their order.

    Args:
        slides: slide_id, and the tiles to mark; those of other slides aren't.
        atlas: holds the thumbnails, so no slide is opened.
    """
    wanted = one_of("slide_id", (slide_id for slide_id, _ in slides))
    rows = atlas.slides.to_table(columns=["slide_id", "width_px", "thumbnail"], filter=wanted)
    known = {row["slide_id"]: row for row in rows.to_pylist()}
    return [_map(known.get(slide_id, {}), tiles) for slide_id, tiles in slides]


def _map(row: dict[str, Any], tiles: Sequence[Hit]) -> Picture:
    if not row.get("thumbnail"):
        return Picture(None, "the atlas holds no thumbnail of the slide")
    try:
        with Image.open(io.BytesIO(row["thumbnail"]), formats=["JPEG"]) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError):
        return Picture(None, "the thumbnail in the atlas is damaged")
    own = [tile for tile in tiles if tile.slide_id == row["slide_id"]]
    return Picture(_marked(pixels, own, pixels.shape[1] / row["width_px"]))


def _marked(pixels: Pixels, tiles: Sequence[Hit], scale: float) -> Pixels:
    """The tiles drawn as squares; `scale` is px of the map per level-0 px."""
    for tile in tiles:
        middle = np.array([tile.x + tile.size_px / 2, tile.y + tile.size_px / 2]) * scale
        half = max(tile.size_px * scale, LEAST_MARK_PX) / 2
        first, last = (np.rint(middle + sign * half).astype(int).tolist() for sign in (-1, 1))
        cv2.rectangle(pixels, first, last, HALO, 4)
        cv2.rectangle(pixels, first, last, ACCENT, 2)
    return pixels
