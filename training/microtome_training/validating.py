"""Judge a model on the images held out, all workers together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from microtome_training.augmentation import View
from microtome_training.averaging import shared_from_first
from microtome_training.features import FeatureCache
from microtome_training.feeding import Batch, ImageReader, plain_batches
from microtome_training.fitting import Fitter
from microtome_training.sampler import Indices, Share
from microtome_training.validation import Retrieval, retrieval

BATCH_SIZE = 64
THREADS = 4


class Validator:
    """Embeds the validation images, each worker its share, and ranks them.

    Args:
        reader: of the images.
        view: how they are cut; not varied.
        share: this worker's.
        cache: of their features, where a frozen backbone's are cached.
    """

    def __init__(
        self, reader: ImageReader, view: View, share: Share, cache: FeatureCache | None
    ) -> None:
        self._reader = reader
        self._view = view
        self._share = share
        self._cache = cache

    def judge(self, fitter: Fitter) -> dict[str, float]:
        """Metrics of the model as it stands, the running average where there is one."""
        objective = fitter.objective
        average = fitter.average
        was_training = objective.training
        objective.eval()
        try:
            if average is None:
                shared_from_first(objective)
                found = self._found(fitter)
            else:
                with average.in_place():
                    shared_from_first(objective)
                    found = self._found(fitter)
        finally:
            objective.train(was_training)
        return found.to_metrics()

    def _found(self, fitter: Fitter) -> Retrieval:
        images, vectors = self._gathered(*self._embedded(fitter))
        groups = self._reader.labelled.groups
        return retrieval(vectors, self._reader.labels[images], [groups[i] for i in images])

    @torch.no_grad()
    def _embedded(self, fitter: Fitter) -> tuple[Tensor, Tensor]:
        """Indices and vectors of this worker's share."""
        images, vectors = [], []
        for part, batch in self._batches():
            with torch.autocast(
                fitter.device.type, fitter.dtype, enabled=fitter.dtype != torch.float32
            ):
                features = fitter.objective.features(fitter.inputs(batch))
                vectors.append(fitter.objective.embedder.embed_features(features).float())
            images.append(torch.from_numpy(part).to(fitter.device))
        if not images:
            dim = fitter.objective.embedder.config.dim
            empty = torch.empty(0, dim, device=fitter.device)
            return torch.empty(0, dtype=torch.int64, device=fitter.device), empty
        return torch.cat(images), torch.cat(vectors)

    def _batches(self) -> Iterator[tuple[Indices, Batch]]:
        own = self._share.of(np.arange(len(self._reader.labels)))
        nothing = torch.empty(0)
        if self._cache is None:
            for part, pixels in plain_batches(self._reader, own, self._view, (BATCH_SIZE, THREADS)):
                yield part, Batch(torch.from_numpy(pixels), nothing)
            return
        for start in range(0, len(own), BATCH_SIZE):
            part = own[start : start + BATCH_SIZE]
            yield part, Batch(self._cache.read(np.zeros_like(part), part), nothing)

    def _gathered(self, images: Tensor, vectors: Tensor) -> tuple[Indices, Tensor]:
        """Everybody's, in the order of the set."""
        if self._share.workers > 1:
            most = -(-len(self._reader.labels) // self._share.workers)
            images = _padded(images, most, -1)
            vectors = _padded(vectors, most, 0)
            all_images = [torch.empty_like(images) for _ in range(self._share.workers)]
            all_vectors = [torch.empty_like(vectors) for _ in range(self._share.workers)]
            torch.distributed.all_gather(all_images, images)
            torch.distributed.all_gather(all_vectors, vectors)
            images, vectors = torch.cat(all_images), torch.cat(all_vectors)
            vectors, images = vectors[images >= 0], images[images >= 0]
        order = images.argsort()
        ordered: Indices = images[order].cpu().numpy()
        return ordered, vectors[order]


def _padded(x: Tensor, length: int, value: float) -> Tensor:
    """With rows of `value` added up to `length`."""
    missing = x.new_full((length - len(x), *x.shape[1:]), value)
    return torch.cat([x, missing])
