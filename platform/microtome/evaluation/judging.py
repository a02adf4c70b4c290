"""From vectors and labels to every metric, in one pass over the cosines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.errors import VectorsInvalid
from microtome.evaluation.average_precision import average_precision_at_r
from microtome.evaluation.cosines import BLOCK_BYTES, scored_blocks, unit_vectors
from microtome.evaluation.left_out import LeftOut, findable
from microtome.evaluation.metrics import KS, Scores, judge
from microtome.evaluation.neighbours import Neighbours, check_lengths, no_neighbours
from microtome.evaluation.selection import take_best

DEPTH: Final = 100
"""Neighbours that are kept of each query, where no metric asks for more."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Vectors and the classes of what they are of.

    Attributes:
        vectors: (N, D) of any length, compared by cosine.
        labels: (N,) int64 class of each, from 0.

    Raises:
        VectorsInvalid: another number of labels than of vectors.
    """

    vectors: NDArray[Any]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.labels):
            raise VectorsInvalid(f"{len(self.labels):,} labels for {len(self.vectors):,} vectors")


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, and what it is worth."""

    neighbours: Neighbours
    scores: Scores


def judge_vectors(
    queries: Labelled,
    gallery: Labelled,
    ks: Sequence[int] = KS,
    *,
    left_out: LeftOut | None = None,
    depth: int = DEPTH,
    advance: Callable[[int], object] = int,
) -> Judged:
    """Find the nearest of each query, and take every metric, mAP@R included.

    Args:
        queries: who asks.
        gallery: who is found; the same vectors where a set asks itself, with `left_out` then.
        ks: how many neighbours the metrics look at.
        left_out: what each query may not find.
        depth: neighbours that are kept, and that MRR looks at; at least the largest k are.
        advance: is told how many more queries were answered.

    Raises:
        VectorsInvalid: vectors that hold NaN or infinity, or are of two lengths.
        NothingToFind: there are no queries, or none has anything of its class to find.
        EvaluationError: labels or groups that don't fit.
    """
    check_lengths(gallery.vectors, queries.vectors)
    found = unit_vectors(gallery.vectors, "the gallery")
    asked = (
        found
        if queries.vectors is gallery.vectors
        else unit_vectors(queries.vectors, "the queries")
    )
    to_find = findable(queries.labels, gallery.labels, left_out)
    neighbours = no_neighbours(len(asked), max(depth, *ks), left_out)
    at_r = np.empty(len(asked))
    for rows, cosines in scored_blocks(found, asked, left_out, BLOCK_BYTES):
        take_best(cosines, neighbours.places[rows], neighbours.scores[rows])
        relevant = queries.labels[rows, None] == gallery.labels
        at_r[rows] = average_precision_at_r(cosines, relevant, to_find[rows])
        advance(len(cosines))
    return Judged(neighbours, judge(neighbours, queries.labels, gallery.labels, ks, at_r=at_r))
