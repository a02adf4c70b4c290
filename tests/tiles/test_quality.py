from __future__ import annotations

import cv2
import numpy as np
import pytest

from microtome.tiles.quality import sharpness


def noise(side_px: int = 128) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)


def test_one_colour_has_no_sharpness():
    assert sharpness(np.full((2, 32, 32, 3), 200, np.uint8)).tolist() == [0, 0]


def test_blur_takes_sharpness_away():
    sharp = noise()
    tiles = [sharp, *(cv2.GaussianBlur(sharp, (0, 0), sigma) for sigma in (1, 2, 4))]
    measured = sharpness(np.stack(tiles))
    assert (np.diff(measured) < 0).all()


def test_it_is_the_variance_of_the_laplacian_of_luma():
    tile = noise(16)
    luma = np.pad(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(int), 1, mode="reflect")
    centre = luma[1:-1, 1:-1]
    sides = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    assert sharpness(tile[None])[0] == pytest.approx(np.var(sides - 4 * centre), rel=1e-5)


def test_size_matters_little():
    small, large = noise(64), noise(256)
    assert sharpness(small[None])[0] == pytest.approx(sharpness(large[None])[0], rel=0.1)


def test_no_tiles_have_no_sharpness():
    measured = sharpness(np.empty((0, 16, 16, 3), np.uint8))
    assert measured.shape == (0,)
    assert measured.dtype == np.float32
