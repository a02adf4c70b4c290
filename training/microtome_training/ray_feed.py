"""Feeding by Ray Data: any node with cores to spare reads and decodes; see `feeding`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from microtome.datasets.labelled import LabelledSet, read_image
from microtome.errors import ImageUnreadable
from microtome_training.augmentation import View
from microtome_training.feeding import Batch, Corruption
from microtome_training.sampler import Share

DATASET = "training"
ROWS_PER_TASK = 64


def training_dataset(labelled: LabelledSet, view: View, seed: int) -> ray.data.Dataset:
    """The set's images, shuffled anew each epoch, decoded and varied as they stream.

    Only the rows that say where images lie are shuffled, so it costs nothing. Images that can't be
    read come as a message instead of pixels.
    """
    rows = labelled.samples.append_column("image", pa.array(range(len(labelled))))
    shuffle = ray.data.RandomSeedConfig(seed=seed, reseed_after_execution=True)
    shuffled = ray.data.from_arrow(rows).random_shuffle(seed=shuffle)
    return shuffled.repartition(max(1, len(labelled) // ROWS_PER_TASK)).map_batches(
        _decode, fn_args=(view,), batch_size=ROWS_PER_TASK, batch_format="pyarrow"
    )


class RayDataFeed:
    """This worker's part of what `training_dataset` streams; see `feeding.Feed`.

    Args:
        shard: what Ray Train gives this worker.
        images: of the whole set.
        batch_size: over all workers.
        share: this worker's.
        corruption: counts what can't be read; its place in a batch is given to another image.
    """

    def __init__(
        self, shard: Any, images: int, batch_size: int, share: Share, corruption: Corruption
    ) -> None:
        self._shard = shard
        self._batch_size = batch_size // share.workers
        self._images = images // share.workers
        self._corruption = corruption

    @property
    def steps(self) -> int:
        """See `Feed`."""
        return max(1, self._images // self._batch_size)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """See `Feed`; the order can't be repeated: as many batches are left out as were seen.

        Raises:
            ImagesCorrupt: more images than allowed can't be read.
        """
        batches = self._shard.iter_batches(
            batch_size=self._batch_size, batch_format="numpy", prefetch_batches=2
        )
        for step, rows in zip(range(self.steps), batches, strict=False):
            if step < first_step:
                continue
            yield self._batch(rows)

    def _batch(self, rows: dict[str, Any]) -> Batch:
        messages = rows["message"]
        for image, message in zip(rows["image"], messages, strict=True):
            if message:
                self._corruption.add(int(image), ImageUnreadable(message))
        good = np.flatnonzero(messages == "")
        kept = np.resize(good, len(messages)) if len(good) else np.arange(len(messages))
        pixels = np.stack(list(rows["pixels"]))[kept]
        return Batch(torch.from_numpy(pixels), torch.from_numpy(rows["label"][kept].astype("i8")))


def _decode(rows: pa.Table, view: View) -> dict[str, Any]:
    """Read and vary the images of some rows."""
    random = np.random.default_rng()
    blank = np.zeros((view.input_px, view.input_px, 3), np.uint8)
    pixels, messages = [], []
    for row in rows.to_pylist():
        try:
            pixels.append(view.varied(read_image(row), random))
            messages.append("")
        except ImageUnreadable as error:
            pixels.append(blank)
            messages.append(error.message)
    return {
        "pixels": np.stack(pixels),
        "label": rows["label"].to_numpy(),
        "image": rows["image"].to_numpy(),
        "message": np.array(messages),
    }
