"""Which images make up which batch: a function of seed and epoch, the same for any workers.

The batch of a step is decided for all workers together and then shared out, so training that
resumes in the middle of an epoch, even on another number of workers, goes on with the very batches
that were still to come.

pytorch-metric-learning's `MPerClassSampler` wants as many classes in each batch as fit and has no
end with fewer, so it can't serve sets of three to eight classes; this one takes any number from 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.errors import SettingError

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's part of every batch.

    Attributes:
        rank: of the worker.
        workers: how many there are.
    """

    rank: int = 0
    workers: int = 1

    def of(self, batch: Indices) -> Indices:
        """Every n-th of a batch, so that each worker sees a like mixture of classes."""
        return batch[self.rank :: self.workers]


@dataclass(frozen=True, eq=False, slots=True)
class Batches:
    """The batches of every epoch.

    Attributes:
        labels: (N,) class of each image.
        batch_size: images of one batch over all workers.
        per_class: images of each class that a batch names; None draws without regard to class.
        seed: another one, other batches.
    """

    labels: Indices
    batch_size: int
    per_class: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.per_class is not None and len(np.unique(self.labels)) < 2:
            raise SettingError("batches drawn by class need at least two classes")

    @property
    def steps(self) -> int:
        """Batches of an epoch; what doesn't fill the last one waits for another epoch."""
        return max(1, len(self.labels) // self.batch_size)

    def epoch(self, epoch: int) -> Indices:
        """Image indices of an epoch, (steps, batch_size).

        Drawn by class, the classes take turns, and a class's images too: none comes again before
        all have come. A class with fewer images than it has places repeats them.
        """
        random = np.random.default_rng((self.seed, epoch))
        if self.per_class is None:
            order = random.permutation(len(self.labels))
            wanted = self.steps * self.batch_size
            return np.resize(order, wanted).reshape(self.steps, self.batch_size)
        classes = np.unique(self.labels)
        turns = _Turns(classes, random)
        images = {int(k): _Turns(np.flatnonzero(self.labels == k), random) for k in classes}
        return np.array([self._batch(turns, images) for _ in range(self.steps)], np.int64)

    def _batch(self, turns: _Turns, images: dict[int, _Turns]) -> list[int]:
        assert self.per_class is not None  # noqa: S101 - the caller has looked
        places = turns.take(self.batch_size // self.per_class)
        chosen, counts = np.unique(places, return_counts=True)
        return [
            image
            for label, count in zip(chosen, counts, strict=True)
            for image in images[int(label)].take(int(count) * self.per_class)
        ]


class _Turns:
    """Things in random order, none again before all have come."""

    def __init__(self, things: Indices, random: np.random.Generator) -> None:
        self._things = things
        self._random = random
        self._waiting: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next `count`; all differ unless there are fewer things than that."""
        rounds, rest = divmod(count, len(self._things))
        taken: list[int] = self._things.tolist() * rounds
        last: list[int] = []
        passed: list[int] = []
        while len(last) < rest:
            if not self._waiting:
                self._waiting = self._random.permutation(self._things).tolist()
            thing = self._waiting.pop()
            (passed if thing in last else last).append(thing)
        self._waiting.extend(passed)
        return taken + last
