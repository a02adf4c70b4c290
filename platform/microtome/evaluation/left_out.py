"""What a query may not find: its own image, its own slide or its own case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from microtome.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Groups by number: a query never finds an image whose number is its own.

    Attributes:
        queries: (Q,) int64, the group of each query.
        gallery: (G,) int64, the group of each image of the gallery.
    """

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]

    @classmethod
    def within(cls, groups: Sequence[str | None]) -> Self:
        """A set asks itself: each image finds those of other groups; None is a group of its own."""
        numbers = group_numbers(groups)
        return cls(numbers, numbers)

    def check(self, queries: int, gallery: int) -> None:
        """Raise `EvaluationError` unless there is a group for each of so many vectors."""
        if (len(self.queries), len(self.gallery)) != (queries, gallery):
            raise EvaluationError(
                f"groups were given for {len(self.queries):,} queries and {len(self.gallery):,} "
                f"images of the gallery, but there are {queries:,} and {gallery:,}"
            )


def group_numbers(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """(N,) a number for each group, that of its first member; what has none is one of its own."""
    first: dict[str, int] = {}
    numbers = (i if x is None else first.setdefault(x, i) for i, x in enumerate(groups))
    return np.fromiter(numbers, np.int64, len(groups))


def findable(
    query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64], left_out: LeftOut | None
) -> NDArray[np.int64]:
    """(Q,) int64: R, how many images of its own class each query may find.

    With labels that are all alike it is how many images the query may find at all.

    Raises:
        EvaluationError: groups for another number of images.
    """
    if left_out is not None:
        left_out.check(len(query_labels), len(gallery_labels))
    relevant = occurrences(query_labels, gallery_labels)
    if left_out is None:
        return relevant
    classes = 1 + max(query_labels.max(initial=0), gallery_labels.max(initial=0))
    groups = np.concatenate([left_out.queries, left_out.gallery])
    of_query, of_gallery = np.split(
        np.unique(groups, return_inverse=True)[1], [len(left_out.queries)]
    )
    return relevant - occurrences(
        of_query * classes + query_labels, of_gallery * classes + gallery_labels
    )


def occurrences(wanted: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how often each of the (N,) `wanted` occurs in `among`."""
    ordered = np.sort(among)
    last, first = (np.searchsorted(ordered, wanted, side) for side in ("right", "left"))
    occurrences: NDArray[np.int64] = last - first
    return occurrences
