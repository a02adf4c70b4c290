"""Which queries to look at: those answered best and worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.evaluation.collection import Collection
from microtome.evaluation.evaluate import Outcome
from microtome.evaluation.neighbours import MISSING


@dataclass(frozen=True, slots=True)
class Found:
    """One neighbour of an example.

    Attributes:
        place: in the collection.
        score: cosine.
        right: whether it is of the query's class.
    """

    place: int
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Example:
    """A query and what it found.

    Attributes:
        place: of the query in the collection.
        precision: its average precision at R.
        found: nearest first.
    """

    place: int
    precision: float
    found: tuple[Found, ...]


def best_and_worst(
    collection: Collection, outcome: Outcome, count: int, depth: int
) -> tuple[list[Example], list[Example]]:
    """The queries of highest and of lowest average precision at R, one of each group.

    Of equally good ones those with the nearest neighbour come first: the surest rights, and the
    surest wrongs. A query that has nothing to find is in neither.

    Args:
        collection: that was asked.
        outcome: of one contender.
        count: of each kind at most; none is in both.
        depth: neighbours of each.
    """
    precision = outcome.scores.per_query["mAP@R"]
    surest = outcome.neighbours.scores[:, 0]
    asked = np.flatnonzero(~np.isnan(precision))
    from_best = asked[np.lexsort((-surest[asked], -precision[asked]))]
    from_worst = asked[np.lexsort((-surest[asked], precision[asked]))]
    groups = collection.group_ids[outcome.arm.queries]
    best = _one_of_each(from_best, groups, min(count, (len(asked) + 1) // 2))
    worst = _one_of_each(from_worst[~np.isin(from_worst, best)], groups, count)
    chosen = [[_example(collection, outcome, q, depth) for q in side] for side in (best, worst)]
    return chosen[0], chosen[1]


def _one_of_each(order: NDArray[np.int64], groups: NDArray[np.int64], count: int) -> list[int]:
    first = np.unique(groups[order], return_index=True)[1]
    return [int(query) for query in order[np.sort(first)[:count]]]


def _example(collection: Collection, outcome: Outcome, query: int, depth: int) -> Example:
    arm, near = outcome.arm, outcome.neighbours
    place = int(arm.queries[query])
    found = [
        Found(
            int(arm.gallery[row]),
            float(score),
            bool(collection.labels[arm.gallery[row]] == collection.labels[place]),
        )
        for row, score in zip(near.places[query, :depth], near.scores[query, :depth], strict=True)
        if row != MISSING
    ]
    return Example(place, float(outcome.scores.per_query["mAP@R"][query]), tuple(found))
