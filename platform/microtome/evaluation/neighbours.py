"""The nearest images of a gallery by cosine: exact, in bounded memory, nobody's own group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.errors import VectorsInvalid
from microtome.evaluation.cosines import BLOCK_BYTES, scored_blocks, unit_vectors
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.selection import take_best

MISSING: Final = -1
"""The place of a neighbour that isn't there."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What every query found, best first.

    Attributes:
        places: (Q, k) int64, rows of the gallery; equal scores by place; `MISSING` (−1) fills a
            row whose query may find fewer than k.
        scores: (Q, k) float32, cosine similarity; −inf where missing.
        left_out: what each query could not find.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    left_out: LeftOut | None = None

    @property
    def depth(self) -> int:
        """How many were asked for."""
        return int(self.places.shape[1])


def nearest_in(
    gallery: NDArray[Any],
    queries: NDArray[Any],
    k: int,
    *,
    left_out: LeftOut | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Neighbours:
    """The `k` images of the gallery with the largest cosine to each query.

    Memory beyond the vectors and the answer: about twice `block_bytes`, and a copy of vectors that
    aren't float32 of unit length already. Scores are compared as float32 rounds them; of equal ones
    the lower place comes first.

    Args:
        gallery: (G, D) vectors, of any length; one of zeros has cosine 0 with everything.
        queries: (Q, D) vectors.
        k: how many; more than there are leaves the rest `MISSING`.
        left_out: what each query may not find; others take the place.
        block_bytes: memory for the cosines of a block of queries; a single one's are held at least.

    Raises:
        VectorsInvalid: vectors that hold NaN or infinity, or are of two lengths D.
        EvaluationError: groups for another number of vectors.
    """
    check_whole("k", k, least=1)
    check_lengths(gallery, queries)
    there = unit_vectors(gallery, "the gallery")
    asked = there if queries is gallery else unit_vectors(queries, "the queries")
    found = no_neighbours(len(queries), k, left_out)
    for rows, cosines in scored_blocks(there, asked, left_out, block_bytes):
        take_best(cosines, found.places[rows], found.scores[rows])
    return found


def no_neighbours(queries: int, k: int, left_out: LeftOut | None) -> Neighbours:
    """None found yet: room for the answer."""
    places = np.full((queries, k), MISSING, dtype=np.int64)
    return Neighbours(places, np.full((queries, k), -np.inf, dtype=np.float32), left_out)


def check_lengths(gallery: NDArray[Any], queries: NDArray[Any]) -> None:
    """Raise `VectorsInvalid` where queries and gallery can't be compared."""
    if gallery.shape[1:] != queries.shape[1:]:
        raise VectorsInvalid(
            f"the queries' vectors have {queries.shape[-1]} values and the gallery's "
            f"{gallery.shape[-1]}",
            remedy="Compare vectors of one model.",
        )
