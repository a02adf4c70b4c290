"""The best of each row, against sorting the whole row."""

from __future__ import annotations

import numpy as np
import pytest

from microtome.evaluation.selection import take_best


def sorted_whole(cosines, k):
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


def taken(cosines, k):
    places = np.full((len(cosines), k), -1)
    scores = np.full((len(cosines), k), -np.inf, np.float32)
    take_best(cosines, places, scores)
    return places, scores


@pytest.mark.parametrize("k", [1, 3, 10, 100])
@pytest.mark.parametrize("columns", [100, 101, 400, 5000])  # folded or not
@pytest.mark.parametrize("values", [10**9, 50, 2, 1])  # of 2 values, nearly all are ties
def test_as_if_whole_rows_were_sorted(k, columns, values):
    random = np.random.default_rng(columns + k)
    cosines = (random.integers(0, values, (7, columns)) / values).astype(np.float32)
    places, scores = sorted_whole(cosines, k)
    found_places, found_scores = taken(cosines, k)
    np.testing.assert_array_equal(found_scores, scores)
    np.testing.assert_array_equal(found_places, places)


def test_what_may_not_be_found_is_never_taken():
    cosines = np.full((3, 4000), -np.inf, np.float32)
    cosines[1, [5, 3999]] = 0.5, -1
    places, scores = taken(cosines, 3)
    assert places.tolist() == [[-1, -1, -1], [5, 3999, -1], [-1, -1, -1]]
    assert scores[1].tolist() == [0.5, -1, -np.inf]
