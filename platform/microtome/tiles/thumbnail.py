"""A small picture of a slide, from its pyramid: associated images may show the patient's label."""

from __future__ import annotations

import cv2
import numpy as np

from microtome.config import check_whole
from microtome.slides.slide import SlideReader
from microtome.tiles.overview import read_overview

JPEG_QUALITY = 85


def thumbnail(reader: SlideReader, side_px: int = 512) -> bytes:
    """The slide as a JPEG whose longer side has `side_px` pixels; never enlarged.

    Raises:
        SettingError: `side_px` isn't in [16, 4096].
        TileReadFailed: the slide can't be decoded somewhere.
    """
    check_whole("side_px", side_px, least=16, most=4096)
    slide = reader.slide
    longer_px = max(slide.width_px, slide.height_px)
    # Half again as fine as wanted: the overview comes within a third of the mpp asked for.
    overview = read_overview(reader, slide.mpp * max(1.0, longer_px / side_px / 1.5))
    scale = min(1.0, side_px / max(overview.pixels.shape[:2]))
    size = [max(1, round(length * scale)) for length in overview.pixels.shape[1::-1]]
    small = cv2.resize(overview.pixels, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise RuntimeError(f"OpenCV made no JPEG of {size[0]} × {size[1]} pixels")
    return np.asarray(jpeg).tobytes()
