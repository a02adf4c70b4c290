"""Placements that are worth a closer look: votes for spots, then the best fits around each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.search import patience
from microtome.search.region_around import Around, Box, read_around
from microtome.search.region_asked import LookedAt
from microtome.search.region_bank import Bank
from microtome.search.region_fit import Fit, fitted
from microtome.search.region_near import Near, Places, level0_px_per_grid_px, places_of
from microtome.search.region_placement import iou, moved
from microtome.search.region_votes import Matches, spots

SPOTS: Final = 32
FITS_PER_SPOT: Final = 2

ALIKE: Final = 0.7
"""Placements whose outlines agree so much (intersection over union) are looked at once."""

SAME_PLACE: Final = 0.3
PER_PLACE: Final = 3
"""Placements of which each has `SAME_PLACE` in common with the best of them."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where candidates are looked for.

    Attributes:
        atlas: the atlas.
        tiles: its Lance dataset of tiles.
        model_id: whose vectors are compared.
        where: condition on tiles.
    """

    atlas: Atlas
    tiles: Any
    model_id: str
    where: str | None


def candidates(
    field: Field, asked: LookedAt, banks: tuple[Bank, Bank], near: Near, most: int
) -> list[Fit]:
    """The best placements, at most so many, no two of them nearly the same.

    Args:
        field: where.
        asked: the query.
        banks: its vectors, and those of them, V views of P points, that call for votes.
        near: the tiles nearest to each of these V · P vectors.
        most: how many.
    """
    grid, (bank, voters) = field.atlas.grid, banks
    bin_px = max(grid.tile_px / 2, asked.reach_px / 10)  # a turn of 7° moves a corner by an eighth
    places = places_of(field.atlas, field.tiles, near.row_ids)
    found = spots(voters.points, matches_of(voters, near, places), bin_px, max(SPOTS, 2 * most))
    reach_px = asked.reach_px + 2.5 * bin_px + grid.tile_px
    boxes = [
        Box(places.slide_ids[spot.slide], spot.x, spot.y, reach_px, places.factors[spot.slide])
        for spot in found
    ]
    fits = [
        fit
        for around in _around(field, boxes)
        for fit in fitted(bank, around, asked.reach_px, 1.5 * bin_px)[:FITS_PER_SPOT]
    ]
    return _distinct(asked.outline, sorted(fits, key=lambda fit: -fit.agreement), most)


def own_place(field: Field, asked: LookedAt) -> list[Fit]:
    """Where a drawn region lies itself, if its slide is in the atlas: found without looking."""
    if asked.own is None or asked.slide_id is None:
        return []
    factor = level0_px_per_grid_px(field.atlas, [asked.slide_id])[asked.slide_id]
    reach_px = asked.reach_px + 1.5 * field.atlas.grid.tile_px
    box = Box(asked.slide_id, asked.own.x, asked.own.y, reach_px, factor)
    return [Fit(asked.own, around, 1.0) for around in _around(field, [box])]


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


def _around(field: Field, boxes: list[Box]) -> list[Around]:
    column = vector_column(field.model_id)
    return read_around(field.tiles, column, field.atlas.grid, boxes, field.where)


@dataclass(frozen=True, slots=True)
class _Laid:
    """A fit and the outline where it lays it."""

    fit: Fit
    region: Any

    def iou(self, other: _Laid) -> float:
        if self.fit.around.box.slide_id != other.fit.around.box.slide_id:
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
