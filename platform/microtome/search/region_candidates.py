"""Placements that are worth a closer look: votes for spots, then the best fits around each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from microtome.atlas.atlas import Atlas
from microtome.search import patience
from microtome.search.region_around import Box, Stored, most_tiles
from microtome.search.region_asked import LookedAt
from microtome.search.region_bank import Bank
from microtome.search.region_fit import Fit, fitted
from microtome.search.region_near import Near, Places, level0_px_per_grid_px, places_of
from microtome.search.region_placement import iou, moved
from microtome.search.region_votes import Matches, spots

SPOTS: Final = 32
"""Looked at in any case."""

READ: Final = 1 << 18
"""Tiles that may be read around further spots, where more hits are asked for."""

FITS_PER_SPOT: Final = 2

ALIKE: Final = 0.7
"""Placements whose outlines agree so much (intersection over union) are looked at once."""

SAME_PLACE: Final = 0.3
PER_PLACE: Final = 3
"""Placements of which each has `SAME_PLACE` in common with the best of them."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where candidates are looked for: an atlas, and its tiles as they are read."""

    atlas: Atlas
    stored: Stored


def candidates(
    field: Field, asked: LookedAt, banks: tuple[Bank, Bank], near: Near, most: int
) -> list[Fit]:
    """The query's own place first, where it has one; then the best, no two of them nearly the same.

    Args:
        field: where.
        asked: the query.
        banks: its vectors, and those of them, V views of P points, that call for votes.
        near: the tiles nearest to each of these V · P vectors.
        most: how many, beside its own.
    """
    bank, voters = banks
    bin_px = _bin_px(field, asked)
    home = _home(field, asked)
    own, others = [], []
    for compared in field.stored.compared(
        [*home, *_boxes(field, asked, voters, near, 2 * most)], bank.all_vectors
    ):
        for box in compared.boxes:
            if asked.own is not None and box in home:
                own.append(Fit(asked.own, compared.around, 1.0))
            else:
                fits = fitted(bank, compared, box, asked.reach_px, 1.5 * bin_px)
                others += fits[:FITS_PER_SPOT]
    return own + _distinct(asked.outline, sorted(others, key=lambda fit: -fit.agreement), most)


def _bin_px(field: Field, asked: LookedAt) -> float:
    """Of votes; a turn of 7° moves a corner of the query by an eighth of its reach."""
    return max(field.stored.grid.tile_px / 2, asked.reach_px / 10)


def _boxes(field: Field, asked: LookedAt, voters: Bank, near: Near, most: int) -> list[Box]:
    """Around the spots with most votes: the fewer, down to `SPOTS`, the more tiles they hold."""
    grid, bin_px = field.stored.grid, _bin_px(field, asked)
    reach_px = asked.reach_px + 2.5 * bin_px + grid.tile_px
    most = max(SPOTS, min(most, READ // most_tiles(reach_px, grid.stride_px)))
    places = places_of(field.atlas, field.stored.tiles, near.row_ids)
    found = spots(voters.points, matches_of(voters, near, places), bin_px, most)
    return [
        Box(places.slide_ids[spot.slide], spot.x, spot.y, reach_px, places.factors[spot.slide])
        for spot in found
    ]


def _home(field: Field, asked: LookedAt) -> list[Box]:
    """Where a drawn region lies itself, if its slide is in the atlas: found without looking."""
    if asked.own is None or asked.slide_id is None:
        return []
    factor = level0_px_per_grid_px(field.atlas, [asked.slide_id])[asked.slide_id]
    reach_px = asked.reach_px + 1.5 * field.stored.grid.tile_px
    return [Box(asked.slide_id, asked.own.x, asked.own.y, reach_px, factor)]


def matches_of(bank: Bank, near: Near, places: Places) -> Matches:
    """Pairs of points and tiles; the last tile found for a point is what its others are held to."""
    rows, scores = near.row_ids[:, :-1], near.scores[:, :-1]
    vector, _ = there = np.nonzero(rows >= 0)
    # Where there are too few tiles for a last one, the least alike that there is takes its place.
    least = near.scores.min(axis=1, where=near.row_ids >= 0, initial=1)
    place = np.searchsorted(places.row_ids, rows[there])
    points = len(bank.points)
    return Matches(
        point=vector % points,
        view=np.full(len(vector), -1) if bank.blind else vector // points,
        slide=places.slide[place],
        place=places.middles[place],
        weight=(scores[there] - least[vector]).astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class _Laid:
    """A fit and the outline where it lays it."""

    fit: Fit
    region: Any

    def iou(self, other: _Laid) -> float:
        if self.fit.around.slide_id != other.fit.around.slide_id:
            return 0.0
        return iou(self.region, other.region)


def _distinct(outline: Any, fits: Iterable[Fit], most: int) -> list[Fit]:
    """The best fits, few of each place, so that other places have their turn."""
    places: list[list[_Laid]] = []
    for fit in fits:
        patience.check()
        one = _Laid(fit, moved(outline, fit.placement))
        place = next((there for there in places if there[0].iou(one) > SAME_PLACE), None)
        if place is None:
            places.append([one])
        elif len(place) < PER_PLACE and all(known.iou(one) < ALIKE for known in place):
            place.append(one)
    kept = sorted((one.fit for place in places for one in place), key=lambda fit: -fit.agreement)
    return kept[:most]
