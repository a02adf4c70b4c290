"""Learning rates as a function of time alone: nothing to store, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass

from microtome_training.recipe_fit import ScheduleRecipe


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a run stands.

    Attributes:
        epochs: of the whole run.
        epoch: now, a fraction within an epoch: 1.5 is half through the second.
    """

    epochs: int
    epoch: float


def rate(recipe: ScheduleRecipe, highest: float, now: Clock) -> float:
    """The learning rate at a moment.

    Args:
        recipe: how rates move.
        highest: the rate that the optimiser was given.
        now: the moment.
    """
    if now.epoch < recipe.warmup_epochs:
        return highest * now.epoch / recipe.warmup_epochs
    lowest = min(recipe.lr_min, highest)
    if recipe.kind == "cosine":
        length = max(now.epochs - recipe.warmup_epochs, 1e-9)
        return lowest + (highest - lowest) * _cosine((now.epoch - recipe.warmup_epochs) / length)
    if recipe.kind == "restarts":
        length = recipe.restart_epochs
        past = (now.epoch - recipe.warmup_epochs) % length
        return lowest + (highest - lowest) * _cosine(past / length)
    if recipe.kind == "steps":
        passed = sum(now.epoch >= share * now.epochs for share in recipe.milestones)
        return max(lowest, highest * recipe.factor**passed)
    return highest


def _cosine(share: float) -> float:
    """From 1 at the start to 0 at the end (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    return (1 + math.cos(math.pi * min(share, 1.0))) / 2
