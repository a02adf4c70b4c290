"""Average precision: at k, and at R, as many neighbours as there are to be found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(
    right: NDArray[np.bool_], to_find: NDArray[np.int64], k: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """(Q,) Σ P(i)·rel(i) for i ≤ k, over min(k, R); NaN where R is 0.

    Args:
        right: (Q, K) rel(i), nearest first; K at least k.
        to_find: (Q,) R.
        k: how many count, for all or (Q,) for each; R for mAP@R.
    """
    sums, most = precision_sums(right, k), np.minimum(k, to_find)
    values = np.full(len(right), np.nan)
    np.divide(sums, most, out=values, where=most > 0)
    return values


def precision_sums(right: NDArray[np.bool_], k: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """(Q,) Σ P(i)·rel(i) for i ≤ k; see `average_precision`."""
    ranks = np.arange(1, right.shape[1] + 1)
    terms = np.cumsum(right, axis=1) / ranks * right
    sums: NDArray[np.float64] = np.where(ranks <= np.reshape(k, (-1, 1)), terms, 0).sum(axis=1)
    return sums


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
    return float(precision_sums(relevant[nearest[order]][None], r)[0] / r)
