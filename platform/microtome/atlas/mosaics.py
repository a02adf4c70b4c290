"""The mosaics of many slides, in memory or in files (`stored_mosaics`), one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaic import Mosaic, Vectors, lengths

Numbers = NDArray[np.int64]


class Mosaics(Protocol):
    """The mosaics of S slides, which have M representatives together."""

    @property
    def slide_ids(self) -> NDArray[Any]:
        """(S,) of text."""

    @property
    def firsts(self) -> Numbers:
        """(S + 1,): the representatives of slide s are those from its first to the next."""

    @property
    def tiles(self) -> NDArray[np.int64]:
        """(S,) how many tiles each slide's stand for."""

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """(M,) their rows in `tiles`."""

    @property
    def weights(self) -> NDArray[np.int32]:
        """(M,) how many tiles each stands for."""

    @property
    def means(self) -> Vectors:
        """(S, D) float32: the mean vector of each slide."""

    @property
    def mean_lengths(self) -> Vectors:
        """(S,) theirs, ready to divide by."""

    def vectors(self, slides: Numbers) -> NDArray[np.float16]:
        """The vectors of all representatives of some slides, one slide after the other.

        Raises:
            IndexUnusable: they are stored, and damaged.
        """


class MadeMosaics:
    """Mosaics in memory."""

    def __init__(self, mosaics: Mapping[str, Mosaic], dim: int) -> None:
        """Of mosaics by slide id, of vectors of `dim` values."""
        held = list(mosaics.values())
        self._vectors, self._none = [one.vectors for one in held], np.empty((0, dim), np.float16)
        self.slide_ids: NDArray[Any] = np.array([*mosaics, None], dtype=object)[:-1]
        self.firsts = np.cumsum([0, *map(len, held)])
        self.tiles = np.array([mosaic.tiles for mosaic in held], np.int64)
        self.row_ids = np.concatenate([np.empty(0, np.int64), *(one.row_ids for one in held)])
        self.weights = np.concatenate([np.empty(0, np.int32), *(one.weights for one in held)])
        self.means = np.array([one.mean for one in held], np.float32).reshape(-1, dim)
        self.mean_lengths = lengths(self.means)

    def vectors(self, slides: Numbers) -> NDArray[np.float16]:
        """The vectors of all representatives of some slides, one slide after the other."""
        return np.concatenate([self._none, *(self._vectors[slide] for slide in slides)])


def sizes(mosaics: Mosaics, slides: Numbers) -> Numbers:
    """How many representatives slides have."""
    counts: Numbers = mosaics.firsts[slides + 1] - mosaics.firsts[slides]
    return counts


def places(mosaics: Mosaics, slides: Numbers) -> Numbers:
    """Where all representatives of some slides are, one slide after the other."""
    counts = sizes(mosaics, slides)
    begins = mosaics.firsts[slides] - np.cumsum(counts) + counts
    found: Numbers = np.arange(counts.sum()) + begins.repeat(counts)
    return found


def mosaic_of(mosaics: Mosaics, slide: int) -> Mosaic:
    """The mosaic of one slide.

    Raises:
        IndexUnusable: it is stored, and damaged.
    """
    one = np.array([slide])
    rows = slice(mosaics.firsts[slide], mosaics.firsts[slide + 1])
    mean = mosaics.means[slide].astype(np.float16)
    return Mosaic(mosaics.vectors(one), mosaics.row_ids[rows], mosaics.weights[rows], mean)
