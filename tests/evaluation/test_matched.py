"""The matched control: by eye, and against drawing many times."""

from __future__ import annotations

import numpy as np
import pytest

from microtome.evaluation.matched import matched_recall

# Image 0 asks: class a, group p. Of p are 0, 1 (a) and 2 (b); of others 3, 4 (a) and 5, 6 (b).
LABELS = np.array([0, 0, 1, 0, 0, 1, 1])
GROUPS = np.array([0, 0, 0, 1, 2, 1, 2])


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([1, 3], 1),  # its own patient's: another's is taken, not this one
        ([3, 1], 1),  # 3 is taken half the time; then 1 is there
        ([3, 5, 6, 4], 1 / 2 + 0),  # 3 is there half the time, else 5 or 6 comes first
        ([5, 3, 2], 1 / 2 * 1 / 2),  # 5 is taken half the time, then 3 half the time
        ([5, 6, 3, 1], 0),  # of 5 and 6 one alone is taken
        ([2, 1], 0),
        ([3, -1], 1 / 2),  # what lies beyond wasn't looked at
    ],
)
def test_one_query_by_eye(near: list[int], expected: float) -> None:
    places = np.full((7, 4), -1)
    places[0, : len(near)] = near
    assert matched_recall(places, LABELS, GROUPS)[0] == pytest.approx(expected)


def test_against_drawing_many_times() -> None:
    """Groups larger than what there is elsewhere too."""
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 3, 24), random.integers(0, 4, 24)
    labels[groups == 0] = 0
    places = np.array([random.permutation(np.delete(np.arange(24), row)) for row in range(24)])

    drawn = np.mean([_drawn(places, labels, groups, random) for _ in range(400)], axis=0)

    np.testing.assert_allclose(matched_recall(places, labels, groups), drawn, atol=0.1)


def _drawn(
    places: np.ndarray, labels: np.ndarray, groups: np.ndarray, random: np.random.Generator
) -> list[float]:
    right = []
    for query, near in enumerate(places):
        taken: set[int] = set()
        for label in range(3):
            of_class = [one for one in near if labels[one] == label]
            own = [one for one in of_class if groups[one] == groups[query]]
            others = [one for one in of_class if groups[one] != groups[query]]
            taken.update(random.permutation(others)[: len(own)])
            taken.update(random.permutation(own)[: max(0, len(own) - len(others))])
        first = next((one for one in near if one not in taken), None)
        right.append(float(first is not None and labels[first] == labels[query]))
    return right
