"""The tiles nearest to queries: through the index where there is one, else exactly.

1. The filter becomes bits: the rows that may be found (`passing`).
2. The codes of the index name the candidates among them, a few dozen per vector of a query.
3. The candidates' vectors are read from the table and compared exactly.
4. Rows that the index doesn't code are compared exactly, all of them, and join.

The fewer rows pass, the more lists are looked into, since the nearest of them lie further away;
in the end all. So a search finds k tiles wherever k pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import Standing, VectorIndex, open_index, stand
from microtome.search.exact import Nearest, Part, best_cosine, best_rows, nearest
from microtome.search.filters import Exclusion, all_of
from microtome.search.passing import Bits, Passing, count

CANDIDATES: Final = 30  # per vector, or
CANDIDATES_PER_HIT: Final = 3
LOOK_AGAIN_S: Final = 30.0  # after which a new index is looked for, though no table has changed

Path = Literal["index", "exact"]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found.

    Attributes:
        k: how many tiles.
        where: Lance filter.
        exclusion: a slide or case that is left out.
        exact: compare with every vector.
        effort: times the usual number of lists and candidates.
    """

    k: int
    where: str | None = None
    exclusion: Exclusion | None = None
    exact: bool = False
    effort: float = 1.0

    @property
    def condition(self) -> str | None:
        """Filter and exclusion as one."""
        return all_of(self.where or "", self.exclusion.others if self.exclusion else "")


@dataclass(frozen=True, slots=True)
class View:
    """One version of `tiles`, and the index as it stands to it.

    Attributes:
        tiles: the Lance dataset.
        index: None where there is none to be used.
        standing: None where there is no index.
        problem: why there is an index that can't be used; else empty.
    """

    tiles: Any
    index: VectorIndex | None = None
    standing: Standing | None = None
    problem: str = ""


