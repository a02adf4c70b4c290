"""Where could the query lie? Stored tiles that look like parts of it vote.

A tile at s that looks like the query around p says: turned by R, the query's middle lies at
s - R p. All turns that agree with the view in which they look alike get the vote, and what adds up
is where many parts of the query, at their own places, are found: a generalised Hough transform
(Ballard, Pattern Recognition 13:111, 1981; for matched features Lowe, IJCV 60:91, 2004, section
7.3), with votes shared between neighbouring bins and at most one per bin from each part.

A vote counts as much as its cosine lies above that of the part's next best, which wasn't let vote:
what looks like everything says little (local naive Bayes nearest neighbour, McCann & Lowe, CVPR
2012, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.search.region_bank import VIEW_ANGLES, VIEW_FLIPS
from microtome.search.region_placement import Floats, turns

ANGLE_STEP_DEG: Final = 15.0
ANGLES: Final = np.tile(np.arange(0, 360, ANGLE_STEP_DEG), 2)
FLIPS: Final = np.repeat([False, True], len(ANGLES) // 2)
VIEW_REACH_DEG: Final = 45.0
"""A view stands for turns up to here: half-way to the next."""

MOST_BINS: Final = 50_000
"""The best of which spots are chosen."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of a part of the query and a stored tile, (M,) each.

    Attributes:
        point: index of the query's point.
        view: index of the view in which it looks so; -1 for all.
        slide: index of the tile's slide.
        place: (M, 2) the tile's middle, grid px.
        weight: what the pair counts.
    """

    point: NDArray[np.int64]
    view: NDArray[np.int64]
    slide: NDArray[np.int64]
    place: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the query's middle may lie.

    Attributes:
        slide: index of the slide.
        x: grid px.
        y: grid px.
        votes: sum of their weights.
    """

    slide: int
    x: float
    y: float
    votes: float


def spots(points: Floats, matches: Matches, bin_px: float, most: int) -> list[Spot]:
    """The places with most votes, best first, no two on a slide closer than two bins.

    Args:
        points: (P, 2) of the query, in its frame.
        matches: who votes.
        bin_px: width of a bin.
        most: how many at most.
    """
    if not len(matches.weight):
        return []
    cells, votes = _counted(points, matches, bin_px)
    best = np.argsort(-votes, kind="stable")[:MOST_BINS]
    cells, votes = cells[best], votes[best]
    found: list[Spot] = []
    left = np.ones(len(votes), np.bool_)
    while left.any() and len(found) < most:
        slide, x, y = cells[left.argmax()].tolist()
        found.append(Spot(slide, x * bin_px, y * bin_px, float(votes[left.argmax()])))
        near = (np.abs(cells[:, 1:] - (x, y)) < 2).all(axis=1)
        left &= ~(near & (cells[:, 0] == slide))
    return found


def _counted(points: Floats, matches: Matches, bin_px: float) -> tuple[NDArray[np.int64], Floats]:
    """Slide, x and y of bins (B, 3), one for each turn, and the votes (B,) that each got."""
    match, turn = np.nonzero(_agreeing(matches.view))
    middle = matches.place[match] - np.einsum(
        "nij,nj->ni", turns(ANGLES, FLIPS)[turn], points[matches.point[match]]
    )
    floor = np.floor(middle / bin_px)
    above = middle / bin_px - floor
    low = floor.min(axis=0)
    shape = (*(floor.max(axis=0) - low + 2).astype(np.int64).tolist(), len(ANGLES), len(points))
    keys, votes = [], []
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        x, y = (floor - low + corner).astype(np.int64).T
        cell = (matches.slide[match], x, y, turn, matches.point[match])
        keys.append(np.ravel_multi_index(cell, (int(matches.slide.max()) + 1, *shape)))
        votes.append(np.where(corner, above, 1 - above).prod(axis=1) * matches.weight[match])
    best_keys, best = _reduced(np.concatenate(keys), np.concatenate(votes), np.maximum)
    bins, total = _reduced(best_keys // len(points), best, np.add)  # of all points that vote here
    slide, x, y, _ = np.unravel_index(bins, (int(matches.slide.max()) + 1, *shape[:-1]))
    return np.column_stack([slide, x + int(low[0]), y + int(low[1])]), total


def _agreeing(views: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(M, turns): which turns a match in a view votes for."""
    apart = np.abs((ANGLES - VIEW_ANGLES[views][:, None] + 180) % 360 - 180)
    same_side = VIEW_FLIPS[views][:, None] == FLIPS
    return np.asarray((views < 0)[:, None] | (same_side & (apart <= VIEW_REACH_DEG)))


def _reduced(
    keys: NDArray[np.int64], values: Floats, how: np.ufunc
) -> tuple[NDArray[np.int64], Floats]:
    """Distinct keys, and what their values come to."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], how.reduceat(values, starts)
