"""The largest cosines of each row of a block, ties by place: quicker than sorting or partitioning.

The columns are folded into groups. The k-th largest of a row's group maxima is a bar that k values
reach, and few more do: only these are sorted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FOLDS: Final = 32
_LEAST: Final = np.finfo(np.float32).min
_SORTED_PER_WANTED: Final = 4


def take_best(
    cosines: NDArray[np.float32], places: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    """Write the best of each row, best first, equal ones by place.

    Args:
        cosines: (B, G) float32; −inf is never taken.
        places: (B, k) to write columns into; left as it is where fewer can be taken.
        scores: (B, k) to write cosines into, likewise.
    """
    k = places.shape[1]
    reaching = cosines >= _bars(cosines, k)[:, None]
    several = len(cosines) > 1
    if several and np.count_nonzero(reaching) > _SORTED_PER_WANTED * k * len(cosines):
        half = len(cosines) // 2  # many alike: fewer rows at once, so that memory stays bounded
        take_best(cosines[:half], places[:half], scores[:half])
        take_best(cosines[half:], places[half:], scores[half:])
        return
    rows, columns = np.divmod(np.flatnonzero(reaching), cosines.shape[1])
    values = cosines[rows, columns]
    order = np.lexsort((-values, rows))  # stable: equal ones stay in order of place
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    order, rows, rank = order[rank < k], rows[rank < k], rank[rank < k]
    places[rows, rank] = columns[order]
    scores[rows, rank] = values[order]


def _bars(cosines: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """(B,) a value of each row that at least k values reach, and no −inf does."""
    width = cosines.shape[1]
    if width <= k:
        return np.full(len(cosines), _LEAST)
    groups = width // FOLDS
    if groups <= k:
        maxima = cosines
    else:
        folded = cosines[:, : FOLDS * groups].reshape(len(cosines), FOLDS, groups)
        maxima = folded.max(axis=1)
    kth = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k]
    return np.maximum(kth, _LEAST)
