"""R@1 with as many others left out as a query's group has: what a smaller gallery alone takes away.

Leaving a group out takes images of the query's class from the gallery. A class of few patients
loses many of them, so R@1 falls even if no image resembles those of its group more than others. The
matched control takes as many away without regard to resemblance: for every image of the group one
of its class that isn't of the group, drawn at random; where there are too few of these all of them,
and the rest from the group. If images of the group are like any others of their class, R@1 is on
average the same as with the group left out: what the control has more is the group's doing.

Nothing is drawn, the mean over all draws is exact: of N images n are taken; from the nearest on,
the next one was taken, where j before it were, with probability (n − j) / (N − j).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.evaluation.left_out import occurrences
from microtome.evaluation.neighbours import MISSING

_NEGLIGIBLE: Final = 1e-9


def matched_recall(
    places: NDArray[np.int64], labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) expected R@1 of each image of a set that asks itself.

    Args:
        places: (N, k) what each found, itself left out but not its group, nearest first; `MISSING`
            ends a row. Where all k may be taken away, that counts as wrong: never too high.
        labels: (N,) class of each, from 0.
        groups: (N,) number of each one's group.
    """
    sizes, numbers = np.bincount(labels), np.unique(groups, return_inverse=True)[1]
    members = np.sort(numbers * len(sizes) + labels)
    expected, all_taken = np.zeros(len(labels)), np.ones(len(labels))
    for rank in range(places.shape[1]):
        left = np.flatnonzero((all_taken > _NEGLIGIBLE) & (places[:, rank] != MISSING))
        near = places[left, : rank + 1]
        of, own = labels[near], numbers[near] == numbers[left, None]
        before = ((of == of[:, -1:]) & (own == own[:, -1:]))[:, :-1].sum(axis=1)
        of, own = of[:, -1], own[:, -1]
        in_group = occurrences(numbers[left] * len(sizes) + of, members)
        elsewhere = sizes[of] - in_group
        in_group -= of == labels[left]  # the query itself is never found
        there = np.where(own, in_group, elsewhere)
        taken = np.where(own, in_group - elsewhere, in_group)  # from the group only what lacks
        share = np.clip((taken - before) / np.maximum(1, there - before), 0, 1)
        expected[left] += all_taken[left] * (1 - share) * (of == labels[left])
        all_taken[left] *= share
    return expected
