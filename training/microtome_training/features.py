"""A frozen backbone's features, computed once and kept on the local disk as float16.

A frozen backbone gives equal features for equal pixels, and it is nine tenths of the work: over
many epochs they are computed once for each image and each of a few fixed views (the first plain,
the others varied), then read through a memory map. What is lost is endless augmentation.

The workers of one machine share the files. They lie in a folder named for recipe and images, so a
restarted run finds them; it is removed when a run ends well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microtome.errors import SettingError, TrainingError, TrainingWriteFailed
from microtome.slides.slide import Pixels
from microtome_training.augmentation import View
from microtome_training.feeding import Batch, ImageReader, ahead
from microtome_training.fitting import Fitter
from microtome_training.sampler import Batches, Indices, Share

_ELSEWHERE = "Set TMPDIR to another folder, or fit.cache_features=false."
VIEW_SEED = 7  # keeps the views apart from the variation of uncached epochs


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What is cached, where, and how much of it at most.

    Attributes:
        folder: on the local disk.
        views: of each image.
        most_bytes: of the whole cache.
        batch_size: images per call of the backbone.
        threads: that decode.
    """

    folder: Path
    views: int
    most_bytes: float
    batch_size: int
    threads: int


class FeatureCache:
    """Features of every image and view: one array (views, images, …) for each of the model's.

    Args:
        plan: see `CachePlan`.
        shapes: of each feature of one image.
        images: how many.

    Raises:
        SettingError: they would take more than allowed, or than the disk has.
        TrainingError: the folder is somebody else's.
        TrainingWriteFailed: the disk is full or refuses.
    """

    def __init__(self, plan: CachePlan, shapes: Sequence[tuple[int, ...]], images: int) -> None:
        self._folder = plan.folder
        values = plan.views * images * sum(int(np.prod(shape)) for shape in shapes)
        self.bytes = 2 * values
        for folder in (plan.folder.parent, plan.folder):
            _make_own(folder)
        free = shutil.disk_usage(plan.folder).free
        made = [plan.folder / f"{number}.f16" for number in range(len(shapes))]
        if self.bytes > plan.most_bytes:
            raise SettingError(
                f"the features of {images} images in {plan.views} views take "
                f"{self.bytes / 1e9:.1f} GB, more than the {plan.most_bytes / 1e9:g} of "
                "fit.cache_gb",
                remedy="Allow more, take fewer fit.cache_views, or set fit.cache_features=false.",
            )
        if not made[0].exists() and self.bytes > 0.9 * free:
            raise SettingError(
                f"the features take {self.bytes / 1e9:.1f} GB, the local disk has "
                f"{free / 1e9:.1f} GB left",
                remedy="Set TMPDIR to a larger disk, or fit.cache_features=false.",
            )
        self.arrays: list[NDArray[np.float16]] = [
            _map(path, (plan.views, images, *shape))
            for path, shape in zip(made, shapes, strict=True)
        ]

    def write(self, view: int, images: Indices, features: Sequence[Tensor]) -> None:
        """Store features (N, …) of some images."""
        for array, part in zip(self.arrays, features, strict=True):
            array[view, images] = part.detach().to(torch.float16).cpu().numpy()

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, views: Indices, images: Indices) -> list[Tensor]:
        """Features (N, …) float16 of some images, each in a view of its own."""
        return [torch.from_numpy(array[views, images]) for array in self.arrays]


