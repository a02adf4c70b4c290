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
from numpy.typing import NDArray

from microtome.search import patience
from microtome.search.region_around import Around
from microtome.search.region_bank import LEAST_SHARE
from microtome.search.region_eye import Eye
from microtome.search.region_fit import Fit
from microtome.search.region_placement import Floats, Placement, moved, shares

TILES: Final = 9
"""Compared for each placement, at most."""

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
    tile: NDArray[np.int64]


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


def check(eye: Eye, outline: Any, fits: Sequence[Fit]) -> list[Checked]:
    """Compare the query with the places that fits name; those without a stored tile are left out.

    Args:
        eye: sees the query.
        outline: its polygon, in its frame.
        fits: the places.
    """
    places = [laid(outline, fit.placement, fit.around) for fit in fits]
    places = [one for one in places if (one.tile >= 0).any()]
    if not places:
        return []
    stored = np.concatenate([one.tile >= 0 for one in places])
    points = np.concatenate([one.placement.in_query(one.middles) for one in places])
    turns = np.concatenate([np.tile(one.placement.turn, (len(one.tile), 1, 1)) for one in places])
    vectors = np.split(
        eye.vectors(points[stored], turns[stored]),
        np.cumsum([(one.tile >= 0).sum() for one in places])[:-1],
    )
    tissue = np.ones(len(stored), np.bool_)
    if not stored.all():
        tissue[~stored] = eye.tissue(points[~stored], turns[~stored])
    tissues = np.split(tissue, np.cumsum([len(one.tile) for one in places])[:-1])
    return [_checked(*of_one) for of_one in zip(places, vectors, tissues, strict=True)]


def laid(outline: Any, placement: Placement, around: Around, most: int = TILES) -> Laid:
    """Which tiles of the slide's grid a query lies on; an even sample of at most so many."""
    tile_px, stride_px = around.tile_px, around.stride_px
    patience.check()
    region = moved(outline, placement)
    low, high = np.split(np.array(region.bounds), 2)
    first = np.ceil((low - tile_px) / stride_px).astype(np.int64)
    last = np.floor(high / stride_px).astype(np.int64)
    columns, rows = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
    cells = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    middles = cells * float(stride_px) + tile_px / 2
    share = shares(region, middles, tile_px)
    inside = np.flatnonzero(share >= min(LEAST_SHARE, share.max()))
    if len(inside) > most:
        inside = inside[np.linspace(0, len(inside) - 1, most).round().astype(np.int64)]
    return Laid(placement, around, middles[inside], share[inside], around.at(cells[inside]))


def _checked(one: Laid, vectors: NDArray[np.float32], tissue: NDArray[np.bool_]) -> Checked:
    stored = one.tile >= 0
    tiles = one.tile[stored]
    cosines = np.einsum("nd,nd->n", vectors, one.around.vectors[tiles])
    weight = one.share[stored]
    lacking = one.share[~stored & tissue].sum()
    return Checked(
        one.placement,
        one.around.box.slide_id,
        similarity=float(weight @ cosines / weight.sum()),
        coverage=float(weight.sum() / (weight.sum() + lacking)),
        row_ids=one.around.row_ids[tiles],
        cosines=cosines,
    )
