"""Tiles on their way from a slide to a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TileBatch:
    """N tiles of one slide, decoded at the grid's mpp.

    Attributes:
        pixels: (N, tile_px, tile_px, 3) uint8, RGB.
        corners: (N, 2) int64, x and y of the upper left corner in level-0 pixels.
        tissue: (N,) float32 in [0, 1], the fraction of the tile that is tissue.
        sharpness: (N,) float32 ≥ 0, see `tiles.quality.sharpness`.
    """

    pixels: NDArray[np.uint8]
    corners: NDArray[np.int64]
    tissue: NDArray[np.float32]
    sharpness: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be (N, H, W, 3) uint8, not {self.pixels.shape} {self.pixels.dtype}"
            )
        shapes = {"corners": (count, 2), "tissue": (count,), "sharpness": (count,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, not {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.pixels)
