"""How alike tissue and a slide are, by mosaics or by mean vectors.

mosaic  For each representative of the query the best cosine with any of the slide's; their median,
        weighed by the tiles that the query's representatives stand for. That is one minus the
        median of minimum distances of Yottixel (Kalra et al. 2020, arXiv:1911.08748), where
        clusters take part by their size as well. It looks from the query to the slide: what the
        slide holds besides costs it nothing.
mean    The cosine of the mean vectors of all tiles (`slide_means`). Slides that mix the same
        tissues in the same parts are near; but so is one that is all of a kind between them.

Slides of one case are one: the best of all their representatives, the mean of all their tiles.

Where there are many slides, candidates are looked up in the vocabulary of the stored mosaics: a
slide gains, for each of the query's vectors, by how much the nearest word it comes under is nearer
than the last one looked under. The best are then compared exactly. Of what a filter takes away, a
slide gains nothing; where it leaves a part of each, so many more are compared, as the little that
is left says less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaic import Mosaic, Vectors, unit
from microtome.atlas.mosaics import Numbers, places, sizes
from microtome.atlas.stored_mosaics import StoredMosaics
from microtome.search.slide_bank import Bank, Part, those_among

CANDIDATES: Final = {"vector": 512, "mean": 4096}
"""Slides compared at least, by vocabulary; a mean is quickly compared, but one vector says less."""
SCANNED: Final = {"vector": 0, "mean": 16_384}
"""But up to so many all: to look up and pick a mean costs what it costs to scan four."""
CANDIDATES_PER_HIT: Final = 12
"""And so many for each hit that is wanted: with 8, a twentieth of a hundred spread hits is lost."""
WORDS: Final = 1600  # looked under by all of a query's vectors together,
LEAST_WORDS, MOST_WORDS = 16, 64  # and by each
TOPICS: Final = {"vector": 4, "mean": 8}
BLOCK_COSINES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Tissue:
    """What is compared.

    Attributes:
        vectors: (Q, D) float32 of unit length.
        weights: (Q,) how many tiles each stands for.
        mean: (D,) float32 of unit length, of all those tiles.
        row_ids: (Q,) rows of `tiles`; None where they aren't tiles of the atlas.
    """

    vectors: Vectors
    weights: NDArray[np.float64]
    mean: Vectors
    row_ids: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, vectors: Vectors, row_ids: NDArray[np.int64] | None = None) -> Tissue:
        """Of (Q, D) unit vectors that count alike."""
        mean = unit(vectors.mean(axis=0, keepdims=True))[0]
        return cls(vectors, np.ones(len(vectors)), mean, row_ids)

    @classmethod
    def of_mosaic(cls, mosaic: Mosaic) -> Tissue:
        """Of a slide, or of several together."""
        mean = unit(mosaic.mean[None])[0]
        return cls(unit(mosaic.vectors), mosaic.weights.astype(float), mean, mosaic.row_ids)


@dataclass(frozen=True, slots=True)
class Scored:
    """What was compared.

    Attributes:
        groups: (G,) numbers of groups of slides.
        scores: (G,) float32.
        ties: (G,) float32, what else counts where scores are equal.
        exact: whether these are all.
    """

    groups: Numbers
    scores: Vectors
    ties: Vectors
    exact: bool

    def at(self, places: Numbers) -> Scored:
        """Some of it."""
        return replace(
            self, groups=self.groups[places], scores=self.scores[places], ties=self.ties[places]
        )

    def and_more(self, other: Scored) -> Scored:
        """With what was compared besides, of which no group may be in both."""
        return Scored(
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.ties, other.ties]),
            self.exact and other.exact,
        )


@dataclass(frozen=True, slots=True)
class Field:
    """Among what is looked.

    Attributes:
        bank: the mosaics.
        groups: (N,) the group of each of its slides; −1 for those that may not be found.
        k: how many hits are wanted.
        exact: compare with all.
        effort: how far to look for candidates, times the usual.
    """

    bank: Bank
    groups: Numbers
    k: int
    exact: bool = False
    effort: float = 1.0


def by_mosaic(tissue: Tissue, field: Field) -> Scored:
    """Compare mosaics; see above.

    Raises:
        IndexUnusable: stored mosaics are damaged.
    """
    numbers, exact = candidates("vector", tissue.vectors, field)
    best = np.full((len(tissue.vectors), len(numbers)), -np.inf, np.float32)
    for part, where, slides in field.bank.shares(numbers):
        best[:, where] = best_cosines(tissue.vectors, part, slides)
    groups, starts = by_group(field.groups[numbers])
    best = np.maximum.reduceat(best, starts, axis=1)
    means = (tissue.weights @ best / tissue.weights.sum()).astype(np.float32)
    return Scored(groups, weighted_medians(best, tissue.weights), means, exact)


def candidates(words: str, vectors: Vectors, field: Field) -> tuple[Numbers, bool]:
    """Slides worth comparing, in the order of their groups; and whether these are all.

    Args:
        words: the vocabulary.
        vectors: (Q, D) of the query.
        field: among what is looked.
    """
    free = np.flatnonzero(field.groups >= 0)
    part, exact = field.bank.parts[0], True
    stored = part.mosaics
    if isinstance(stored, StoredMosaics) and words in stored.words and not field.exact:
        looked_up = free[free < len(stored)]
        usual = max(CANDIDATES[words], CANDIDATES_PER_HIT * field.k)
        wanted = usual * field.effort / _share_kept(part, looked_up)
        if len(looked_up) > max(wanted, SCANNED[words] if part.kept is None else 0):
            gains = _gains(part, words, vectors, field.effort * _effort(part, words, looked_up))
            best = np.argpartition(-gains[looked_up], math.ceil(wanted) - 1)[: math.ceil(wanted)]
            chosen = np.concatenate([looked_up[best], free[free >= len(stored)]])
            free = free[those_among(field.groups[chosen], field.groups[free])]
            exact = False
    order = np.argsort(field.groups[free], kind="stable")
    return free[order], exact


def best_cosines(vectors: Vectors, part: Part, slides: Numbers) -> Vectors:
    """(Q, S) the best cosine of each of (Q, D) vectors with any that counts of each slide."""
    step = max(1, BLOCK_COSINES // (100 * len(vectors)))
    parts = [np.empty((len(vectors), 0), np.float32)]
    for start in range(0, len(slides), step):
        some = slides[start : start + step]
        stored, counts = part.mosaics.vectors(some), sizes(part.mosaics, some)
        if part.kept is not None:
            kept = part.kept[places(part.mosaics, some)]
            stored, counts = stored[kept], np.add.reduceat(kept, starts_of(counts), dtype=np.int64)
        cosines = vectors @ unit(stored).T
        parts.append(np.maximum.reduceat(cosines, starts_of(counts), axis=1))
    return np.concatenate(parts, axis=1)


def weighted_medians(values: Vectors, weights: NDArray[np.float64]) -> Vectors:
    """The median of each column of (Q, N) values whose rows have (Q,) weights.

    As of so many equal values as the weights say: halfway where two are in the middle.
    """
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    sums = np.cumsum(weights[order], axis=0)
    half = sums[-1] / 2
    low = (sums < half).sum(axis=0)
    high = np.minimum((sums <= half).sum(axis=0), len(values) - 1)
    columns = np.arange(values.shape[1])
    medians: Vectors = (ordered[low, columns] + ordered[high, columns]) / 2
    return medians


def starts_of(counts: Numbers) -> Numbers:
    """Where each begins of what has these counts and lies one after the other."""
    starts: Numbers = np.cumsum(counts) - counts
    return starts


def by_group(groups: Numbers) -> tuple[Numbers, Numbers]:
    """Of sorted groups each once, and where it starts."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return groups[starts], starts