class CachedFeed:
    """Batches of cached features; see `feeding.Feed`.

    Args:
        cache: of the set's features.
        labels: (N,) class of each image.
        batches: which images.
        share: this worker's part.
    """

    def __init__(
        self, cache: FeatureCache, labels: Indices, batches: Batches, share: Share
    ) -> None:
        self._cache = cache
        self._labels = labels
        self._batches = batches
        self._share = share

    @property
    def steps(self) -> int:
        """See `Feed`."""
        return self._batches.steps

    def epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """See `Feed`."""
        drawn = self._batches.epoch(epoch)
        views = np.random.default_rng((self._batches.seed, epoch, VIEW_SEED)).integers(
            len(self._cache.arrays[0]), size=drawn.shape
        )
        steps = range(first_step, len(drawn))
        for (batch,) in ahead(([partial(self._read, views[i], drawn[i])] for i in steps), 1):
            yield batch

    def _read(self, views: Indices, images: Indices) -> Batch:
        own = self._share.of(images)
        features = self._cache.read(self._share.of(views), own)
        return Batch(features, torch.from_numpy(self._labels[own]))


def fill_cache(
    plan: CachePlan, reader: ImageReader, view: View, fitter: Fitter, share: Share
) -> FeatureCache:
    """Compute what the cache lacks; the workers of one machine each do their part.

    Args:
        plan: what and where.
        reader: of the images.
        view: how they are cut and varied.
        fitter: holds the model.
        share: of this worker among those of its machine.

    Raises:
        SettingError: see `FeatureCache`.
        ImagesCorrupt: more images than allowed can't be read.
    """
    sample = _features(fitter, view.plain(reader.read_or_another(0))[None])
    shapes = [tuple(part.shape[1:]) for part in sample]
    cache = FeatureCache(plan, shapes, len(reader.labels))
    done = plan.folder / f"done-{share.rank}-of-{share.workers}"
    if not done.exists():
        for number in range(plan.views):
            for images, pixels in _views(plan, reader, view, number, share):
                cache.write(number, images, _features(fitter, pixels))
        done.touch()
    return cache


def cache_folder(name: str, identity: Mapping[str, Any]) -> Path:
    """Where a run's features lie on this machine: equal for equal recipe and images."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"microtome-features-{os.getuid()}" / f"{key[:16]}-{name}"


def _views(
    plan: CachePlan, reader: ImageReader, view: View, number: int, share: Share
) -> Iterator[tuple[Indices, Pixels]]:
    """This worker's images in one view, by batches; what can't be read is replaced by a peer."""

    def make(image: int) -> Pixels:
        pixels = reader.read_or_another(image)
        if number == 0:
            return view.plain(pixels)
        return view.varied(pixels, np.random.default_rng((VIEW_SEED, number, image)))

    own = share.of(np.arange(len(reader.labels)))
    parts = [own[i : i + plan.batch_size] for i in range(0, len(own), plan.batch_size)]
    jobs = ([partial(make, int(image)) for image in part] for part in parts)
    for part, made in zip(parts, ahead(jobs, plan.threads), strict=True):
        yield part, np.stack(made)


@torch.no_grad()
def _features(fitter: Fitter, pixels: Pixels) -> Sequence[Tensor]:
    batch = Batch(torch.from_numpy(pixels), torch.empty(0))
    with torch.autocast(fitter.device.type, fitter.dtype, enabled=fitter.dtype != torch.float32):
        return fitter.objective.features(fitter.inputs(batch))


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """The file as an array, made where missing; several processes may make it at once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # With its blocks: writing through the map to a full disk would kill the process.
            os.posix_fallocate(descriptor, 0, 2 * int(np.prod(shape)))
        finally:
            os.close(descriptor)
        return np.memmap(path, np.float16, "r+", shape=shape)
    except OSError as error:
        raise _not_cached(error) from error


def _make_own(folder: Path) -> None:
    """Make a folder that nobody else can write to; names in a temporary folder are anyone's."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _not_cached(error) from error
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_write:
        raise TrainingError(
            f"features can't be cached: {folder.name} in the temporary folder is somebody else's",
            remedy=_ELSEWHERE,
        )


def _not_cached(error: OSError) -> TrainingWriteFailed:
    return TrainingWriteFailed(
        f"features can't be cached on the local disk: {error.strerror}", remedy=_ELSEWHERE
    )
