"""Where a region lies on a slide: moved, turned, mirrored; and how much of it other squares cover.

Two frames, both in pixels of the atlas's mpp (*grid px*), y downwards:

- the query's, with its origin in the middle of the query's bounding box;
- a slide's, with its origin in the slide's corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Placement:
    """A place for the query on a slide: mirrored if so, then turned, then moved.

    Attributes:
        x: the slide's point on which the query's middle lies, grid px.
        y: likewise.
        angle_deg: turn, clockwise as one sees it.
        flipped: mirrored left to right before it was turned.
    """

    x: float
    y: float
    angle_deg: float
    flipped: bool

    @property
    def turn(self) -> Floats:
        """(2, 2), orthogonal: from the query's directions to the slide's."""
        turn: Floats = turns(np.array([self.angle_deg]), np.array([self.flipped]))[0]
        return turn

    def on_slide(self, points: Floats) -> Floats:
        """Points (N, 2) of the query's frame in the slide's."""
        return points @ self.turn.T + (self.x, self.y)

    def in_query(self, points: Floats) -> Floats:
        """Points (N, 2) of the slide's frame in the query's."""
        return (points - (self.x, self.y)) @ self.turn


def turns(angles_deg: Floats, flipped: NDArray[np.bool_]) -> Floats:
    """(N, 2, 2) matrices R(angle) · diag(∓1, 1), which map the query's directions to a slide's."""
    angles = np.radians(angles_deg)
    cos, sin = np.cos(angles), np.sin(angles)
    side = np.where(flipped, -1.0, 1.0)
    return np.stack([np.stack([side * cos, -sin], -1), np.stack([side * sin, cos], -1)], -2)


def moved(outline: Any, placement: Placement) -> Any:
    """A polygon of the query's frame in the slide's."""
    return shapely.transform(outline, placement.on_slide)


def shares(outline: Any, centres: Floats, side_px: float) -> Floats:
    """How much squares and a region have of each other: (N,) in [0, 1].

    The area in common over that of the smaller of both, so that a square wholly inside a large
    region has 1, and so has one that holds all of a small region.

    Args:
        outline: polygon.
        centres: (N, 2) of the squares, in the same frame.
        side_px: of the squares.
    """
    x, y = centres.T
    half = side_px / 2
    squares = shapely.box(x - half, y - half, x + half, y + half)
    shapely.prepare(outline)
    inside = shapely.contains_properly(outline, squares)
    rim = ~inside & shapely.intersects(outline, squares)  # few of many: only they are cut
    common = np.where(inside, float(side_px) ** 2, 0.0)
    common[rim] = shapely.area(shapely.intersection(outline, squares[rim]))
    share: Floats = common / min(side_px**2, outline.area)
    return share


def iou(one: Any, other: Any) -> float:
    """Area in common over area of both together, 0 to 1."""
    common = one.intersection(other).area
    return float(common / (one.area + other.area - common))
