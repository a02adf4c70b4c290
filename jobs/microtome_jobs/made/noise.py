"""Random fields and places: what every texture is made of."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Shape = tuple[int, int]


def smooth_noise(rng: np.random.Generator, shape: Shape, down: float, across: float) -> Plane:
    """Value noise: random numbers on a coarse lattice, interpolated between.

    Args:
        rng: source of the numbers.
        shape: height and width of the field in px.
        down: vertical spacing of the lattice in px.
        across: horizontal spacing in px; unequal spacings give streaks.

    Returns:
        (height, width) float32, about in [-1, 1].
    """
    height, width = shape
    rows, columns = math.ceil(height / down) + 2, math.ceil(width / across) + 2
    lattice = rng.random((rows, columns), dtype=np.float32) * 2 - 1
    if min(down, across) >= 32:  # straight lines between far points would be seen: round them
        lattice = np.asarray(
            cv2.resize(lattice, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC), np.float32
        )
    size = math.ceil(columns * across), math.ceil(rows * down)
    return np.asarray(cv2.resize(lattice, size), dtype=np.float32)[:height, :width]


def fractal_noise(
    rng: np.random.Generator, shape: Shape, coarsest_px: float, octaves: int = 3
) -> Plane:
    """Sum of value noise at halving spacings and falling amplitudes, about in [-1, 1].

    It holds nothing finer than its last octave, so it is added up small and enlarged once.
    """
    height, width = shape
    shrink = max(1, int(coarsest_px / 2 ** (octaves - 1) / 5))
    small = height // shrink + 2, width // shrink + 2
    total = np.zeros(small, dtype=np.float32)
    for octave in range(octaves):
        cell = coarsest_px / 2**octave / shrink
        total += 0.6 / 1.6**octave * smooth_noise(rng, small, cell, cell)
    size = small[1] * shrink, small[0] * shrink
    return np.asarray(cv2.resize(total, size), dtype=np.float32)[:height, :width]


def scattered(
    rng: np.random.Generator, shape: Shape, spacing_px: float, jitter: float = 0.35
) -> NDArray[np.int64]:
    """Places about `spacing_px` apart: a hexagonal lattice, each point moved a little.

    Args:
        rng: source of the moves.
        shape: height and width of the field in px.
        spacing_px: distance of neighbours on the lattice.
        jitter: largest move, as a fraction of the spacing.

    Returns:
        (N, 2) int64, row and column, all inside the field.
    """
    height, width = shape
    step_down = spacing_px * math.sqrt(3) / 2
    rows, columns = math.ceil(height / step_down) + 1, math.ceil(width / spacing_px) + 1
    row, column = np.mgrid[0:rows, 0:columns].astype(np.float64)
    points = np.stack([row * step_down, (column + row % 2 / 2) * spacing_px], axis=2).reshape(-1, 2)
    points += rng.uniform(-jitter, jitter, points.shape) * spacing_px
    places = np.rint(points).astype(np.int64)
    return np.asarray(places[((places >= 0) & (places < shape)).all(axis=1)])
