"""Which class most of the nearest neighbours are of."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_CLASS: Final = -1
"""The label of a neighbour that is missing, and what a query without a certain class is given."""

_AT_ONCE: Final = 1 << 22  # of labels


def majority(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q,) int64: the class of each query, by the votes of its neighbours.

    The class with most votes wins, a plurality, as in Yottixel's and SISH's "mMV@k" (which take it
    by `Counter.most_common`); of classes with equally many votes the one whose nearest member is
    nearest. An empty slot may have held any class, so it counts for whoever comes next: a class is
    given only if it wins whatever the empty slots are filled with, else `NO_CLASS`. So finding
    fewer never scores better than finding anything (SISH asks for k/2 votes then, Lahr et al.'s
    comparison drops such queries from the mean, and there failing raises it).

    Args:
        labels: (Q, k) int64, labels of the neighbours, nearest first; `NO_CLASS` where missing.
    """
    classes = np.full(len(labels), NO_CLASS, dtype=np.int64)
    rows_at_once = max(1, _AT_ONCE // max(1, labels.shape[1]))
    for start in range(0, len(labels), rows_at_once):
        classes[start : start + rows_at_once] = _majority(labels[start : start + rows_at_once])
    return classes


def _majority(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    there = labels != NO_CLASS
    empty = (~there).sum(axis=1)
    votes = _votes(labels) * there
    slot = votes.argmax(axis=1)  # of equally many the first, which is the nearest
    rows = np.arange(len(labels))
    winner, most = labels[rows, slot], votes[rows, slot]
    # A rival that fills the empty slots must overtake the winner, or draw level from a nearer slot.
    nearer = np.arange(labels.shape[1]) < slot[:, None]
    rivals = there & (labels != winner[:, None])
    strongest = np.where(rivals, votes + nearer, 0).max(axis=1) + empty
    chosen: NDArray[np.int64] = np.where(strongest <= most, winner, NO_CLASS)
    return chosen


def _votes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, k) how often each label occurs in its row."""
    keys = labels - labels.min() + np.arange(len(labels))[:, None] * (np.ptp(labels) + 1)
    _, number, counts = np.unique(keys, return_inverse=True, return_counts=True)
    votes: NDArray[np.int64] = counts[number].reshape(labels.shape)
    return votes
