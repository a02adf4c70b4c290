"""Which tiles of the query and of a slide that was found match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from microtome.atlas.mosaic import unit
from microtome.atlas.mosaics import Numbers, places
from microtome.search.hits import read_hits
from microtome.search.result import Hit
from microtome.search.slide_bank import Bank
from microtome.search.slide_methods import Tissue
from microtome.search.slide_result import TileMatch

Pair = tuple[int, int, float]
"""Which of the query's tiles, which row of `tiles`, and their cosine."""


@dataclass(frozen=True, slots=True)
class Found:
    """A slide or case that was found, before its tiles are read.

    Attributes:
        slides: its slides that were searched, sorted.
        pairs: tiles that match, best first.
    """

    slides: tuple[str, ...]
    pairs: Sequence[Pair]


def pairs_of(tissue: Tissue, bank: Bank, numbers: Numbers, count: int) -> list[Pair]:
    """The best pairs of representatives of the query and of some slides, each in one pair only.

    Raises:
        IndexUnusable: stored mosaics are damaged.
    """
    cosines, rows = [], []
    for part, _, slides in bank.shares(numbers):
        there = places(part.mosaics, slides)
        counts = np.ones(len(there), np.bool_) if part.kept is None else part.kept[there]
        cosines.append(tissue.vectors @ unit(part.mosaics.vectors(slides)[counts]).T)
        rows.append(part.mosaics.row_ids[there[counts]])
    table, row_ids = np.concatenate(cosines, axis=1), np.concatenate(rows)
    pairs = []
    for _ in range(min(count, *table.shape)):
        query, slide = np.unravel_index(table.argmax(), table.shape)
        pairs.append((int(query), int(row_ids[slide]), float(table[query, slide])))
        table[query], table[:, slide] = -np.inf, -np.inf
    return pairs


def distinct(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The first pairs of those that are sorted, each of the slide's tiles once."""
    rows: dict[int, Pair] = {}
    for pair in pairs:
        rows.setdefault(pair[1], pair)
    return list(rows.values())[:count]


def read_matches(
    tiles: Any, tissue: Tissue, own: Hit | None, found: Sequence[Found]
) -> list[tuple[TileMatch, ...]]:
    """The tiles of each pair.

    Args:
        tiles: the Lance dataset.
        tissue: the query.
        own: its tile, where it is one.
        found: what was found.
    """
    pairs = [pair for one in found for pair in one.pairs]
    asked = tissue.row_ids
    rows = {row for _, row, _ in pairs}
    rows |= {int(asked[query]) for query, _, _ in pairs} if asked is not None else set()
    hits = dict(zip(sorted(rows), read_hits(tiles, sorted(rows), [1.0] * len(rows)), strict=True))

    def match(pair: Pair) -> TileMatch:
        query, row, cosine = pair
        return TileMatch(
            own if asked is None else hits[int(asked[query])],
            replace(hits[row], score=cosine),
            cosine,
        )

    return [tuple(match(pair) for pair in one.pairs) for one in found]
