"""Which slides hold the tiles that are nearest to each tile of a query.

Each tile of the query looks for its nearest tiles: `VOTERS`, or a mean slide's number of them if
that is less, but at least as many as hits are wanted; and for more where those lie on too few
slides. The slide, or case, of the nearest gets a vote of one, the next that comes up a half, the
third a third, and so on (the reciprocal ranks of Cormack et al., "Reciprocal rank fusion", SIGIR
2009), however many of its tiles come up; votes are weighed by the tiles that the query's tile
stands for. A large slide has more tiles that may come up, so the sum is divided by
1 − B + B · tiles / mean tiles of a slide, as documents' length is in BM25 (Robertson & Zaragoza,
Foundations and Trends in Information Retrieval 3, 2009). A slide of mean size that is first for
every tile of the query scores 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaic import Vectors, unit
from microtome.atlas.mosaics import Numbers
from microtome.search import patience
from microtome.search.finder import Finder, View, Wanted, path_of
from microtome.search.slide_facts import Groups, SlideFacts
from microtome.search.slide_methods import Scored, Tissue

VOTERS: Final = 50
MOST_VOTERS: Final = 2000
B: Final = 0.75
BLOCK_ROWS: Final = 16_384  # of the atlas at once, but no more than give
BLOCK_COSINES: Final = 1 << 22  # with all of the query's tiles

Near = tuple[NDArray[np.int64], Vectors]
"""Rows of tiles, best first, and their cosines."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Whose tiles may vote.

    Attributes:
        slides: all.
        groups: how they are taken together.
        tiles: (F,) how many tiles each has that who asks may see: others have no say in sizes.
    """

    slides: SlideFacts
    groups: Groups
    tiles: NDArray[np.int64]

    @property
    def voters(self) -> int:
        """How many tiles each tile of a query lets vote."""
        return min(VOTERS, round(_mean(self.tiles)))

    def sizes(self, numbers: Numbers) -> NDArray[np.float64]:
        """(N,) how large groups are, the mean being 1."""
        tiles = np.bincount(self.groups.of, weights=self.tiles, minlength=len(self.groups.names))
        sizes: NDArray[np.float64] = tiles[numbers] / _mean(tiles)
        return sizes


@dataclass(frozen=True, slots=True)
class Ballot:
    """What was voted.

    Attributes:
        scored: the groups.
        pairs: by group, (query tile, row of `tiles`, cosine) of tiles that voted for it, best
            first, each query tile once.
    """

    scored: Scored
    pairs: dict[int, list[tuple[int, int, float]]]


def by_votes(tissue: Tissue, near: Sequence[Near], view: View, roll: Roll, exact: bool) -> Ballot:
    """Let tiles near to each of the query's tiles vote.

    Args:
        tissue: the query.
        near: what is near to each of its tiles, see `nearest_of_each`.
        view: what is searched.
        roll: whose tiles may vote.
        exact: whether every tile was compared.
    """
    group_of = _groups_of_rows(view.tiles, near, roll)
    votes: dict[int, float] = {}
    pairs: dict[int, list[tuple[int, int, float]]] = {}
    for asking, (row_ids, cosines) in enumerate(near):
        ranked: dict[int, tuple[int, float]] = {}
        for row, cosine in zip(row_ids.tolist(), cosines.tolist(), strict=True):
            if row in group_of:
                ranked.setdefault(group_of[row], (row, cosine))
        for rank, (group, (row, cosine)) in enumerate(ranked.items(), start=1):
            votes[group] = votes.get(group, 0.0) + tissue.weights[asking] / rank
            pairs.setdefault(group, []).append((asking, row, cosine))
    for found in pairs.values():
        found.sort(key=lambda pair: (-pair[2], pair[0]))
    return Ballot(_scored(votes, pairs, tissue, roll, exact), pairs)


def _scored(
    votes: dict[int, float],
    pairs: dict[int, list[tuple[int, int, float]]],
    tissue: Tissue,
    roll: Roll,
    exact: bool,
) -> Scored:
    numbers = np.array(sorted(votes), dtype=np.int64)
    shares = np.array([votes[number] for number in numbers.tolist()]) / tissue.weights.sum()
    best = [pairs[number][0][2] for number in numbers.tolist()]
    scores = shares / (1 - B + B * roll.sizes(numbers))
    return Scored(numbers, scores.astype(np.float32), np.array(best, np.float32), exact)


def _mean(tiles: NDArray[Any]) -> float:
    """Of those that have any, at least 1."""
    there = tiles[tiles > 0]
    return max(1.0, float(there.mean())) if len(there) else 1.0


def nearest_of_each(vectors: Vectors, finder: Finder, view: View, wanted: Wanted) -> list[Near]:
    """The tiles nearest to each vector."""
    if path_of(view, wanted) != "exact":
        found = finder.find(view, [vector[None] for vector in vectors], wanted)
        return [(near.row_ids.astype(np.int64), near.scores) for near in found]
    rows = np.full((len(vectors), wanted.k), -1, np.int64)
    best = np.full((len(vectors), wanted.k), -np.inf, np.float32)
    scanner = view.tiles.scanner(
        columns=[finder.column],
        filter=wanted.condition,
        with_row_id=True,
        batch_size=max(1, min(BLOCK_ROWS, BLOCK_COSINES // len(vectors))),
    )
    for block in scanner.to_batches():
        patience.check()
        there = block.filter(block.column(finder.column).is_valid())
        stored = there.column(finder.column)
        cosines = vectors @ unit(stored.flatten().to_numpy().reshape(-1, vectors.shape[1])).T
        names = np.broadcast_to(there.column("_rowid").to_numpy().astype(np.int64), cosines.shape)
        cosines, names = np.append(best, cosines, axis=1), np.append(rows, names, axis=1)
        top = np.argpartition(-cosines, wanted.k - 1, axis=1)[:, : wanted.k]
        best, rows = np.take_along_axis(cosines, top, 1), np.take_along_axis(names, top, 1)
    order = np.lexsort((rows, -best), axis=1)
    rows, best = np.take_along_axis(rows, order, 1), np.take_along_axis(best, order, 1)
    return [(own[own >= 0], near[own >= 0]) for own, near in zip(rows, best, strict=True)]


def with_further(near: Sequence[Near], further: Sequence[Near]) -> list[Near]:
    """What is near to each of the query's tiles, and what further search found, in one order."""
    both = []
    for (rows, cosines), (more, theirs) in zip(near, further, strict=True):
        row_ids, first = np.unique(np.append(rows, more), return_index=True)
        scores = np.append(cosines, theirs)[first]
        order = np.lexsort((row_ids, -scores))
        both.append((row_ids[order], scores[order]))
    return both


def _groups_of_rows(tiles: Any, near: Sequence[Near], roll: Roll) -> dict[int, int]:
    """The group of each row; rows of slides that aren't known have none."""
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(row_ids for row_ids, _ in near)]))
    taken = tiles._take_rows(rows.tolist(), columns=["slide_id", "_rowid"])
    owned = zip(taken["_rowid"].to_pylist(), taken["slide_id"].to_pylist(), strict=True)
    places: dict[str, int] = roll.slides.places
    of: Numbers = roll.groups.of
    return {row: int(of[places[slide]]) for row, slide in owned if slide in places}
