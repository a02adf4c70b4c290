"""How well a query fits a place, said by new pictures of it.

The query is turned and moved as the placement says and cut where the slide's own tiles lie, so that
each of its tiles is compared with the one that it would be. With w the share that tile and region
have of each other (`region_placement.shares`, at least a half, or the largest that there is):

    similarity = Σ w · cos / Σ w               over the tiles that are stored
    coverage   = Σ w of those / Σ w of those and of tissue in the query where none is stored
    score      = similarity · coverage

so a score of 1 says that every tile of the place shows the very tissue of the query. Of a large
region an even sample of tiles is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from microtome.search import patience
from microtome.search.region_around import Around, Stored
from microtome.search.region_bank import LEAST_SHARE, even
from microtome.search.region_eye import Eye
from microtome.search.region_fit import Fit
from microtome.search.region_placement import Floats, Placement, moved, shares

TILES: Final = 9
"""Compared for each placement, at most."""

CUT: Final = 256
"""Cells of the grid of which it is found out how much of them lies in a region, at most."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Laid:
    """The tiles of a slide on which a placement lays the query.

    Attributes:
        placement: the placement.
        around: the stored tiles there.
        middles: (N, 2) grid px, on the slide.
        share: (N,) of tile and region.
        tile: (N,) index into `around`; -1 where none is stored.
    """

    placement: Placement
    around: Around
    middles: Floats
    share: Floats
    tile: NDArray[np.int32]

    @property
    def stored(self) -> NDArray[np.bool_]:
        """(N,) which of them are stored."""
        return self.tile >= 0

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """Of those that are."""
        return self.around.row_ids[self.tile[self.stored]]


@dataclass(frozen=True, slots=True)
class Checked:
    """A placement that was looked at.

    Attributes:
        placement: the placement.
        slide_id: its slide.
        similarity: see the module's docstring.
        coverage: likewise.
        row_ids: (N,) stored tiles that were compared.
        cosines: (N,) float32, of each.
    """

    placement: Placement
    slide_id: str
    similarity: float
    coverage: float
    row_ids: NDArray[np.int64]
    cosines: Vectors

    @property
    def score(self) -> float:
        """See the module's docstring."""
        return self.similarity * self.coverage


def check(eye: Eye, stored: Stored, outline: Any, fits: Sequence[Fit]) -> list[Checked]:
    """Compare the query with the places that fits name; those without a stored tile are left out.

    Args:
        eye: sees the query.
        stored: where the tiles' vectors are read.
        outline: its polygon, in its frame.
        fits: the places.
    """
    places = [laid(outline, fit.placement, fit.around) for fit in fits]
    places = [one for one in places if one.stored.any()]
    if not places:
        return []
    there = np.concatenate([one.stored for one in places])
    points = np.concatenate([one.placement.in_query(one.middles) for one in places])
    turns = np.concatenate([np.tile(one.placement.turn, (len(one.tile), 1, 1)) for one in places])
    vectors = stored.vectors(np.concatenate([one.row_ids for one in places]))
    cosines = np.einsum("nd,nd->n", eye.vectors(points[there], turns[there]), vectors)
    tissue = np.ones(len(there), np.bool_)
    if not there.all():
        tissue[~there] = eye.tissue(points[~there], turns[~there])
    of_each = (
        np.split(cosines, np.cumsum([len(one.row_ids) for one in places])[:-1]),
        np.split(tissue, np.cumsum([len(one.tile) for one in places])[:-1]),
    )
    return [_checked(*of_one) for of_one in zip(places, *of_each, strict=True)]


def laid(outline: Any, placement: Placement, around: Around, most: int = TILES) -> Laid:
    """Which tiles of the slide's grid a query lies on; an even sample of at most so many.

    There is none where the grid has gaps and the query lies in one.
    """
    patience.check()
    region = moved(outline, placement)
    cells = _cells(region, around)
    middles = cells.astype(np.float64) * around.stride_px + around.tile_px / 2
    share = shares(region, middles, around.tile_px)
    enough = (share > 0) & (share >= min(LEAST_SHARE, share.max(initial=0)))
    inside = np.flatnonzero(enough)
    if len(inside) > most:
        inside = inside[_spread(cells[inside], most)]
    return Laid(placement, around, middles[inside], share[inside], around.at(cells[inside]))


def _cells(region: Any, around: Around) -> NDArray[np.int64]:
    """(N, 2) columns and rows, row by row, of what may lie in a region: all, or an even sample."""
    low, high = np.split(np.array(region.bounds), 2)
    first = np.ceil((low - around.tile_px) / around.stride_px).astype(np.int64)
    count = np.floor(high / around.stride_px).astype(np.int64) - first + 1
    if count.prod() <= CUT:
        places = np.arange(count.prod())
        cells: NDArray[np.int64] = first + np.column_stack([places % count[0], places // count[0]])
        return cells
    inside = shapely.get_coordinates(region.representative_point())  # if the sample misses it
    spread = low + even(CUT - 1) * (high - low)
    nearest = np.rint((np.concatenate([inside, spread]) - around.tile_px / 2) / around.stride_px)
    return np.unique(nearest[:, ::-1].astype(np.int64), axis=0)[:, ::-1]


def _spread(cells: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Which of some cells (N, 2) to take: the least used rows and columns first, then far apart."""
    left, used = np.ones(len(cells), np.bool_), np.zeros(len(cells), np.int64)
    apart = -np.linalg.norm(cells - cells.mean(axis=0), axis=1)  # the first lies in the middle
    for number in range(most):
        best = np.lexsort((-apart, used, ~left))[0]
        away = np.linalg.norm(cells - cells[best], axis=1)
        apart = np.minimum(apart, away) if number else away
        used += (cells == cells[best]).sum(axis=1)
        left[best] = False
    return np.flatnonzero(~left)


def _checked(one: Laid, cosines: Vectors, tissue: NDArray[np.bool_]) -> Checked:
    weight = one.share[one.stored]
    lacking = one.share[~one.stored & tissue].sum()
    return Checked(
        one.placement,
        one.around.slide_id,
        similarity=float(weight @ cosines / weight.sum()),
        coverage=float(weight.sum() / (weight.sum() + lacking)),
        row_ids=one.row_ids,
        cosines=cosines,
    )
