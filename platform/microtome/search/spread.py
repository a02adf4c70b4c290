"""Hits spread over slides, cases or sites, instead of all from the one that looks most alike.

The ranking is walked from its best end, and a tile passed over where its slide, case or site has
its share of the hits already. How deep that leads nobody knows beforehand: the nearest thousand
tiles may all be of one case. So whenever a walk ends short, those that have their share are left
out of the next search, which goes twice as deep. Each round fills one of them at least, hence it
ends, with k hits or with everything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.errors import SettingError
from microtome.search.exact import Nearest, best_rows
from microtome.search.filters import none_of, unless_nan
from microtome.slides.slide import Scalar

DEEPEST: Final = 1024
"""A round goes at most so deep (or k): beyond it, leaving out what is full is cheaper."""


@dataclass(frozen=True, slots=True)
class Spread:
    """At most so many hits that have the same value in a column.

    A tile of which the value is unknown (null) is alike to none: any number of them may be found.

    Attributes:
        column: `slide_id`, `case_id` or a manifest column.
        most: hits per value.
    """

    column: str
    most: int = 1

    def __post_init__(self) -> None:
        check_whole("spread", self.most, least=1)

    def __str__(self) -> str:
        return f"{self.column}={self.most}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `COLUMN=N`.

        Raises:
            SettingError: it is none, or N is no whole number from 1 on.
        """
        column, _, most = text.rpartition("=")
        if not (column and most.strip().isdecimal()):
            raise SettingError(
                f"spread must be COLUMN=N, not {text!r}", remedy="Write case_id=2, for instance."
            )
        return cls(column.strip(), int(most))


def spread_out(
    tiles: Any,
    spread: Spread,
    k: int,
    find: Callable[[int, str], Nearest],
    min_score: float = -math.inf,
) -> Nearest:
    """The best k tiles of which no more than allowed have one value.

    Args:
        tiles: the Lance dataset.
        spread: what is allowed.
        k: how many are wanted; fewer are returned only where there are no more.
        find: finds the nearest so many of the tiles that fulfil a further condition, which is
            empty for all.
        min_score: tiles below it aren't looked for.

    Returns:
        What was found; `seen` and `scored` are those of the first search, of all tiles.
    """
    depth = k
    near = first = find(depth, "")
    full: list[Scalar] = []
    row_ids, scores = near.row_ids[:0], near.scores[:0]  # of values that are full
    while True:
        values = values_of(tiles, near.row_ids, spread.column)
        kept, filled = within(values, spread.most)
        nothing_left = len(near.row_ids) < depth or near.scores[-1] < min_score
        done = nothing_left or len(row_ids) + len(kept) >= k
        taken = kept if done else [place for place in kept if values[place] in filled]
        row_ids = np.concatenate([row_ids, near.row_ids[taken]])
        scores = np.concatenate([scores, near.scores[taken]])
        if done:
            best = best_rows(tiles, row_ids, scores, k)
            return replace(first, row_ids=best[0], scores=best[1])
        full += filled
        depth = max(k, min(2 * depth, DEEPEST))
        near = find(depth, none_of(spread.column, full))


def fewer(found: int, k: int, why: str, spread: Spread | None, least: float | None) -> str:
    """Why hits are fewer than wanted; empty where they aren't.

    Args:
        found: how many there are.
        k: how many were wanted.
        why: the reason where none scored too little.
        spread: what was allowed, if anything was.
        least: the score that others didn't reach; None where none scored too little.
    """
    if found >= k:
        return ""
    if least is not None:
        why = f"no other scores {least:g} or more"
    elif spread is not None:
        why += f" with at most {spread.most} of each {spread.column}"
    return f"{found:,} of {k:,} hits: {why}"


def values_of(tiles: Any, row_ids: NDArray[np.uint64], column: str) -> list[Scalar]:
    """What a column holds in each of some rows; None where that is unknown."""
    taken = tiles._take_rows(row_ids.tolist(), columns=[column])
    found: list[Scalar] = taken[column].to_pylist()
    return [unless_nan(value) for value in found]


def within(values: Sequence[Scalar], most: int) -> tuple[list[int], list[Scalar]]:
    """Places of the first `most` of each value, and the values that have so many."""
    counts: Counter[Scalar] = Counter()
    kept = []
    for place, value in enumerate(values):
        if value is None or counts[value] < most:
            kept.append(place)
            counts[value] += 1
    return kept, [value for value in counts if value is not None and counts[value] >= most]
