"""The parts of a recipe that say how weights move: optimiser, schedule, and the run of epochs."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from microtome.config import (
    Precision,
    check_choice,
    check_fraction,
    check_positive,
    check_whole,
)
from microtome.errors import SettingError

OptimiserKind = Literal["adamw", "adam", "sgd"]
ScheduleKind = Literal["constant", "cosine", "restarts", "steps"]


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    """The update rule.

    Attributes:
        kind: `adamw`, `adam` or `sgd` (momentum 0.9, Nesterov).
        lr: of the model.
        loss_lr: of the loss's own weights; None takes `lr`.
        backbone_lr: of a backbone that isn't frozen; None takes `lr`.
        weight_decay: of weights.
        decay_all: decay biases and norms too, as torch and the references do.
        amsgrad: as torch.
        clip_norm: largest norm of the gradient over all trained weights; None doesn't clip.
    """

    kind: OptimiserKind = "adamw"
    lr: float = 1e-3
    loss_lr: float | None = None
    backbone_lr: float | None = None
    weight_decay: float = 1e-4
    decay_all: bool = False
    amsgrad: bool = False
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(OptimiserKind))
        for name in ("lr", "loss_lr", "backbone_lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value)
        check_fraction("weight_decay", self.weight_decay)


@dataclass(frozen=True, slots=True)
class ScheduleRecipe:
    """How the rates move; see `schedule.rate`.

    Attributes:
        kind: `constant`; `cosine` to `lr_min` at the end; `restarts`, a cosine anew every
            `restart_epochs`; `steps`, times `factor` at each of `milestones`.
        warmup_epochs: over which rates rise from zero, may be a fraction.
        lr_min: least rate.
        restart_epochs: length of one cosine of `restarts`.
        milestones: of `steps`, as shares of all epochs.
        factor: of `steps`.
    """

    kind: ScheduleKind = "cosine"
    warmup_epochs: float = 0.0
    lr_min: float = 0.0
    restart_epochs: int = 3
    milestones: tuple[float, ...] = (0.6, 0.8)
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(ScheduleKind))
        check_not_negative("warmup_epochs", self.warmup_epochs)
        check_not_negative("lr_min", self.lr_min)
        check_whole("restart_epochs", self.restart_epochs, least=1)
        for share in self.milestones:
            check_fraction("milestones", share)
        check_positive("factor", self.factor, most=1.0)


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """The run of epochs.

    Attributes:
        epochs: how many.
        batch_size: images of one forward pass over all workers together.
        per_class: images of each class that is in a batch; None draws without regard to class.
        accumulate: passes whose gradients make one update.
        precision: `auto`, `fp32`, `bf16` or `fp16`, as for encoding.
        ema_decay: of the running average of weights that is validated and kept; None keeps the
            weights themselves.
        seed: of everything random.
        cache_features: keep a frozen backbone's features on the local disk; see `features`.
        cache_views: augmented views of each image that are cached.
        cache_gb: most that the cache may take, 10⁹ bytes.
        checkpoint_steps: updates between checkpoints within an epoch; None keeps one per epoch.
    """

    epochs: int = 20
    batch_size: int = 64
    per_class: int | None = None
    accumulate: int = 1
    precision: Precision = "auto"
    ema_decay: float | None = None
    seed: int = 0
    cache_features: bool = False
    cache_views: int = 1
    cache_gb: float = 20.0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, least=1)
        check_whole("batch_size", self.batch_size, least=2)
        if self.per_class is not None:
            check_whole("per_class", self.per_class, least=2, most=self.batch_size)
            if self.batch_size % self.per_class:
                raise SettingError(
                    f"batch_size must be a multiple of per_class, not {self.batch_size} and "
                    f"{self.per_class}"
                )
        check_whole("accumulate", self.accumulate, least=1)
        check_choice("precision", self.precision, get_args(Precision))
        if self.ema_decay is not None:
            check_positive("ema_decay", self.ema_decay, most=1.0)
        check_whole("seed", self.seed, least=0)
        check_whole("cache_views", self.cache_views, least=1, most=64)
        check_positive("cache_gb", self.cache_gb)
        if self.checkpoint_steps is not None:
            check_whole("checkpoint_steps", self.checkpoint_steps, least=1)


def check_not_negative(name: str, value: float) -> None:
    """Raise `SettingError` unless `value` is a finite number that is at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
        raise SettingError(f"{name} must be a number of at least 0, not {value!r}")
