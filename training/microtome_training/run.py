"""`microtome train`, read top-down: check, read the set, part it, fit on Ray Train, keep the best.

Under --out lie the model (`card.json` and `weights.safetensors`, what `microtome index --model`
takes) and `training/` with checkpoints, `log.csv`, TensorBoard's files and the recipe as it ran.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import yaml
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from microtome.config import check_whole
from microtome.datasets.labelled import LabelledSet
from microtome.engine.cluster import cluster, nodes
from microtome.engine.stages import Workers
from microtome.errors import ClusterFailed, MicrotomeError, SettingError, TrainingError
from microtome.models.card import ModelCard
from microtome_training.job import Job
from microtome_training.model import (
    fitted_card,
    fitted_embedder,
    inherited_licence,
    network_config,
    resolved,
)
from microtome_training.progress import RunDisplay, RunLog
from microtome_training.ray_feed import DATASET, training_dataset
from microtome_training.reading import recipe_facts
from microtome_training.recipe import Recipe
from microtome_training.sets import checked_classes, read_sets
from microtome_training.state import load_state
from microtome_training.storage import RUN_FOLDER, Storage
from microtome_training.worker import SCORE, fit_worker

RECIPE_FILE = "recipe.yaml"
UNJUDGED = (
    "no held-out image has another group of its class to be found in, so the last epoch was kept "
    "unjudged; bring more groups, or hold out more by data.validation_fraction"
)
KEPT = 2  # the best and the newest; Ray keeps the newest in any case


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Where and on what a recipe runs.

    Attributes:
        out: folder or fsspec URI of the result; on a cluster, one that all nodes see.
        workers: processes that train; 0 takes what the cluster has.
        max_workers: with more than `workers`, Ray adds and takes away workers as nodes come and go;
            batches stay the same, each change resumes from the last checkpoint.
        cpus_per_worker: cores of each; 0 chooses.
        max_failures: workers that may be lost before the run ends; -1 for any number.
        resume: go on where an earlier run to `out` stands.
    """

    out: str
    workers: int = 0
    max_workers: int = 0
    cpus_per_worker: int = 0
    max_failures: int = 3
    resume: bool = False

    def __post_init__(self) -> None:
        if not self.out:
            raise SettingError("out must name a folder for the model", remedy="Pass --out FOLDER.")
        check_whole("workers", self.workers, least=0)
        check_whole("max_workers", self.max_workers, least=0)
        check_whole("cpus_per_worker", self.cpus_per_worker, least=0)
        check_whole("max_failures", self.max_failures, least=-1)
        if self.max_workers and not 0 < self.workers <= self.max_workers:
            raise SettingError(
                f"workers must lie between 1 and max_workers, not {self.workers} of "
                f"{self.max_workers}"
            )


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What a run made.

    Attributes:
        out: where the model lies.
        card: of the model.
        metrics: of the epoch it was taken from.
        notes: what the user should know of the images.
    """

    out: str
    card: ModelCard
    metrics: Mapping[str, float]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As scripts read it."""
        return {
            "out": self.out,
            "model_id": self.card.model_id,
            "name": self.card.name,
            "dim": self.card.dim,
            "licence": self.card.licence,
            "metrics": dict(self.metrics),
            "notes": list(self.notes),
        }


def run_training(recipe: Recipe, settings: RunSettings) -> FitSummary:
    """Fit a recipe's model and store the best.

    Raises:
        SettingError: the recipe, the set or a setting is wrong; nothing was started.
        TrainingDiverged: the loss or its gradient became no finite number.
        ImagesCorrupt: more images than allowed can't be read.
        ResumeImpossible: what an earlier run kept is damaged, or of another model or set.
        TrainingWriteFailed: a checkpoint or the model could not be written.
        ClusterFailed: more workers were lost than allowed.
    """
    network_config(recipe.model)
    inherited_licence(recipe.model)
    training, validation = read_sets(recipe)
    return fit_sets(recipe, settings, training, validation)


