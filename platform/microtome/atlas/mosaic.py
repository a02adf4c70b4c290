"""A slide's mosaic: a few of its tiles that stand for all of them.

As in Yottixel (Kalra et al., "Yottixel: an image search engine for large archives of histopathology
whole slide images", Medical Image Analysis 65, 2020, arXiv:1911.08748), but for the clusters: there
of colours, then of places, and a share of the tiles of each; here of what the model makes of the
tiles, and of each cluster the one tile that is nearest to its centre, with the number of tiles
that it stands for.

A slide of at most `MOST` tiles is its own mosaic, whole. Of a larger one, spherical k-means
(Dhillon & Modha, Machine Learning 42, 2001) of at most `MOST · SAMPLE` of its tiles, at even steps,
finds `MOST` clusters; then every tile counts for its nearest centre. The same vectors give the same
mosaic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MOST = 100
"""Representatives of a slide, at most."""
MOST_JOINED = 1000
"""Representatives of several slides together, at most."""
SAMPLE = 40  # tiles per cluster that take part in finding it
ROUNDS = 10
BLOCK_ROWS = 8192

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """What stands for a slide, or for several.

    Attributes:
        vectors: (R, D) float16: those of its representatives, as they are in `tiles`.
        row_ids: (R,) int64, their rows, sorted unless it is joined.
        weights: (R,) int32, how many tiles each stands for.
        mean: (D,) float16: the mean of all its tiles' unit vectors.
    """

    vectors: NDArray[np.float16]
    row_ids: NDArray[np.int64]
    weights: NDArray[np.int32]
    mean: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def tiles(self) -> int:
        """How many tiles it stands for."""
        return int(self.weights.sum())

    @classmethod
    def of(cls, vectors: NDArray[np.float16], row_ids: NDArray[np.int64]) -> Self:
        """The mosaic of a slide from its tiles' (N, D) vectors and (N,) sorted rows, N ≥ 1."""
        units = unit(vectors)
        mean = units.mean(axis=0, dtype=np.float64).astype(np.float16)
        if len(units) <= MOST:
            return cls(vectors, row_ids, np.ones(len(units), np.int32), mean)
        steps = np.linspace(0, len(units) - 1, min(len(units), MOST * SAMPLE)).astype(np.int64)
        chosen, weights = _representatives(units, cluster(units[steps], MOST))
        return cls(vectors[chosen], row_ids[chosen], weights, mean)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One mosaic of several slides, at least one: all their representatives.

        Of more than `MOST_JOINED`, some at even steps, each of which also stands for what those
        left out stand for, where it is the nearest to them.
        """
        tiles = [part.tiles for part in parts]
        means = np.stack([part.mean for part in parts]).astype(np.float32)
        mean = np.average(means, axis=0, weights=tiles).astype(np.float16)
        vectors = np.concatenate([part.vectors for part in parts])
        row_ids = np.concatenate([part.row_ids for part in parts])
        weights = np.concatenate([part.weights for part in parts])
        if len(vectors) > MOST_JOINED:
            steps = np.linspace(0, len(vectors) - 1, MOST_JOINED).astype(np.int64)
            own = nearest_of(unit(vectors), unit(vectors[steps]))[0]
            weights = np.bincount(own, weights, MOST_JOINED).astype(np.int32)
            vectors, row_ids = vectors[steps], row_ids[steps]
        return cls(vectors, row_ids, weights, mean)

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """Without some of its representatives; its mean is then that of those that are left."""
        if kept.all() or not kept.any():
            mean = self.mean
        else:
            left = np.average(unit(self.vectors[kept]), axis=0, weights=self.weights[kept])
            mean = left.astype(np.float16)
        return type(self)(self.vectors[kept], self.row_ids[kept], self.weights[kept], mean)


def unit(vectors: NDArray[Any]) -> Vectors:
    """(N, D) float32 of unit length; zeros stay zeros."""
    rows = vectors.astype(np.float32)
    rows /= lengths(rows)[:, None]
    return rows


def lengths(vectors: Vectors) -> Vectors:
    """(N,) the lengths of (N, D) float32, ready to divide by: zero is the least number above it."""
    found: Vectors = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.maximum(found, np.finfo(np.float32).tiny)


def cluster(vectors: Vectors, count: int, rounds: int = ROUNDS) -> Vectors:
    """At most `count` centres of unit length of (N, D) unit vectors, by spherical k-means.

    The first are vectors drawn at random, always the same; a cluster that loses all its members
    is dropped.
    """
    if len(vectors) <= count:
        return vectors
    chosen = np.random.default_rng(0).choice(len(vectors), count, replace=False)
    centres = vectors[np.sort(chosen)]
    for _ in range(rounds):
        own = nearest_of(vectors, centres)[0]
        order = np.argsort(own, kind="stable")
        starts = np.flatnonzero(np.diff(own[order], prepend=-1))
        centres = unit(np.add.reduceat(vectors[order], starts, axis=0))
    return centres


def nearest_of(vectors: Vectors, centres: Vectors) -> tuple[NDArray[np.int64], Vectors]:
    """The nearest of (C, D) centres to each of (N, D) unit vectors, and its cosine; (N,) each."""
    owns, cosines = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for block in _blocks(vectors):
        scores = block @ centres.T
        own = scores.argmax(axis=1)
        owns.append(own)
        cosines.append(np.take_along_axis(scores, own[:, None], axis=1)[:, 0])
    return np.concatenate(owns), np.concatenate(cosines)


def _representatives(
    vectors: Vectors, centres: Vectors
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Of each cluster the member nearest to its centre, in the order of the tiles; and its size."""
    own, cosines = nearest_of(vectors, centres)
    order = np.lexsort((-cosines, own))  # by cluster, the nearest first, then the first tile
    firsts = np.flatnonzero(np.diff(own[order], prepend=-1))
    sizes = np.diff(np.append(firsts, len(own)))
    chosen = order[firsts]
    by_place = np.argsort(chosen)
    return chosen[by_place], sizes[by_place].astype(np.int32)


def _blocks(vectors: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(vectors), BLOCK_ROWS):
        yield vectors[start : start + BLOCK_ROWS]
