"""From what is near to what is shown: spread over a column, and nothing below the least score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.search.exact import Nearest
from microtome.search.filters import all_of
from microtome.search.finder import Finder, View, Wanted
from microtome.search.result import SearchSettings
from microtome.search.spread import fewer, spread_out

MOST_OPEN: Final = 0.1  # of the rows of an index; with more outside of it a search says so

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The tiles that answer a query.

    Attributes:
        nearest: those that are shown.
        best: score of the best of all, shown or not; None where there was none to find.
        note: why they are fewer than wanted; empty where they aren't.
    """

    nearest: Nearest
    best: float | None
    note: str = ""


def rank(
    finder: Finder,
    view: View,
    queries: Sequence[Vectors],
    wanted: Wanted,
    settings: SearchSettings,
) -> list[Ranked]:
    """The tiles that answer each query, in the order of the queries.

    Args:
        finder: of the model.
        view: what is searched.
        queries: each (Q, D) float32 of unit length, of whose cosines the best counts.
        wanted: what of it.
        settings: say `spread` and `min_score`.
    """
    least = -math.inf if settings.min_score is None else settings.min_score
    if settings.spread is None:
        found = finder.find(view, queries, wanted)
    else:

        def find(query: Vectors, k: int, condition: str) -> Nearest:
            further = replace(wanted, k=k, where=all_of(wanted.where or "", condition))
            return finder.find(view, [query], further)[0]

        found = [
            spread_out(view.tiles, settings.spread, wanted.k, partial(find, query), least)
            for query in queries
        ]
    return [_shown(near, least, settings) for near in found]


def _shown(near: Nearest, least: float, settings: SearchSettings) -> Ranked:
    best = near.scores[0].item() if len(near.scores) else None
    good = near.scores >= least
    near = replace(near, row_ids=near.row_ids[good], scores=near.scores[good])
    why, missed = "there are no more tiles to search", None if good.all() else least
    return Ranked(near, best, fewer(len(near.row_ids), settings.k, why, settings.spread, missed))


def about_index(view: View, settings: SearchSettings) -> str:
    """What to say about the index of a search; empty where it did its work, or wasn't asked."""
    if settings.exact:
        return ""
    if view.problem:
        return (
            f"the index can't be used: {view.problem}; every vector was compared. "
            "`microtome maintain` builds it anew"
        )
    if view.standing and view.standing.open_rows > MOST_OPEN * view.standing.coded_rows:
        return (
            f"{view.standing.open_rows:,} tiles are not in the index and were compared one by one. "
            "`microtome maintain` adds them"
        )
    return ""


def about_vectors(near: Nearest) -> str:
    """What to say about tiles that have no vector; empty where all have."""
    if near.scored == near.seen:
        return ""
    return (
        f"{near.seen - near.scored:,} of {near.seen:,} tiles have no vector of this model "
        "and were not searched"
    )