def fit_sets(
    recipe: Recipe, settings: RunSettings, training: LabelledSet, validation: LabelledSet | None
) -> FitSummary:
    """`run_training` on images that were read and parted already.

    Raises:
        As `run_training`.
    """
    recipe = resolved(recipe)
    training = checked_classes(training, recipe)
    storage = Storage(settings.out)
    storage.check(resume=settings.resume)
    with cluster(), tempfile.TemporaryDirectory(prefix="microtome-") as scratch:
        workers = Workers.for_cluster(nodes(), settings.workers, settings.cpus_per_worker)
        check_room(workers)
        most = max(workers.count, settings.max_workers)
        check_batch(recipe.fit.batch_size, range(workers.count, most + 1))
        logs = Path(storage.run_path if storage.local else scratch)
        (logs / RECIPE_FILE).write_text(yaml.safe_dump(recipe_facts(recipe), sort_keys=False))
        job = Job(recipe, training, validation, workers.cpus, RunLog())
        updates = recipe.fit.epochs * max(1, len(training) // recipe.fit.batch_size)
        try:
            with RunDisplay(job.log, logs, updates // recipe.fit.accumulate) as display:
                result = fit(job, workers, settings, storage)
        finally:
            storage.upload(logs)
        metrics, card = keep_best(result, job, storage)
    notes = training.notes
    if display.warnings:
        notes += (f"{len(display.warnings)} images could not be read and were left out",)
    if validation is not None and "R@1" not in metrics:
        notes += (UNJUDGED,)
    return FitSummary(settings.out, card, metrics, notes)


def check_room(workers: Workers) -> None:
    """Raise `SettingError` where a Ray of this machine alone can't hold so many workers.

    A cluster that `RAY_ADDRESS` names may grow, so there they are waited for.
    """
    room = sum(node.cpus // workers.cpus for node in nodes())
    if workers.count > room and not os.environ.get("RAY_ADDRESS"):
        raise SettingError(
            f"workers is {workers.count}, but this machine has cores for {room} of "
            f"{workers.cpus} each",
            remedy="Ask for fewer, or for fewer by --cpus-per-worker.",
        )


def check_batch(batch_size: int, counts: range) -> None:
    """Raise `SettingError` unless each number of workers shares a batch out evenly."""
    for workers in counts:
        if batch_size % workers or batch_size // workers < 2:
            raise SettingError(
                f"fit.batch_size must be a multiple of the {workers} workers, and at least two "
                f"each, not {batch_size}"
            )


class Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray's, less what would be in the way here."""

    def _register_sigint_handler(self, controller: object) -> None:
        """Leave Ctrl-C to the command line; Ray's own handler would end as if all were well."""

    def _create_default_callbacks(self) -> list[object]:
        """All but those that start a process which would have nothing to do.

        A local Ray leaves nothing behind that the cleaner could clean up; it asks the dashboard,
        which a local Ray hasn't, and holds up the end of a short run for twelve seconds.
        """
        idle = () if self.datasets else (DatasetsCallback,)
        if not os.environ.get("RAY_ADDRESS"):
            idle += (PlacementGroupCleanerCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]


def fit(job: Job, workers: Workers, settings: RunSettings, storage: Storage) -> ray.train.Result:
    """Run the workers to the end.

    Raises:
        As `run_training`.
    """
    elastic = (workers.count, settings.max_workers) if settings.max_workers else workers.count
    resources = {"CPU": float(workers.cpus)} | ({"GPU": 1.0} if workers.gpus else {})
    streamed = job.recipe.data.feeding == "ray-data"
    seed = job.recipe.fit.seed
    try:
        trainer = Trainer(
            partial(fit_worker, job),  # as its config Ray's controller would read and import it too
            scaling_config=ScalingConfig(
                num_workers=elastic, use_gpu=bool(workers.gpus), resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=RUN_FOLDER,
                storage_path=storage.path,
                storage_filesystem=storage.filesystem,
                failure_config=FailureConfig(max_failures=settings.max_failures),
                checkpoint_config=CheckpointConfig(KEPT, checkpoint_score_attribute=SCORE),
            ),
            datasets={DATASET: training_dataset(job.training, job.view, seed)} if streamed else {},
        )
        result = trainer.fit()
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        raise job.log.failure() or ClusterFailed(
            f"training could not go on: {_first_line(error)}",
            remedy="What was kept stays; look at Ray's logs, then go on with --resume.",
        ) from error
    if isinstance(result.return_value, MicrotomeError):
        raise result.return_value
    return result


def keep_best(
    result: ray.train.Result, job: Job, storage: Storage
) -> tuple[dict[str, float], ModelCard]:
    """Store the best checkpoint's model under the output folder.

    Returns:
        The metrics of its epoch, and its card.
    """
    judged = [one for one in result.best_checkpoints or [] if one[1][SCORE] >= 0]
    if not judged:
        raise TrainingError("the run ended without a whole epoch; nothing can be kept")
    checkpoint, metrics = max(judged, key=lambda one: one[1][SCORE])
    with checkpoint.as_directory() as folder:
        tensors = load_state(Path(folder)).tensors
    recipe = job.recipe
    embedder = fitted_embedder(recipe.model, tensors.get("average", tensors["model"]))
    shown = {name: metrics[name] for name in ("R@1", "mAP@R", "loss") if name in metrics}
    card = storage.save(embedder, fitted_card(recipe, embedder, job.training, shown))
    return {name: float(value) for name, value in metrics.items() if name != SCORE}, card


def _first_line(error: Exception) -> str:
    """What an error of Ray's says, without its traces."""
    failures = getattr(error, "worker_failures", {})
    cause = next(iter(failures.values()), error)
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__