class Finder:
    """Finds the nearest tiles by the vectors of one model; safe to use from many threads.

    Attributes:
        model_id: the model.
        column: of `tiles`, with its vectors.
    """

    def __init__(self, atlas: Atlas, model_id: str) -> None:
        self._atlas = atlas
        self.model_id = model_id
        self.column = vector_column(model_id)
        self._passing = Passing()
        self._view: View | None = None
        self._slides: tuple[View, int] | None = None  # their version, when they were looked at
        self._looked_s = -math.inf

    def view(self) -> View:
        """The newest version, or the one that the atlas is pinned to."""
        now_s, tiles, known = time.monotonic(), self._atlas.tiles, self._view
        if known and known.tiles.version == tiles.version and now_s < self._looked_s + LOOK_AGAIN_S:
            return known
        index = known.index if known else None
        try:
            index = open_index(self._atlas, self.model_id, known=index)
            view = View(tiles, index, stand(index, tiles)) if index else View(tiles)
        except IndexUnusable as unusable:
            view = View(tiles, problem=str(unusable))
        self._view, self._looked_s = view, now_s
        return view

    def version(self) -> tuple[int, int]:
        """Of `tiles` and of `slides`; that these alone have changed may show `LOOK_AGAIN_S` later.

        To open a table for its version alone costs as much as a part of the search.
        """
        view, slides = self.view(), self._slides
        if slides is None or slides[0] is not view:
            self._slides = slides = view, self._atlas.slides.version
        return view.tiles.version, slides[1]

    def find(self, view: View, queries: Sequence[Vectors], wanted: Wanted) -> list[Nearest]:
        """The nearest tiles of each query; together is quicker than one by one.

        Args:
            view: what is searched.
            queries: each (Q, D) float32 of unit length, of whose cosines the best counts.
            wanted: what of it.
        """
        if path_of(view, wanted) == "exact" or not queries:
            where = wanted.condition
            return [
                nearest(view.tiles, self.column, query, k=wanted.k, where=where)
                for query in queries
            ]
        assert view.index is not None and view.standing is not None  # noqa: S101, PT018
        allowed, empty = (
            self._passing.among(view.tiles, rows, wanted.where, wanted.exclusion)
            for rows in (view.standing.coded, view.standing.empty)
        )
        coded = [
            replace(found, seen=found.seen + count(empty))
            for found in self._coded(view, queries, wanted, allowed)
        ]
        if not view.standing.open_fragments:
            return coded
        part = Part(view.standing.open_fragments, view.standing.coded)
        return [
            _joined(
                view.tiles,
                one,
                nearest(
                    view.tiles,
                    self.column,
                    query,
                    k=wanted.k,
                    where=wanted.condition,
                    part=part,
                ),
                wanted.k,
            )
            for one, query in zip(coded, queries, strict=True)
        ]

    def _coded(
        self, view: View, queries: Sequence[Vectors], wanted: Wanted, allowed: Bits
    ) -> list[Nearest]:
        """The nearest of the rows that the index codes."""
        passing = count(allowed)
        ends = np.cumsum([len(query) for query in queries])[:-1]
        candidates = self._candidates(view, np.concatenate(queries), wanted, allowed, passing)
        per_query = [_distinct(part) for part in np.split(candidates, ends)]
        row_ids, stored = self._stored(view.tiles, _distinct(np.concatenate(per_query)))
        found = []
        for query, mine in zip(queries, per_query, strict=True):
            places = np.flatnonzero(np.isin(row_ids, mine, assume_unique=True))
            scores = best_cosine(query, stored[places])
            best = best_rows(view.tiles, row_ids[places], scores, wanted.k)
            found.append(Nearest(*best, seen=passing, scored=passing))
        return found

    def _candidates(
        self, view: View, vectors: Vectors, wanted: Wanted, allowed: Bits, passing: int
    ) -> NDArray[np.int64]:
        assert view.index is not None and view.standing is not None  # noqa: S101, PT018
        codes, standing = view.index.codes, view.standing
        if not passing:
            return np.full((len(vectors), 1), -1)
        wide = math.ceil(max(CANDIDATES, CANDIDATES_PER_HIT * wanted.k) * wanted.effort)
        amount = min(wide, passing)
        selected = None if standing.all_coded and passing == standing.coded_rows else allowed
        share = passing / len(codes)
        probes = math.ceil(view.index.card.probes * wanted.effort / math.sqrt(share))
        found = codes.search(vectors, amount, probes, selected)
        least = (found >= 0).sum(axis=1)
        if probes < codes.lists and (least < min(wanted.k, passing)).any():
            found = codes.search(vectors, amount, codes.lists, selected)
        return found

    def _stored(
        self, tiles: Any, row_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        """The vectors of rows, as they are in the table; a row that is not there is left out."""
        taken = tiles._take_rows(row_ids.tolist(), columns=[self.column, "_rowid"])
        stored = taken[self.column].combine_chunks()
        flat = stored.flatten().to_numpy().reshape(-1, stored.type.list_size)
        return taken["_rowid"].to_numpy(), flat


class Finders:
    """One finder for each model of an atlas, for all that search it; for many threads."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._finders: dict[str, Finder] = {}

    def of(self, model_id: str) -> Finder:
        """The finder by the vectors of a model."""
        if model_id not in self._finders:
            self._finders.setdefault(model_id, Finder(self._atlas, model_id))
        return self._finders[model_id]


def path_of(view: View, wanted: Wanted) -> Path:
    """Whether a search will use the index."""
    return "exact" if wanted.exact or view.standing is None else "index"


def _distinct(row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    distinct = np.unique(row_ids)
    return distinct[distinct >= 0]


def _joined(tiles: Any, left: Nearest, right: Nearest, k: int) -> Nearest:
    row_ids = np.concatenate([left.row_ids, right.row_ids])
    scores = np.concatenate([left.scores, right.scores])
    best = best_rows(tiles, row_ids, scores, k)
    return Nearest(*best, seen=left.seen + right.seen, scored=left.scored + right.scored)
