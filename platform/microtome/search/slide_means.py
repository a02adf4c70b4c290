"""How alike tissue and slides are by their mean vectors: the method `mean` of `slide_methods`.

The mean of a slide that is found for itself is there, and so is its length: nothing is made of it
but a product. Means of slides that are found together are summed first, each times its tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from microtome.atlas.mosaic import Mosaic, Vectors, unit
from microtome.atlas.mosaics import Numbers, mosaic_of, places, sizes
from microtome.search.slide_bank import Bank, Part
from microtome.search.slide_methods import (
    Field,
    Scored,
    Tissue,
    by_group,
    candidates,
    starts_of,
)

PICKED: Final = 4
"""Means of less than this part of the slides are picked; to scan all is as quick otherwise."""


def by_mean(tissue: Tissue, field: Field) -> Scored:
    """Compare mean vectors; see `slide_methods`."""
    bank = field.bank
    numbers, exact = candidates("mean", tissue.mean[None], field)
    groups, starts = by_group(field.groups[numbers])
    counts = np.diff(starts, append=len(numbers))
    whole = all(part.kept is None for part in bank.parts)
    alone = (counts == 1) & whole
    cosines = np.empty(len(groups), np.float32)
    cosines[alone] = _cosines(bank, numbers[starts[alone]], tissue.mean)
    sums = _sums(_means(bank, numbers[np.repeat(~alone, counts)]), counts[~alone])
    cosines[~alone] = unit(sums) @ tissue.mean
    return Scored(groups, cosines, cosines, exact)


def _cosines(bank: Bank, numbers: Numbers, vector: Vectors) -> Vectors:
    """(N,) of a unit vector with the means of slides that count as they are."""
    cosines = np.empty(len(numbers), np.float32)
    for part, where, slides in bank.shares(numbers):
        means = part.mosaics.means
        few = PICKED * len(slides) < len(means)
        products = means[slides] @ vector if few else (means @ vector)[slides]
        cosines[where] = products / part.mosaics.mean_lengths[slides]
    return cosines


def _means(bank: Bank, numbers: Numbers) -> Vectors:
    """(N, D) mean vectors of slides, times their tiles; of what counts where not all does."""
    means = np.empty((len(numbers), bank.parts[0].mosaics.means.shape[1]), np.float32)
    for part, where, slides in bank.shares(numbers):
        tiles = part.mosaics.tiles[slides, None].astype(np.float32)
        means[where] = part.mosaics.means[slides] * tiles
        for place, own in _partial(part, slides):
            means[where[place]] = own.mean.astype(np.float32) * own.tiles
    return means


def _partial(part: Part, slides: Numbers) -> Iterator[tuple[int, Mosaic]]:
    """Of those slides of which a part counts, the places, and what counts."""
    if part.kept is None:
        return
    counts = sizes(part.mosaics, slides)
    kept = np.add.reduceat(
        part.kept[places(part.mosaics, slides)], starts_of(counts), dtype=np.int64
    )
    for place in np.flatnonzero(kept < counts).tolist():
        own = mosaic_of(part.mosaics, int(slides[place]))
        yield place, own.only(part.kept[places(part.mosaics, slides[place : place + 1])])


def _sums(rows: Vectors, counts: Numbers) -> Vectors:
    """The sums of so many rows each: most often of one or few.

    `np.add.reduceat` would do the same, and takes ten times as long along this axis.
    """
    starts = starts_of(counts)
    sums: Vectors = rows[starts]
    for rank in range(1, counts.max(initial=0)):
        longer = np.flatnonzero(counts > rank)
        sums[longer] += rows[starts[longer] + rank]
    return sums
