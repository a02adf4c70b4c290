"""Average precision at R, where R is as many neighbours as there are to be found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision_at_r(
    cosines: NDArray[np.float32], relevant: NDArray[np.bool_], to_find: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B,) AP@R = (1/R) Σ P(i)·rel(i) over the ranks i = 1 … R; NaN where R is 0.

    P(i) is the share of relevant ones among the first i, rel(i) is 1 where the i-th is relevant
    (Musgrave et al., "A Metric Learning Reality Check", arXiv 2003.08505, section 3.2).

    Args:
        cosines: (B, G) float32, −inf for what may not be found.
        relevant: (B, G), which images of the gallery are of the query's class.
        to_find: (B,) R, how many of these may be found.
    """
    precision = np.full(len(cosines), np.nan)
    for row in np.flatnonzero(to_find):
        precision[row] = _of_one(cosines[row], relevant[row], int(to_find[row]))
    return precision


def _of_one(cosines: NDArray[np.float32], relevant: NDArray[np.bool_], r: int) -> float:
    bar = np.partition(cosines, len(cosines) - r)[len(cosines) - r]
    nearest = np.flatnonzero(cosines >= bar)  # R, or more where some are as near as the R-th
    order = np.argsort(-cosines[nearest], kind="stable")[:r]
    ranks = np.flatnonzero(relevant[nearest[order]]) + 1
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks) / r)
