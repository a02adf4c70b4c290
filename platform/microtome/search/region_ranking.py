"""From placements that were compared to the regions that are shown: apart, spread, good enough.

Of placements that overlap the best stays. A spread search walks down what is left and passes over
regions whose slide, case or site has its share. A look at the atlas names but so many places, and
all of them may lie on one slide. So where hits are lacking and something was filled, that is left
out of a further look; each fills one slide, case or site at least, hence it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from microtome.search.filters import none_of
from microtome.search.region_check import Checked
from microtome.search.region_placement import iou, moved
from microtome.search.region_result import RegionSettings
from microtome.search.spread import Spread, fewer, values_of, within
from microtome.slides.slide import Scalar

Look = Callable[[str], list[Checked]]
"""Compares the places that tiles name which fulfil a further condition; it is empty for all."""


@dataclass(frozen=True, slots=True)
class RankedRegions:
    """The regions that answer a query.

    Attributes:
        best: those that are shown, best first.
        first: all that the first look compared.
        note: why they are fewer than wanted; empty where they aren't.
    """

    best: list[Checked]
    first: list[Checked]
    note: str = ""


def rank(outline: Any, tiles: Any, look: Look, settings: RegionSettings) -> RankedRegions:
    """The regions that answer a query.

    Args:
        outline: its polygon, in its frame.
        tiles: the Lance dataset.
        look: finds and compares them.
        settings: say k, `most_overlap`, `spread` and `min_score`.
    """
    least = -math.inf if settings.min_score is None else settings.min_score
    missed: float | None = None

    def good(found: list[Checked]) -> list[Checked]:
        """Those of a look that score enough, the best first, apart."""
        nonlocal missed
        enough = [one for one in found if one.score >= least]
        missed = least if len(enough) < len(found) else None
        return _apart(outline, enough, settings.most_overlap)

    first = look("")
    best, spread = good(first), settings.spread
    if spread is not None:
        best = _spread_out(best, tiles, spread, settings.k, lambda others: good(look(others)))
    note = fewer(len(best), settings.k, "no more places were found", spread, missed)
    return RankedRegions(best[: settings.k], first, note)


def _spread_out(
    found: list[Checked], tiles: Any, spread: Spread, k: int, further: Look
) -> list[Checked]:
    """The best of which no more than allowed have one value, k of them where there are so many.

    Args:
        found: by the first look.
        tiles: the Lance dataset.
        spread: what is allowed.
        k: how many are wanted.
        further: looks for others that fulfil a condition.
    """
    kept: list[Checked] = []  # of values that are full
    full: list[Scalar] = []
    while True:
        values = values_of(tiles, np.array([one.row_ids[0] for one in found]), spread.column)
        # The query's own place is looked at every time.
        new = [place for place, value in enumerate(values) if value not in full]
        found, values = [found[place] for place in new], [values[place] for place in new]
        places, filled = within(values, spread.most)
        if len(kept) + len(places) >= k or not filled:
            return sorted([*kept, *(found[place] for place in places)], key=_order)
        kept += [found[place] for place in places if values[place] in filled]
        full += filled
        found = further(none_of(spread.column, full))


def _apart(outline: Any, found: list[Checked], most_overlap: float) -> list[Checked]:
    """The best first, none that overlaps a better one by more than allowed."""
    kept: list[tuple[Any, Checked]] = []
    for one in sorted(found, key=_order):
        region = moved(outline, one.placement)
        if not any(
            better.slide_id == one.slide_id and iou(region, there) > most_overlap
            for there, better in kept
        ):
            kept.append((region, one))
    return [one for _, one in kept]


def _order(one: Checked) -> tuple[float, str, float]:
    return -one.score, one.slide_id, one.placement.x
