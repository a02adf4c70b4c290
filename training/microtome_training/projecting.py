"""Fit a small head to any frozen encoder: each image embedded a few times, then one solution.

    part the set → vectors of each image, plain and varied → `Projection.fit` → judge → keep

The solution is in closed form, so there are no epochs, and one process does it: minutes on a
laptop, of which the encoder takes nearly all. Few labels are enough. Variations of an image belong
to its class, so what varies (stain, focus, zoom) becomes what the projection doesn't look at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.progress import Progress
from torch import Tensor

from microtome.console import err
from microtome.datasets.labelled import LabelledSet
from microtome.errors import SettingError
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.encoder import EncoderOptions
from microtome.models.projection import KIND, Projection
from microtome.models.registry import load_encoder
from microtome.models.torch_encoder import TorchEncoder
from microtome.slides.slide import Pixels
from microtome_training.augmentation import View, scale_of
from microtome_training.features import VIEW_SEED
from microtome_training.feeding import Corruption, ImageReader, ahead
from microtome_training.reading import recipe_facts
from microtome_training.recipe import ModelRecipe, Recipe
from microtome_training.run import (
    RECIPE_FILE,
    UNJUDGED,
    FitSummary,
    RunSettings,
)
from microtome_training.sets import checked_classes, read_sets
from microtome_training.storage import Storage
from microtome_training.validation import retrieval


@dataclass(frozen=True, slots=True)
class ProjectionConfig:
    """What `model.config` of a projection's recipe holds.

    Attributes:
        of: the encoder, any name that `microtome index --model` takes.
        dim: length of the vectors that come out.
    """

    of: str
    dim: int = 64

    @classmethod
    def of_recipe(cls, recipe: ModelRecipe) -> ProjectionConfig:
        """Read a recipe's model.

        Raises:
            SettingError: an unknown or missing key, or a setting that is the encoder's own.
        """
        own = ModelRecipe(recipe.kind, config=recipe.config, allow_licences=recipe.allow_licences)
        if own != recipe or recipe.preprocessing != Preprocessing():
            raise SettingError("in the recipe, model: a projection takes only kind and config")
        try:
            return cls(**recipe.config)
        except TypeError:
            raise SettingError(
                "in the recipe, model.config of a projection must hold `of`, the encoder, and may "
                f"hold `dim`, but holds {', '.join(recipe.config) or 'nothing'}"
            ) from None


def run_projection(recipe: Recipe, settings: RunSettings) -> FitSummary:
    """Fit a recipe's projection and store it.

    Raises:
        SettingError: the recipe, the set or a setting is wrong.
        DatasetError: the set can't be read or parted.
        ImagesCorrupt: more images than allowed can't be read.
        ModelNotFound, CheckpointInvalid, LicenceRefused: as `load_encoder`.
        TrainingWriteFailed: the model could not be written.
    """
    if settings.workers > 1 or settings.max_workers or settings.resume:
        raise SettingError("a projection is fitted in one go by one process, without --resume")
    config = ProjectionConfig.of_recipe(recipe.model)
    training, validation = read_sets(recipe)
    training = checked_classes(training, recipe)
    storage = Storage(settings.out)
    storage.check(resume=False)
    allowed = recipe.model.allow_licences
    options = EncoderOptions(precision=recipe.fit.precision, allow_licences=allowed)
    encoder = load_encoder(config.of, options)
    head = Projection(encoder.module, encoder.card.dim, config.dim).to(encoder.device)
    with Progress(console=err, transient=True) as bar:
        views = recipe.fit.cache_views
        seen = Seen(recipe, encoder, bar)
        vectors = torch.cat([seen.vectors(training, view) for view in range(views)])
        labels = torch.from_numpy(training.labels).repeat(views)
        head.fit(vectors, labels.to(vectors.device), recipe.objective.shrinkage)
        metrics = _judged(head, seen, validation) if validation is not None else {}
    card = storage.save(head, _card(recipe, encoder.card, training, metrics))
    _keep_recipe(storage, recipe)
    notes = training.notes + seen.notes
    if validation is not None and "R@1" not in metrics:
        notes += (UNJUDGED,)
    return FitSummary(settings.out, card, metrics, notes)


class Seen:
    """Images as a frozen encoder sees them.

    Args:
        recipe: how they are varied, and how many may be corrupt.
        encoder: see `TorchEncoder`.
        bar: shows how far it is.
    """

    def __init__(self, recipe: Recipe, encoder: TorchEncoder, bar: Progress) -> None:
        self._recipe = recipe
        self._encoder = encoder
        self._bar = bar
        self._unread: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the images."""
        count = len(self._unread)
        return (f"{count} images could not be read; others stood in for them",) if count else ()

    def vectors(self, labelled: LabelledSet, number: int) -> Tensor:
        """Vectors of a set (N, dim), view 0 plain, further ones varied."""
        allowed = self._recipe.data.max_corrupt
        reader = ImageReader(labelled, Corruption(len(labelled), allowed, self._unread.add))
        task = self._bar.add_task(f"{labelled.name}, view {number}", total=len(labelled))
        parts = []
        for pixels in self._batches(reader, number):
            parts.append(torch.from_numpy(self._encoder.encode(pixels)))
            self._bar.advance(task, len(pixels))
        return torch.cat(parts).to(self._encoder.device)

    def _batches(self, reader: ImageReader, number: int) -> Iterator[Pixels]:
        size, threads = self._recipe.fit.batch_size, self._recipe.data.threads
        input_px = self._encoder.card.preprocessing.input_px
        scale = scale_of(self._recipe.data, reader.labelled.mpp)
        view = View(self._recipe.augmentation, input_px, scale)

        def make(image: int) -> Pixels:
            pixels = reader.read_or_another(image)
            if number == 0:
                return view.plain(pixels)
            return view.varied(pixels, np.random.default_rng((VIEW_SEED, number, image)))

        images = range(len(reader.labels))
        batches = (images[start : start + size] for start in range(0, len(images), size))
        for made in ahead(([partial(make, image) for image in part] for part in batches), threads):
            yield np.stack(made)


