"""The two slides that are read: made tissue, and a picture as costly to decode all over."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from microtome_jobs.made.slides import MadeSpec, make_slides

SEED = 7
TILE_PX = 256


def write_tissue(folder: Path, side_px: int) -> Path:
    """A made slide, as `microtome demo` makes them: an SVS of 0.5 µm with levels 4 times apart."""
    archive = make_slides(folder, MadeSpec(seed=SEED, slides=1, side_px=side_px, bad=False))
    return folder / f"{archive.slide_ids[0]}.svs"


def write_blotches(folder: Path, side_px: int) -> Path:
    """Blotches of cell size under fine grain: 2 bits of JPEG a pixel, no glass."""
    random = np.random.default_rng(SEED)
    coarse = random.integers(60, 255, (side_px // 16, side_px // 16, 3), np.uint8)
    picture = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    for rows in np.array_split(picture, 16):
        grain = random.integers(-12, 12, (*rows.shape[:2], 1), np.int16)
        np.copyto(rows, np.clip(rows + grain, 0, 255).astype(np.uint8))
    spec = PyramidSpec(mpp=0.25, tile_px=TILE_PX, levels=4, quality=80, aperio=False, step=2)
    path = folder / "blotches.tif"
    write_pyramid(path, picture, spec)
    return path
