"""Retrieval measured by hand, and against a slow loop that anyone can read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from microtome.errors import TrainingDiverged
from microtome_training.validation import retrieval


def on_circle(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_by_hand() -> None:
    # Angles 0, 10, 30, 70; classes a a b a. Nearest of 0 is 10 (right), of 10 is 0 (right), of 30
    # is 10 (wrong), which has no peer and doesn't count, of 70 is 30 (wrong).
    found = retrieval(on_circle(0, 10, 30, 70), np.array([0, 0, 1, 0]), [None] * 4)
    assert found.queries == 3
    assert found.recall_at_1 == pytest.approx(2 / 3)
    # R = 2 each. 0: right, wrong → 1/2. 10: right, wrong → 1/2. 70: wrong, right → (1/2)/2.
    assert found.map_at_r == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)


def test_one_s_own_group_is_left_out() -> None:
    vectors, labels = on_circle(0, 1, 50, 90), np.array([0, 0, 1, 0])
    alone = retrieval(vectors, labels, ["s", "s", "t", "u"])
    assert alone.recall_at_1 == 0  # their twins of group s would have been right
    assert retrieval(vectors, labels, [None] * 4).recall_at_1 == pytest.approx(2 / 3)


def test_classes_of_one_group_ask_for_nothing() -> None:
    assert retrieval(on_circle(0, 1), np.array([0, 0]), ["s", "s"]).to_metrics() == {"queries": 0}


def test_a_model_that_makes_no_numbers_has_diverged() -> None:
    with pytest.raises(TrainingDiverged, match="1 of the 2 vectors"):
        retrieval(on_circle(0, float("nan")), np.array([0, 0]), [None] * 2)


def test_against_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(60, 5))), dim=1)
    labels, groups = random.integers(0, 4, 60), [f"g{i}" for i in random.integers(0, 12, 60)]
    first, precision = [], []
    for i in range(60):
        others = [j for j in range(60) if groups[j] != groups[i]]
        others.sort(key=lambda j: -float(vectors[i] @ vectors[j]))
        right = [labels[j] == labels[i] for j in others]
        r = sum(right)
        first.append(right[0])
        precision.append(sum(right[k] * sum(right[: k + 1]) / (k + 1) for k in range(r)) / r)
    found = retrieval(vectors, labels, groups)
    assert found.recall_at_1 == pytest.approx(np.mean(first))
    assert found.map_at_r == pytest.approx(np.mean(precision))
