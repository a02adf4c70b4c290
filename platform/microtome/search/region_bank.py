"""What a query looks like around many of its points: vectors of tiles that needn't lie on a grid.

Points lie a quarter of a tile apart, so that wherever the query lies on a slide, each tile there
has a point within an eighth of a tile in each direction. Of a region too large for that a sample
is taken, by a sequence that fills it evenly and in step with no grid (Roberts' R₂: fractions of
multiples of 1/ρ and 1/ρ², ρ³ = ρ + 1).

Each point is seen in eight ways, four quarter turns of both sides, unless the model is blind to
that: where a quarter turn or a mirror changes its vectors less than a shift by an eighth of a tile
does, one way is enough, and eight times the points cost as much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.search.region_eye import Eye
from microtome.search.region_placement import Floats, shares, turns

POINTS: Final = 256
VIEWED_POINTS: Final = 48
"""As many where each is seen in eight ways."""

STEPS_PER_TILE: Final = 4
LEAST_SHARE: Final = 0.5
"""A tile counts for a region if it holds half of what it could."""

PROBES: Final = 4
VIEW_ANGLES: Final = np.tile(np.arange(4) * 90.0, 2)
VIEW_FLIPS: Final = np.repeat([False, True], 4)

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bank:
    """Vectors of a query.

    Attributes:
        points: (P, 2), in the query's frame.
        vectors: (V, P, D) float32, V = 8 views in the order of `VIEW_ANGLES`, or 1.
        dense: whether the points are as close as they should be.
        tissue: share of the points that were chosen that are tissue; others are left out.
    """

    points: Floats
    vectors: Vectors
    dense: bool
    tissue: float

    @property
    def blind(self) -> bool:
        """Whether one view stands for all."""
        return len(self.vectors) == 1

    @property
    def all_vectors(self) -> Vectors:
        """(V · P, D), view by view."""
        rows: Vectors = self.vectors.reshape(-1, self.vectors.shape[-1])
        return rows

    def some(self, most: int) -> NDArray[np.int64]:
        """Which of the points make an even sample of at most so many."""
        points = len(self.points)
        return np.linspace(0, points - 1, min(points, most)).round().astype(np.int64)

    def fewer(self, most: int) -> Bank:
        """The same of those points only."""
        some = self.some(most)
        return replace(self, points=self.points[some], vectors=self.vectors[:, some])

    def view_of(self, angles_deg: Floats, flipped: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(N,) the view that is nearest to a turn."""
        if self.blind:
            return np.zeros(len(angles_deg), np.int64)
        quarters = np.rint(angles_deg / 90).astype(np.int64) % 4
        return quarters + 4 * flipped


def fill(eye: Eye, outline: Any, tile_px: int, effort: float) -> Bank:
    """Choose points in an outline and embed what lies around them; glass only if all is glass.

    Args:
        eye: sees the query.
        outline: polygon in the query's frame.
        tile_px: side of a tile.
        effort: times the usual number of points.
    """
    blind = _is_blind(eye, outline, tile_px)
    most = max(1, round((POINTS if blind else VIEWED_POINTS) * effort))
    points, dense = chosen(outline, tile_px, most)
    tissue = eye.tissue(points, np.tile(np.eye(2), (len(points), 1, 1)))
    points = points[tissue] if tissue.any() else points
    views = 1 if blind else len(VIEW_ANGLES)
    way = turns(VIEW_ANGLES, VIEW_FLIPS)[:views]
    vectors = eye.vectors(np.tile(points, (views, 1)), np.repeat(way, len(points), axis=0))
    vectors = vectors.reshape(views, len(points), -1)
    return Bank(points, vectors, dense, float(tissue.mean()))


def chosen(outline: Any, tile_px: int, most: int) -> tuple[Floats, bool]:
    """At most so many points, (P, 2), P ≥ 1, whose tiles lie in an outline; and whether densely."""
    left, top, right, bottom = outline.bounds
    step = tile_px / STEPS_PER_TILE
    across, down = (int(half // step) + 2 for half in (right, bottom))
    if (2 * across + 1) * (2 * down + 1) <= 16 * most:
        x, y = np.meshgrid(np.arange(-across, across + 1), np.arange(-down, down + 1))
        lattice: Floats = step * np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
        inside = lattice[shares(outline, lattice, tile_px) >= LEAST_SHARE]
        if 0 < len(inside) <= most:
            return inside, True
    sample = (left, top) + even(16 * most) * (right - left, bottom - top)
    inside = sample[shares(outline, sample, tile_px) >= LEAST_SHARE][:most]
    if len(inside):
        return inside, False
    point = outline.representative_point()
    return np.array([[point.x, point.y]]), False


def even(count: int) -> Floats:
    """So many points, (N, 2), that fill the unit square evenly: R₂, see the module's docstring."""
    ratio = np.array([0.7548776662466927, 0.5698402909980532])
    points: Floats = (np.arange(1, count + 1)[:, None] * ratio) % 1
    return points


def _is_blind(eye: Eye, outline: Any, tile_px: int) -> bool:
    """Whether the model's vectors say less about turns than about small shifts."""
    points, _ = chosen(outline, tile_px, PROBES)
    shifted = points + tile_px / (2 * STEPS_PER_TILE)
    way = turns(VIEW_ANGLES, VIEW_FLIPS)[[0, 1, 4, 0]]  # upright, a quarter turn, a mirror
    at = np.concatenate([points, points, points, shifted])
    vectors = eye.vectors(at, np.repeat(way, len(points), axis=0))
    upright, *others = np.split(vectors, 4)
    turned, mirrored, beside = ((upright * other).sum(axis=1).mean() for other in others)
    return bool(min(turned, mirrored) >= beside)
