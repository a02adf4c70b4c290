"""Where each tissue lies on a slide, drawn coarsely: one cell for 32 × 32 level-0 pixels.

- the slide is split into as many rectangles as it has pieces of tissue;
- each rectangle holds one piece, an ellipse with an uneven edge;
- each piece is divided among scattered sites, and the tissues are dealt out to those regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.noise import Shape, fractal_noise

CELL_PX = 32
"""Side of a layout cell in level-0 pixels."""

_REGION_PX = 1500  # side of a square as large as a region shall be: some forty 224-px tiles
_SEVERAL_PIECES_PX = 4096  # smaller slides hold one piece


class Region(NamedTuple):
    """One tissue's part of a piece.

    Attributes:
        tissue: index into the names of the tissues; 0 is glass, so it starts at 1.
        cells: (rows, columns) bool, where the region lies on the slide.
    """

    tissue: int
    cells: NDArray[np.bool_]


def arranged(rng: np.random.Generator, side_px: int, tissues: Sequence[int]) -> list[Region]:
    """Lay out a square slide on which every one of the tissues occurs.

    Args:
        rng: source of the shapes.
        side_px: side of the slide in level-0 pixels, a multiple of `CELL_PX`.
        tissues: indices of the tissues to use, each at least 1.
    """
    side = side_px // CELL_PX
    pieces = int(rng.integers(2, 4)) if side_px >= _SEVERAL_PIECES_PX else 1
    order = cycle(rng.permutation(np.asarray(tissues)).tolist())
    regions = []
    for box in _split(rng, (0, 0, side, side), pieces):
        piece = _piece(rng, (side, side), box)
        wanted = round(int(piece.sum()) * (CELL_PX / _REGION_PX) ** 2)
        parts = _divided(rng, piece, max(wanted, -(-len(tissues) // pieces)))
        regions += [Region(next(order), cells) for cells in parts]
    return regions


def drawn(regions: Sequence[Region], shape: Shape) -> NDArray[np.uint8]:
    """The tissue of every cell as one map, (rows, columns) uint8; 0 is glass."""
    tissues = np.zeros(shape, np.uint8)
    for region in regions:
        tissues[region.cells] = region.tissue
    return tissues


_Box = tuple[int, int, int, int]  # top, left, bottom, right


def _split(rng: np.random.Generator, box: _Box, count: int) -> Iterator[_Box]:
    """Cut a rectangle across its longer side until there are `count`."""
    if count == 1:
        yield box
        return
    top, left, bottom, right = box
    share = rng.uniform(0.45, 0.55) if count == 2 else 1 / count + rng.uniform(0.05, 0.1)
    if (bottom - top, rng.random()) > (right - left, 0.5):
        middle = top + round(share * (bottom - top))
        first, second = (top, left, middle, right), (middle, left, bottom, right)
    else:
        middle = left + round(share * (right - left))
        first, second = (top, left, bottom, middle), (top, middle, bottom, right)
    yield first
    yield from _split(rng, second, count - 1)


def _piece(rng: np.random.Generator, shape: Shape, box: _Box) -> NDArray[np.bool_]:
    """An ellipse in a rectangle, its edge pushed in and out by noise."""
    top, left, bottom, right = box
    y, x = np.indices(shape)
    across = (2 * x - left - right + 1) / (right - left)
    down = (2 * y - top - bottom + 1) / (bottom - top)
    uneven = fractal_noise(rng, shape, max(8.0, shape[0] / 5), octaves=3)
    inside = np.hypot(across, down) < np.minimum(0.8 + 0.22 * uneven, 0.95)
    return _largest(inside)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part: noise may have cut islands off."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(labels == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA]))


def _divided(
    rng: np.random.Generator, piece: NDArray[np.bool_], count: int
) -> Iterator[NDArray[np.bool_]]:
    """Give every cell of a piece to the nearest of `count` sites, distances bent by noise."""
    cells = np.argwhere(piece)
    sites = _spread(rng, cells, count)
    region = math.sqrt(len(cells) / count)  # about its side; bent by a sixth none can vanish
    bend = [fractal_noise(rng, piece.shape, 0.7 * region) * region / 6 for _ in range(2)]
    bent = cells + np.stack([field[piece] for field in bend], axis=1)
    nearest = np.linalg.norm(bent[:, None] - sites, axis=2).argmin(axis=1)
    for site in range(count):
        mine = np.zeros_like(piece)
        mine[tuple(cells[nearest == site].T)] = True
        yield mine


def _spread(rng: np.random.Generator, cells: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Sites evenly spread over the cells: Lloyd's algorithm, a few rounds."""
    sites = rng.choice(cells, count, replace=False).astype(np.float64)
    for _ in range(6):
        nearest = np.linalg.norm(cells[:, None] - sites, axis=2).argmin(axis=1)
        sites = np.stack([cells[nearest == site].mean(axis=0) for site in range(count)])
    return sites
