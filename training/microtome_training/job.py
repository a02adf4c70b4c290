"""What each worker is told, and what of it must be equal for earlier work to be taken up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from microtome.datasets.labelled import LabelledSet
from microtome_training.augmentation import View, scale_of
from microtome_training.features import VIEW_SEED
from microtome_training.model import network_config
from microtome_training.progress import RunLog
from microtome_training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker is told.

    Attributes:
        recipe: how to fit.
        training: to these images.
        validation: judged on those; None without any.
        cpus: cores of each worker.
        log: says how it goes.
    """

    recipe: Recipe
    training: LabelledSet
    validation: LabelledSet | None
    cpus: int
    log: RunLog

    @property
    def view(self) -> View:
        """How images become inputs."""
        recipe = self.recipe
        scale = scale_of(recipe.data, self.training.mpp)
        return View(recipe.augmentation, recipe.model.input_px, scale)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on from another's state."""
        return {
            "architecture": _plain(network_config(self.recipe.model).to_architecture()),
            "loss": _plain(asdict(self.recipe.objective)),
            "optimiser": self.recipe.optimiser.kind,
            "classes": list(self.training.classes),
            "training images": rows_digest(self.training, ("uri", "label", "group"))[:16],
        }

    @property
    def batching(self) -> dict[str, Any]:
        """What must be equal, too, for an epoch to go on in its middle."""
        fit = self.recipe.fit
        return {
            "batch_size": fit.batch_size,
            "accumulate": fit.accumulate,
            "per_class": fit.per_class,
            "seed": fit.seed,
            "feeding": self.recipe.data.feeding,
        }

    def features_identity(self, labelled: LabelledSet, views: int) -> dict[str, Any]:
        """What must be equal for cached features of a set to be the ones wanted."""
        return {
            "model": asdict(self.recipe.model),
            "view": asdict(self.view),
            "view seed": VIEW_SEED,
            "views": views,
            "images": rows_digest(labelled, labelled.samples.column_names),
        }


def rows_digest(labelled: LabelledSet, columns: Iterable[str]) -> str:
    """SHA-256 of some columns of a set's samples, in order, hex."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(repr(labelled.samples[column].to_pylist()).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
