"""A small real atlas of slides on which every place has colours of its own, smoothly varying.

So a piece of one is known wherever it lies and however it is turned. Two encoders: one blind to
turns, as statistics are, and one that sees them, as networks do.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.config import GridSettings
from microtome.models.card import ModelCard, Preprocessing
from microtome_jobs.made.noise import fractal_noise
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from support.coloured_atlas import COLUMNS, GRID, MeanColour, Quilt, add_slide
from support.made_atlas import open_or_create

TILE_PX = GRID.tile_px
SIDE_PX = 16 * TILE_PX
GLASS = 243


class Palette(MeanColour):
    """Blind to turns: how often each shade occurs in each channel, and of their edges."""

    def __init__(self, name: str = "palette", dim: int = 96) -> None:
        super().__init__(name)
        self.card = ModelCard(
            name=name,
            architecture={"kind": name},
            preprocessing=Preprocessing(input_px=TILE_PX),
            dim=dim,
            weights_sha256="0" * 64,
        )

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(pixels.shape)
        return np.stack([self.vector(tile) for tile in pixels])

    def vector(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _unit(np.concatenate([_shades(tile[..., channel]) for channel in range(3)]))


class Quarters(Palette):
    """Sees turns: the palette of each quarter of the tile."""

    def __init__(self) -> None:
        super().__init__("quarters", 4 * 96)

    def vector(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        half = len(tile) // 2
        parts = (tile[y : y + half, x : x + half] for y in (0, half) for x in (0, half))
        return _unit(np.concatenate([super(Quarters, self).vector(part) for part in parts]))


def _shades(channel: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A histogram of 32 bins, softened, as roots."""
    counts = np.bincount(channel.ravel() // 8, minlength=32).astype(np.float32)
    return np.sqrt(np.convolve(counts, [0.25, 0.5, 0.25], "same"))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def pattern(seed: int, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """(side_px, side_px, 3) uint8, three planes of noise, darker than glass."""
    rng = np.random.default_rng(seed)
    planes = [fractal_noise(rng, (side_px, side_px), 3.0 * TILE_PX) for _ in range(3)]
    stretched = [(plane - plane.min()) / np.ptp(plane) for plane in planes]
    return np.stack([40 + 150 * plane for plane in stretched], axis=-1).astype(np.uint8)


def turned_crop(
    pixels: NDArray[np.uint8],
    middle: tuple[float, float],
    size: tuple[int, int],
    angle_deg: float,
    flipped: bool,
) -> NDArray[np.uint8]:
    """A picture that lies on the slide around `middle` if it is mirrored and turned so."""
    angle = np.radians(angle_deg)
    across = np.array([np.cos(angle), np.sin(angle)]) * (-1 if flipped else 1)
    down = np.array([-np.sin(angle), np.cos(angle)])
    matrix = np.column_stack([across, down])
    start = np.array(middle) - 0.5 + matrix @ (0.5 - np.array(size) / 2)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(pixels, np.column_stack([matrix, start]), size, flags=how))


def make_patterned(
    folder: Path,
    encoder: MeanColour,
    slides: dict[str, NDArray[np.uint8]],
    grid: GridSettings = GRID,
) -> Atlas:
    """Write the pictures as slides, `ID.svs`, each a case of its own, and index their tiles."""
    uri = str(folder / "atlas")
    atlas = open_or_create(uri, grid, encoder.card, COLUMNS)
    for slide_id, pixels in slides.items():
        path = folder / f"{slide_id}.svs"
        write_pyramid(path, pixels, PyramidSpec(mpp=0.5, levels=2, quality=95))
        add_slide(atlas, encoder, Quilt(slide_id, (), f"case {slide_id}", "skin"), path)
    return Atlas.open(uri)
