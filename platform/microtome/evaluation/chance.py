"""What a ranking at random scores: the floor that a figure stands on.

It follows from the set's make-up alone. Of E images that a query may find, R are of its class; then
P(1) is R/E on average, and some of the first k is right with probability 1 − C(E−R, k) / C(E, k).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def recall_by_chance(
    to_find: NDArray[np.int64], eligible: NDArray[np.int64], ks: Iterable[int]
) -> dict[str, float]:
    """Expected `R@k` of a random order.

    Args:
        to_find: (Q,) R of each query.
        eligible: (Q,) E of each query.
        ks: how many neighbours are looked at.

    Returns:
        Mean over all queries by metric; a query that may find nothing counts as wrong.
    """
    wrong = (eligible - to_find).astype(np.float64)
    none_right = np.ones(len(to_find))
    found, chances = 0, {}
    for k in sorted(ks):
        for drawn in range(found, k):
            left = np.maximum(eligible - drawn, 1)
            none_right *= np.where(eligible > drawn, np.maximum(wrong - drawn, 0) / left, 1)
        found = k
        chances[f"R@{k}"] = float(np.mean(1 - none_right))
    return chances
