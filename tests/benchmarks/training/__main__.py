"""What Ray Train costs, what a second worker brings, and what caching saves: `make bench-training`.

step      images per second of a hand-written torch loop, and of the same recipe by Ray Train, in
          turns, one thread each; start-up and validation are not in it
workers   one worker of one thread against two: where the one may use both cores, as its threads
          that read images do, and where it is held to one, as on a machine of its own
stall     share of an epoch in which steps waited for their batches
cache     an epoch on a frozen backbone, with its features cached and without

Images are made: 516 of 224 px, three classes.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.engine.cluster import cluster
from microtome_training.augmentation import View
from microtome_training.feeding import Corruption, ImageReader, SampledFeed
from microtome_training.model import build_embedder
from microtome_training.objective import build_objective
from microtome_training.reading import load_recipe
from microtome_training.recipe import Recipe
from microtome_training.run import RunSettings, fit_sets
from microtome_training.sampler import Batches, Share
from support.made_patches import write_patches

SMALL = [
    "model.weights=random:0",
    "model.input_px=96",
    "fit.batch_size=64",
    "fit.per_class=16",
    "fit.ema_decay=null",
    "data.threads=2",
]
FINE_TUNED = [
    *SMALL,
    "model.config={backbone: resnet10t, dim: 256, stride: layer4}",
    "fit.epochs=3",
]
FROZEN = [
    *SMALL,
    "model.config={backbone: resnet10t, neck_channels: 32, neck_layers: 1}",
    "fit.epochs=4",
    "fit.cache_views=1",
]


@dataclass(frozen=True, slots=True)
class Pace:
    """How a run went, over its epochs but the first.

    Attributes:
        images_per_s: median.
        stall_share: median.
        seconds: of the whole run.
    """

    images_per_s: float
    stall_share: float
    seconds: float


def plain_loop(recipe: Recipe, labelled: LabelledSet) -> float:
    """Images per second of a torch loop that knows neither Ray nor `Fitter`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    objective = build_objective(build_embedder(recipe.model), recipe.objective, 3).train()
    objective = objective.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-4)
    reader = ImageReader(labelled, Corruption(len(labelled), 0.0))
    batches = Batches(labelled.labels, recipe.fit.batch_size, recipe.fit.per_class, 0)
    view = View(recipe.augmentation, recipe.model.input_px)
    feed = SampledFeed(reader, batches, Share(), view, recipe.data.threads)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (recipe.model.mean, recipe.model.std))
    paces = []
    for epoch in range(recipe.fit.epochs):
        start, losses = time.perf_counter(), []
        for batch in feed.epoch(epoch, 0):
            images = (batch.inputs.permute(0, 3, 1, 2).float() / 255 - mean) / std
            loss = objective(images, batch.labels)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
        paces.append(feed.steps * recipe.fit.batch_size / (time.perf_counter() - start))
    return median(paces[1:])


def by_ray(recipe: Recipe, labelled: LabelledSet, workers: int = 1) -> Pace:
    """The same recipe by Ray Train."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out, redirect_stdout(sys.stderr):
        fit_sets(recipe, RunSettings(out, workers, cpus_per_worker=1), labelled, None)
        with (Path(out) / "training/log.csv").open() as file:
            epochs = [row for row in csv.DictReader(file) if row["images_per_s"]][1:]
    return Pace(
        median(float(row["images_per_s"]) for row in epochs),
        median(float(row["stall_share"]) for row in epochs),
        time.perf_counter() - start,
    )


@contextmanager
def one_core() -> Iterator[None]:
    """Hold what is started meanwhile to one of this process's cores."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def cached(recipe: Recipe, cache: bool) -> Recipe:
    """The recipe with features cached or not."""
    return replace(recipe, fit=replace(recipe.fit, cache_features=cache))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    # Ray's workers yield to other processes by default, which a busy machine would measure.
    os.environ.setdefault("RAY_worker_niceness", "0")
    tuned, frozen = load_recipe(["folder-cgd"], FINE_TUNED), load_recipe(["folder-lgffem"], FROZEN)
    plain, ray, held, two = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        made = write_patches(Path(folder), groups=43, per_group=4, side_px=224)
        labelled = load_dataset(f"folder:{made}")
        for _ in range(rounds):  # in turns, so that a busy moment hits all alike
            with cluster():
                plain.append(plain_loop(tuned, labelled))
                ray.append(by_ray(tuned, labelled))
                two.append(by_ray(tuned, labelled, workers=2))
            with one_core(), cluster():
                held.append(by_ray(tuned, labelled))
        with cluster():
            live, fast = (by_ray(cached(frozen, cache), labelled) for cache in (False, True))
    one, alone = ([pace.images_per_s for pace in paces] for paces in (ray, held))
    overhead = median(p / o for p, o in zip(plain, one, strict=True))
    gain, scaled = (
        median(t.images_per_s / o for t, o in zip(two, single, strict=True))
        for single in (one, alone)
    )
    print("| | images/s | | target |\n|---|---:|---:|---:|")
    print(f"| plain torch loop | {median(plain):.1f} | | |")
    print(
        f"| Ray Train, one worker | {median(one):.1f} | a step costs {overhead:.3f} × | ≤ 1.05 × |"
    )
    both = median(pace.images_per_s for pace in two)
    print(f"| Ray Train, one worker held to one core | {median(alone):.1f} | | |")
    print(
        f"| Ray Train, two workers | {both:.1f} "
        f"| {scaled:.2f} × one of one core, {gain:.2f} × one of both | ≥ 1.7 × |"
    )
    stall = max(pace.stall_share for pace in [*ray, *two])
    print(f"| waiting for batches, worst run | | {stall:.1%} of an epoch | < 5 % |")
    print(f"| frozen backbone, live | {live.images_per_s:.1f} | | |")
    times = fast.images_per_s / live.images_per_s
    print(f"| frozen backbone, cached | {fast.images_per_s:.1f} | {times:.1f} × live | |")


if __name__ == "__main__":
    main()
