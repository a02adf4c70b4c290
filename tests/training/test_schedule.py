"""Rates at moments that a reader can check."""

from __future__ import annotations

import pytest

from microtome_training.recipe_fit import ScheduleRecipe
from microtome_training.schedule import Clock, rate

COSINE = ScheduleRecipe("cosine", warmup_epochs=2)
RESTARTS = ScheduleRecipe("restarts", restart_epochs=3, lr_min=0.1)
STEPS = ScheduleRecipe("steps", milestones=(0.6, 0.8), factor=0.1)


@pytest.mark.parametrize(
    ("recipe", "epoch", "expected"),
    [  # of 10 epochs, the highest rate being 1
        (ScheduleRecipe("constant"), 7.0, 1.0),
        (COSINE, 0.0, 0.0),
        (COSINE, 1.0, 0.5),  # half warm
        (COSINE, 2.0, 1.0),
        (COSINE, 6.0, 0.5),  # half of what is left
        (COSINE, 10.0, 0.0),
        (RESTARTS, 0.0, 1.0),
        (RESTARTS, 1.5, 0.55),  # half way from 1 to 0.1
        (RESTARTS, 3.0, 1.0),  # anew
        (RESTARTS, 7.5, 0.55),
        (STEPS, 5.9, 1.0),
        (STEPS, 6.0, 0.1),
        (STEPS, 8.0, 0.01),
    ],
)
def test_rate(recipe: ScheduleRecipe, epoch: float, expected: float) -> None:
    assert rate(recipe, 1.0, Clock(10, epoch)) == pytest.approx(expected)


def test_the_least_rate_never_lifts_a_lower_one() -> None:
    assert rate(RESTARTS, 0.01, Clock(10, 1.5)) == pytest.approx(0.01)