def _share_kept(part: Part, slides: Numbers) -> float:
    """Share of the representatives of some slides that count."""
    if part.kept is None or not len(slides):
        return 1.0
    return float(part.kept[places(part.mosaics, slides)].mean())


def _effort(part: Part, words: str, slides: Numbers) -> float:
    """How much further to look in a vocabulary where only some slides, or parts of them, count."""
    members = len(part.places) if words == "mean" else len(part.mosaics.row_ids)
    there = len(slides)
    if words == "vector":
        there = sizes(part.mosaics, slides).sum() * _share_kept(part, slides)
    return math.sqrt(members / there)


def _gains(part: Part, name: str, vectors: Vectors, effort: float) -> Vectors:
    """(S,) how much each stored slide gains by the words that it comes under."""
    stored, kept = cast(StoredMosaics, part.mosaics), part.kept if name == "vector" else None
    words = stored.words[name]
    count = min(MOST_WORDS, max(LEAST_WORDS, WORDS // len(vectors)))
    count = min(len(words.words), math.ceil(count * effort))
    found, cosines = words.nearest(vectors, count, math.ceil(TOPICS[name] * effort))
    gains = np.zeros(len(stored), np.float32)
    for own, near in zip(found, cosines, strict=True):
        own = own[own >= 0]  # noqa: PLW2901
        members, ranks = words.members_near(own)
        if kept is not None:
            members, ranks = members[kept[members]], ranks[kept[members]]
        slides = stored.owners[members] if name == "vector" else members
        slides, first = np.unique(slides, return_index=True)
        gains[slides] += near[ranks[first]] - near[len(own) - 1] + np.finfo(np.float32).eps
    return gains