@torch.inference_mode()
def _judged(head: Projection, seen: Seen, validation: LabelledSet) -> dict[str, float]:
    """Retrieval with the projection, and with the encoder alone."""
    vectors = seen.vectors(validation, 0)
    found, before = (
        retrieval(x, validation.labels, validation.groups) for x in (head.project(vectors), vectors)
    )
    metrics = found.to_metrics()
    return metrics | ({"R@1 before": before.recall_at_1} if "R@1" in metrics else {})


def _card(
    recipe: Recipe, encoder: ModelCard, fitted_to: LabelledSet, metrics: Mapping[str, float]
) -> ModelCard:
    config = ProjectionConfig.of_recipe(recipe.model)
    classes = len(np.unique(fitted_to.labels))
    lengths = {"in_dim": encoder.dim, "dim": config.dim}
    return replace(
        encoder,
        name=recipe.name,
        architecture={"kind": KIND, "of": encoder.architecture, **lengths},
        dim=config.dim,
        mpp=recipe.data.mpp or encoder.mpp,
        training_data=f"{fitted_to.name}: {len(fitted_to)} images, {classes} classes; "
        f"before that, {encoder.name}: {encoder.training_data}",
        metrics={name: value for name, value in metrics.items() if name != "queries"},
        notes=f"{recipe.notes.strip()} Metrics are of images held out, each ranked against those "
        f"of other groups; `before` is {encoder.name} without the projection.",
    )


def _keep_recipe(storage: Storage, recipe: Recipe) -> None:
    """Lay the recipe as it ran beside the model."""
    with tempfile.TemporaryDirectory(prefix="microtome-") as scratch:
        folder = Path(storage.run_path if storage.local else scratch)
        (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe_facts(recipe), sort_keys=False))
        storage.upload(folder)
