"""A slide that is mostly glass, and glass that costs as many bytes as tissue does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from support.made_tiffs import picture


def write_glass_with_tissue(path: Path) -> Path:
    """4096² px with one piece of tissue of 2300 × 2000, 0.5 µm per pixel, levels 1 and 4."""
    grain = np.random.default_rng(5).integers(-8, 9, (4096, 4096, 1))
    pixels = np.broadcast_to(235 + grain, (4096, 4096, 3)).astype(np.uint8)
    tissue = pixels[500:2500, 700:3000]
    tissue[:] = picture(2000, 2300)
    tissue[..., 1] //= 2
    write_pyramid(path, pixels, PyramidSpec(levels=2, step=4))
    return path
