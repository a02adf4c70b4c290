"""What each worker does: build, take up what was kept, then epoch after epoch.

    for each epoch:  batches → updates → validation → report, with a checkpoint

Everything random is seeded by its place in the run, so an epoch that is replayed after a worker
died gives the weights it would have given.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint

from microtome.datasets.labelled import LabelledSet
from microtome.errors import MicrotomeError, TrainingDiverged
from microtome.models.checkpoint import weights_sha256
from microtome_training.features import (
    CachedFeed,
    CachePlan,
    FeatureCache,
    cache_folder,
    fill_cache,
)
from microtome_training.feeding import Batch, Corruption, Feed, ImageReader, SampledFeed
from microtome_training.fitting import Fitter
from microtome_training.job import Job
from microtome_training.model import build_embedder
from microtome_training.objective import Objective, build_objective
from microtome_training.progress import Note
from microtome_training.ray_feed import DATASET, RayDataFeed
from microtome_training.sampler import Batches, Share
from microtome_training.state import Place, check_identity, load_state, save_state, write_failed
from microtome_training.validating import Validator

LOG_S = 2.0
SCORE = "score"
"""What the best checkpoint is best by: R@1, or without validation the latest."""
UNSCORED = -1.0
"""Of a checkpoint within an epoch, which no validation has judged."""


def fit_worker(job: Job) -> MicrotomeError | None:
    """Ray Train's entry point on every worker.

    Returns:
        Why the run can't go on, where all workers agree on it, so that Ray doesn't try again; None
        where it ended well.
    """
    torch.set_num_threads(job.cpus)
    if failure := job.log.failure():
        return failure  # another worker said so before this one was restarted
    try:
        Run(job).go()
    except TrainingDiverged as error:
        return error
    except MicrotomeError as error:
        job.log.fail(error)
        raise
    return None


class Run:
    """One worker's run.

    Args:
        job: what to do.
    """

    def __init__(self, job: Job) -> None:
        context = ray.train.get_context()
        self.job = job
        self.recipe = job.recipe
        self.share = Share(context.get_world_rank(), context.get_world_size())
        self.local = Share(context.get_local_rank(), context.get_local_world_size())
        self.fitter = self._build()
        backbone = self.fitter.objective.embedder.backbone
        frozen = weights_sha256(backbone.state_dict()) if backbone.frozen else None
        self.identity = job.identity | {"backbone": frozen}
        self.corruption = self._corruption(job.training)
        self.caches: list[FeatureCache] = []
        self.feed = self._make_feed()
        self.validator = self._make_validator()
        self.updates = max(1, self.feed.steps // self.recipe.fit.accumulate)

    def go(self) -> None:
        """Fit from where the last checkpoint stands to the last epoch.

        Raises:
            TrainingDiverged: on all workers alike.
            MicrotomeError: of this worker alone, e.g. `ImagesCorrupt`, `TrainingWriteFailed`.
        """
        start = self._take_up()
        for epoch in range(start.epoch, self.recipe.fit.epochs):
            first = start.update if epoch == start.epoch else 0
            metrics = self._epoch(epoch, first)
            self.fitter.settle()
            if self.validator is not None:
                metrics |= self.validator.judge(self.fitter)
            metrics[SCORE] = score_of(metrics, epoch)
            self._note(epoch, self.updates, metrics, surely=True)
            self._report(Place(epoch + 1, 0), metrics)
        self._wait_for_all()
        if self.local.rank == 0:
            for cache in self.caches:
                cache.remove()

    def _build(self) -> Fitter:
        # Not only the backbone's but all first weights depend on the seed alone.
        torch.manual_seed(self.recipe.fit.seed)
        classes = len(self.job.training.classes)
        embedder = build_embedder(self.recipe.model)
        objective: Any = build_objective(embedder, self.recipe.objective, classes)
        objective = objective.to(memory_format=torch.channels_last)
        parallel = ray.train.torch.prepare_model(objective.train())
        return Fitter(unwrapped(parallel), parallel, self.recipe, self.share)

    def _corruption(self, labelled: LabelledSet) -> Corruption:
        """Counts a set's unreadable images and tells the user of each."""
        log = self.job.log
        return Corruption(
            len(labelled),
            self.recipe.data.max_corrupt,
            lambda message: log.add(Note(warning=message), surely=True),
        )

    def _make_feed(self) -> Feed:
        recipe, job = self.recipe, self.job
        if recipe.data.feeding == "ray-data":
            shard = ray.train.get_dataset_shard(DATASET)
            size = recipe.fit.batch_size
            return RayDataFeed(shard, len(job.training), size, self.share, self.corruption)
        fit = recipe.fit
        batches = Batches(job.training.labels, fit.batch_size, fit.per_class, fit.seed)
        reader = ImageReader(job.training, self.corruption)
        if fit.cache_features:
            cache = self._filled("training", reader, fit.cache_views)
            return CachedFeed(cache, reader.labels, batches, self.share)
        return SampledFeed(reader, batches, self.share, job.view, recipe.data.threads)

    def _make_validator(self) -> Validator | None:
        if self.job.validation is None:
            return None
        reader = ImageReader(self.job.validation, self._corruption(self.job.validation))
        caching = self.recipe.fit.cache_features
        cache = self._filled("validation", reader, 1) if caching else None
        return Validator(reader, self.job.view, self.share, cache)

    def _filled(self, name: str, reader: ImageReader, views: int) -> FeatureCache:
        """This machine's cache of a set, full."""
        recipe = self.recipe
        identity = self.job.features_identity(reader.labelled, views) | {
            "backbone": self.identity["backbone"],
            "precision": str(self.fitter.dtype),
        }
        folder = cache_folder(name, identity)
        plan = CachePlan(
            folder, views, recipe.fit.cache_gb * 1e9, recipe.fit.batch_size, recipe.data.threads
        )
        cache = fill_cache(plan, reader, self.job.view, self.fitter, self.local)
        self.caches.append(cache)
        self._wait_for_all()
        return cache

    def _wait_for_all(self) -> None:
        if self.share.workers > 1:
            torch.distributed.barrier()

    def _take_up(self) -> Place:
        """Restore the newest checkpoint, if there is one; returns where to go on."""
        kept = ray.train.get_checkpoint()
        if kept is None:
            return Place()
        with kept.as_directory() as folder:
            state = load_state(Path(folder))
        check_identity(state.identity, self.identity)
        self.fitter.restore(state)
        return state.place_for(self.job.batching, self.updates)

    def _epoch(self, epoch: int, first: int) -> dict[str, float]:
        """Go through an epoch; returns its mean loss and how well it was fed."""
        fit = self.recipe.fit
        self.fitter.objective.train()
        clock = Stopwatch()
        batches = clock.timed(self.feed.epoch(epoch, first * fit.accumulate))
        losses = []
        logged = time.monotonic()
        for update in range(first, self.updates):
            group = list(islice(batches, fit.accumulate))
            losses.append(self.fitter.update(group, Place(epoch, update), self.updates))
            now = time.monotonic()
            if self.share.rank == 0 and now - logged > LOG_S:
                logged = now
                self._note(epoch, update + 1, {"loss": float(losses[-1])})
            due = fit.checkpoint_steps and (update + 1) % fit.checkpoint_steps == 0
            if due and update + 1 < self.updates:
                self._report(Place(epoch, update + 1), {SCORE: UNSCORED})
        seconds = clock.elapsed_s
        images = (self.updates - first) * fit.accumulate * fit.batch_size
        return {
            "loss": float(torch.stack(losses).mean()),
            "images_per_s": images / seconds,
            "stall_share": clock.waited_s / seconds,
            "lr": self.fitter.rate,
        }

    def _note(
        self, epoch: int, update: int, metrics: dict[str, float], *, surely: bool = False
    ) -> None:
        if self.share.rank == 0:
            note = Note(epoch + 1, epoch * self.updates + update, metrics)
            self.job.log.add(note, surely=surely)

    def _report(self, place: Place, metrics: dict[str, float]) -> None:
        """Tell Ray, with a checkpoint of the first worker's; all workers wait for each other."""
        metrics = metrics | {"epoch": float(place.epoch), "update": float(place.update)}
        state = replace(self.fitter.state(place, self.identity), batching=self.job.batching)
        if self.share.rank != 0:
            ray.train.report(metrics)
            return
        try:
            with tempfile.TemporaryDirectory(prefix="microtome-") as folder:
                save_state(Path(folder), state)
                ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
        except OSError as error:
            raise write_failed(error) from error


class Stopwatch:
    """How long an epoch took, and how much of that its steps waited for batches."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.waited_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return max(1e-9, time.perf_counter() - self._start)

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each comes is counted as waiting."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def score_of(metrics: Mapping[str, float], epoch: int) -> float:
    """R@1; without it, the number of the epoch, so that a run that goes on for more is later."""
    return metrics.get("R@1", float(epoch + 1))


def unwrapped(module: Any) -> Objective:
    """The objective within DDP, or as it is."""
    objective: Objective = getattr(module, "module", module)
    return objective
