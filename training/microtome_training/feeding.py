"""Batches for one worker, decoded ahead of the step that wants them.

Two ways to feed, one interface:

- `sampler` (`SampledFeed`): batches are drawn first, then their images read. Batches can be drawn
  by class, an epoch can be taken up in its middle, and two runs see equal pixels. Each worker reads
  its own images from disk or object storage, with threads ahead of the step.
- `ray-data` (`ray_feed.RayDataFeed`): Ray Data reads, decodes and shares out, on any node that has
  cores to spare, so that few cores beside a GPU are no limit. Order is random but not repeatable,
  batches can't be drawn by class, and a run that resumes starts its epoch again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from microtome.datasets.labelled import LabelledSet, read_image
from microtome.errors import ImagesCorrupt, ImageUnreadable
from microtome.slides.slide import Pixels
from microtome_training.augmentation import View
from microtome_training.sampler import Batches, Indices, Share

JOBS_AHEAD = 3
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one worker feeds to one forward pass.

    Attributes:
        inputs: pixels (N, S, S, 3) uint8; or the frozen backbone's features.
        labels: (N,) int64.
    """

    inputs: Tensor | Sequence[Tensor]
    labels: Tensor


class Feed(Protocol):
    """Where batches come from."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        ...

    def epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """This worker's batches of an epoch, from `first_step` on."""
        ...


@dataclass(slots=True)
class Corruption:
    """Images that can't be read: counted, named, and no more than allowed.

    Attributes:
        images: in the set.
        allowed: share of them that may be unreadable.
        say: is told each message once.
        messages: by index of the image.
    """

    images: int
    allowed: float
    say: Callable[[str], object] = str
    messages: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, error: ImageUnreadable) -> None:
        """Note that an image can't be read.

        Raises:
            ImagesCorrupt: there are more than allowed now.
        """
        if index in self.messages:
            return
        self.messages[index] = error.message
        self.say(error.message)
        if len(self.messages) > self.allowed * self.images:
            named = "; ".join(list(self.messages.values())[:3])
            raise ImagesCorrupt(
                f"{len(self.messages)} of {self.images} images can't be read, more than the share "
                f"of {self.allowed:g} that data.max_corrupt allows: {named}",
                remedy="Mend or remove them, or allow more by data.max_corrupt.",
            )


class ImageReader:
    """Reads a set's images by index, in threads.

    Args:
        labelled: the set.
        corruption: counts what can't be read.
    """

    def __init__(self, labelled: LabelledSet, corruption: Corruption) -> None:
        self.labelled = labelled
        self.corruption = corruption
        self.labels: Indices = labelled.labels

    def read(self, index: int) -> Pixels | None:
        """The pixels of one image; None, and counted, where it can't be read."""
        if index in self.corruption.messages:
            return None
        try:
            return read_image(self._row(index))
        except ImageUnreadable as error:
            self.corruption.add(index, error)
            return None

    def read_or_another(self, index: int) -> Pixels:
        """The pixels of one image, or of the next readable one of its class.

        Batches keep their size and their classes whatever can't be read.

        Raises:
            ImagesCorrupt: too many can't be read, or a class has no readable image.
        """
        pixels = self.read(index)
        if pixels is not None:
            return pixels
        peers = np.flatnonzero(self.labels == self.labels[index])
        start = int(np.searchsorted(peers, index))
        for peer in np.roll(peers, -start)[1:]:
            pixels = self.read(int(peer))
            if pixels is not None:
                return pixels
        name = self.labelled.classes[int(self.labels[index])]
        raise ImagesCorrupt(f"no image of class {name} can be read", remedy="Bring readable ones.")

    def _row(self, index: int) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.labelled.samples.slice(index, 1).to_pylist()[0]
        return row


class SampledFeed:
    """Batches drawn by `Batches`, read and varied in threads.

    Args:
        reader: of the images.
        batches: which images.
        share: this worker's part.
        view: how they are varied.
        threads: how many decode.
    """

    def __init__(
        self, reader: ImageReader, batches: Batches, share: Share, view: View, threads: int
    ) -> None:
        self._reader = reader
        self._batches = batches
        self._share = share
        self._view = view
        self._threads = threads

    @property
    def steps(self) -> int:
        """See `Feed`."""
        return self._batches.steps

    def epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """See `Feed`.

        Raises:
            ImagesCorrupt: more images than allowed can't be read.
        """
        drawn = self._batches.epoch(epoch)
        own = [self._share.of(batch) for batch in drawn[first_step:]]
        positions = self._share.of(np.arange(drawn.shape[1]))
        jobs = (
            [
                partial(self._make, int(image), (self._batches.seed, epoch, step, int(position)))
                for image, position in zip(images, positions, strict=True)
            ]
            for step, images in enumerate(own, start=first_step)
        )
        for images, pixels in zip(own, ahead(jobs, self._threads), strict=True):
            labels = torch.from_numpy(self._reader.labels[images])
            yield Batch(torch.from_numpy(np.stack(pixels)), labels)

    def _make(self, image: int, seed: tuple[int, ...]) -> Pixels:
        pixels = self._reader.read_or_another(image)
        return self._view.varied(pixels, np.random.default_rng(seed))


def plain_batches(
    reader: ImageReader, images: Indices, view: View, sizes: tuple[int, int]
) -> Iterator[tuple[Indices, Pixels]]:
    """Unvaried images in order, for validation.

    Args:
        reader: of the images.
        images: which.
        view: how they are cut.
        sizes: images of a batch, and threads.

    Yields:
        The indices that could be read, and their pixels (N, S, S, 3) uint8; corrupt ones are
        counted and left out.
    """
    batch_size, threads = sizes

    def make(image: int) -> Pixels | None:
        pixels = reader.read(image)
        return None if pixels is None else view.plain(pixels)

    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    jobs = ([partial(make, int(image)) for image in part] for part in parts)
    for part, made in zip(parts, ahead(jobs, threads), strict=True):
        kept = np.array([pixels is not None for pixels in made], bool)
        if kept.any():
            yield part[kept], np.stack([pixels for pixels in made if pixels is not None])


def ahead(jobs: Iterable[Sequence[Callable[[], Made]]], threads: int) -> Iterator[list[Made]]:
    """Do jobs in threads before they are asked for.

    Args:
        jobs: each a list of calls that may run side by side.
        threads: how many run.

    Yields:
        The results of each job, in order; a few jobs are under way meanwhile.
    """
    coming: deque[list[Future[Made]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                coming.append([pool.submit(call) for call in job])
                if len(coming) > JOBS_AHEAD:
                    yield [future.result() for future in coming.popleft()]
            while coming:
                yield [future.result() for future in coming.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)
