"""Any picture as a whole-slide image: a pyramid of JPEG tiles in one TIFF file.

- level 0 is the picture, each further level `step` times smaller in both directions;
- tiles are cut, padded and encoded one by one, so beside the picture only the next level is held;
- the header speaks Aperio's dialect (an SVS) or plain TIFF, as asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from microtome.slides.slide import Pixels


@dataclass(frozen=True, slots=True)
class PyramidSpec:
    """How a picture is written as a slide.

    Attributes:
        mpp: µm per level-0 pixel; None writes a slide that doesn't say.
        objective: magnification; None leaves it out. Only Aperio's header has a place for it.
        tile_px: side of the square JPEG tiles; TIFF wants a multiple of 16.
        levels: number of resolutions, the finest included.
        quality: of the JPEG tiles, 1 to 100.
        aperio: Aperio's ImageDescription (an SVS); else a generic TIFF with its resolution in
            pixels per centimetre.
        step: each level's sides are the one before's, divided by this and rounded down; Aperio's
            scanners use 4.
    """

    mpp: float | None = 0.5
    objective: float | None = 20.0
    tile_px: int = 256
    levels: int = 3
    quality: int = 85
    aperio: bool = True
    step: int = 4

    def __post_init__(self) -> None:
        if self.mpp is not None and not self.mpp > 0:
            raise ValueError(f"mpp must be positive, not {self.mpp}")
        if self.tile_px < 16 or self.tile_px % 16:
            raise ValueError(f"tile_px must be a multiple of 16, not {self.tile_px}")
        if self.levels < 1 or self.step < 2:
            raise ValueError(f"levels ≥ 1 and step ≥ 2 wanted, not {self.levels} and {self.step}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must lie in 1 to 100, not {self.quality}")


def write_pyramid(path: Path, pixels: Pixels, spec: PyramidSpec = PyramidSpec()) -> None:
    """Write a picture as a tiled JPEG pyramid (YCbCr, 4:2:0), the same bytes for the same input.

    Args:
        path: file to write, replaced if it is there; `.svs` for Aperio's dialect, else `.tif`.
        pixels: (H, W, 3) uint8, RGB; may be a memory map, it is read tile by tile.
        spec: levels, tiles and what the header says.

    Raises:
        ValueError: the pixels aren't (H, W, 3) uint8, or too small for so many levels.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    if min(pixels.shape[:2]) < spec.step ** (spec.levels - 1):
        raise ValueError(f"{pixels.shape[:2]} pixels are too few for {spec.levels} levels")
    with tifffile.TiffWriter(path) as tiff:
        for level in range(spec.levels):
            if level:
                pixels = _reduced(pixels, spec.step)
            tiff.write(
                _tiles(pixels, spec.tile_px),
                shape=pixels.shape,
                dtype=np.uint8,
                subfiletype=1 if level else 0,  # 1: a reduced-resolution version
                **_encoding(spec),
                **_header(pixels, spec),
            )


def _reduced(pixels: Pixels, step: int) -> Pixels:
    height, width = pixels.shape[:2]
    size = (width // step, height // step)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _tiles(pixels: Pixels, side: int) -> Iterator[Pixels]:
    """Whole tiles, row by row; at the right and lower edge the last pixels are repeated."""
    height, width = pixels.shape[:2]
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = pixels[top : top + side, left : left + side]
            below, right = side - tile.shape[0], side - tile.shape[1]
            yield np.pad(tile, ((0, below), (0, right), (0, 0)), mode="edge")


def _encoding(spec: PyramidSpec) -> dict[str, Any]:
    return {
        "tile": (spec.tile_px, spec.tile_px),
        "photometric": "rgb",  # of what comes in; with JPEG, tifffile stores YCbCr
        "compression": "jpeg",
        "compressionargs": {"level": spec.quality},
        "subsampling": (2, 2),
        "metadata": None,  # no tifffile description in place of ours
    }


def _header(pixels: Pixels, spec: PyramidSpec) -> dict[str, Any]:
    if spec.aperio:
        return {"description": _aperio_description(pixels, spec)}
    if spec.mpp is None:
        return {}
    pixels_per_cm = 10_000 / spec.mpp
    return {"resolution": (pixels_per_cm, pixels_per_cm), "resolutionunit": "CENTIMETER"}


def _aperio_description(pixels: Pixels, spec: PyramidSpec) -> str:
    """Aperio's free text, of which readers take the `|name = value` parts."""
    height, width = pixels.shape[:2]
    tile = spec.tile_px
    facts = [
        f"Aperio Image Library v12.0.0 \r\n{width}x{height} ({tile}x{tile}) JPEG Q={spec.quality}"
    ]
    if spec.objective is not None:
        facts.append(f"AppMag = {spec.objective:g}")
    if spec.mpp is not None:
        facts.append(f"MPP = {spec.mpp:g}")
    return "|".join(facts)
