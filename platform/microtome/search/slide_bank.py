"""The mosaics that one search may find: those that are stored, and those made for the occasion.

A stored mosaic counts for a version of `tiles` where all its rows are there. Slides without one,
since `microtome maintain` hasn't run after they came or changed, get one now, as long as they are
few; it is kept in the process. The slide that is asked with gets one in any case. A filter on tiles
takes representatives away; a slide that has tiles which pass, but none among them, gets a mosaic of
those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.mosaic import Mosaic
from microtome.atlas.mosaic_building import MOST_MADE, Rows, make_mosaic, rows_by_slide
from microtome.atlas.mosaics import MadeMosaics, Mosaics, Numbers
from microtome.atlas.schema import vector_column
from microtome.atlas.sql import one_of
from microtome.atlas.stored_mosaics import StoredMosaics
from microtome.search import patience
from microtome.search.filters import all_of
from microtome.search.keeping import Kept
from microtome.search.slide_facts import SlideFacts

MADE_BYTES: Final = 256 << 20
NAMED: Final = 1000  # slides in one condition; for more, the tiles of all are looked through

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the mosaics of a bank.

    Attributes:
        mosaics: of S slides, with M representatives.
        places: (S,) where they are among `SlideFacts`; −1 for those that may not be found.
        kept: (M,) which representatives count; None where all do.
    """

    mosaics: Mosaics
    places: Numbers
    kept: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Bank:
    """The mosaics that may be found. A slide's number counts through the parts.

    Attributes:
        parts: those that are stored, if any, then those made now.
        passing: how many slides have tiles that pass the filter.
        bare: how many of them have no vector of the model.
    """

    parts: tuple[Part, ...]
    passing: int
    bare: int

    @cached_property
    def slide_ids(self) -> NDArray[Any]:
        """(N,) the slide of each number."""
        return np.concatenate([part.mosaics.slide_ids for part in self.parts])

    @cached_property
    def places(self) -> Numbers:
        """(N,) see `Part`."""
        return np.concatenate([part.places for part in self.parts])

    @property
    def nbytes(self) -> int:
        """Of what was made for its filter; mosaics count elsewhere."""
        kept = sum(part.kept.nbytes for part in self.parts if part.kept is not None)
        return kept + 2 * sum(part.places.nbytes for part in self.parts)

    @cached_property
    def searched(self) -> int:
        """How many slides may be found."""
        return int((self.places >= 0).sum())

    @property
    def unsearched(self) -> int:
        """Slides that pass and have vectors, but no mosaic."""
        return self.passing - self.bare - self.searched

    def shares(self, numbers: Numbers) -> Iterator[tuple[Part, Numbers, Numbers]]:
        """Each part that has some of the slides, where they are among the numbers, and in it."""
        first = 0
        for part in self.parts:
            last = first + len(part.places)
            where = np.flatnonzero((numbers >= first) & (numbers < last))
            if len(where):
                yield part, where, numbers[where] - first
            first = last


@dataclass(frozen=True)
class Ground:
    """What banks are made of.

    Attributes:
        tiles: the version that is searched, a Lance dataset.
        model_id: whose vectors.
        facts: the slides that have tiles.
        stored: mosaics; None where none can be used.
        places: (S,) where they are among the facts; −1 for those that can't be used.
    """

    tiles: Any
    model_id: str
    facts: SlideFacts
    stored: StoredMosaics | None
    places: Numbers
    _made: Kept[Mosaic] = field(
        default_factory=lambda: Kept(MADE_BYTES, lambda made: made.vectors.nbytes), compare=False
    )

    def mosaic(self, slide_id: str, row_ids: NDArray[np.int64], where: str | None) -> Mosaic:
        """The mosaic of the rows of a slide that pass a filter, made at most once."""
        return self._made.of(
            (slide_id, where), lambda: make_mosaic(self.tiles, self.model_id, row_ids)
        )


def make_bank(ground: Ground, where: str | None, tell: Tell = lambda _: None) -> Bank:
    """The mosaics that a search with a filter may find.

    Args:
        ground: what they are made of.
        where: the filter on tiles.
        tell: told how far the making of mosaics is.
    """
    slides = ground.facts.places
    parts: list[Part] = []
    passing: Set[str] = slides.keys()
    rows, there = None, set[str]()
    if where is not None:
        passing, rows = _passing(ground, where)
    if ground.stored is not None:
        part = _stored_part(ground.stored, ground.places, rows)
        there = set(ground.stored.slide_ids[part.places >= 0].tolist())
        parts.append(part)
    missing = _rows_of(ground, passing - there, where)
    parts.append(_made_part(ground, missing, where, tell))
    return Bank(tuple(parts), len(passing), len(passing) - len(there) - len(missing))


def with_slides(bank: Bank, ground: Ground, slide_ids: Collection[str], where: str | None) -> Bank:
    """A bank that holds some slides in any case, if they have vectors and pass the filter.

    Args:
        bank: made with that filter.
        ground: that it was made of.
        slide_ids: the slides.
        where: the filter on tiles.
    """
    if not bank.unsearched:
        return bank
    lacking = set(slide_ids).difference(bank.slide_ids[bank.places >= 0].tolist())
    rows = _rows_of(ground, lacking & ground.facts.places.keys(), where)
    return replace(bank, parts=(*bank.parts, _made_part(ground, rows, where))) if rows else bank


def those_among(held: Numbers, asked: Numbers) -> NDArray[np.bool_]:
    """Which of the numbers asked for, none below zero, are held; quicker than `np.isin`."""
    there = np.zeros(max(held.max(initial=-1), asked.max(initial=-1)) + 1, np.bool_)
    there[held] = True
    return there[asked]


def _passing(ground: Ground, where: str) -> tuple[Set[str], NDArray[np.int64]]:
    """Slides that have tiles which pass, and the rows of those tiles."""
    scanner = ground.tiles.scanner(columns=["slide_id"], filter=where, with_row_id=True)
    table = scanner.to_table()
    names = pc.unique(table["slide_id"]).to_pylist()
    return ground.facts.places.keys() & names, table["_rowid"].to_numpy().astype(np.int64)


def _stored_part(stored: StoredMosaics, places: Numbers, rows: NDArray[np.int64] | None) -> Part:
    if rows is None:
        return Part(stored, places)
    kept = those_among(rows, stored.row_ids)
    some = np.logical_or.reduceat(kept, stored.firsts[:-1])
    return Part(stored, np.where(some, places, -1), kept)


def _rows_of(ground: Ground, slide_ids: Set[str], where: str | None) -> Rows:
    """The rows with vectors, and that pass, of some slides."""
    if not slide_ids:
        return {}
    named = one_of("slide_id", slide_ids) if len(slide_ids) <= NAMED else ""
    rows = rows_by_slide(ground.tiles, ground.model_id, all_of(named, where or ""))
    return {slide_id: own for slide_id, own in rows.items() if slide_id in slide_ids}


def _made_part(ground: Ground, rows: Rows, where: str | None, tell: Tell = lambda _: None) -> Part:
    made = _make(ground, rows, where, tell)
    dim = ground.tiles.schema.field(vector_column(ground.model_id)).type.list_size
    places = np.array([ground.facts.places[slide_id] for slide_id in made], np.int64)
    return Part(MadeMosaics(made, dim), places)


def _make(ground: Ground, rows: Rows, where: str | None, tell: Tell) -> dict[str, Mosaic]:
    made: dict[str, Mosaic] = {}
    wanted = min(len(rows), MOST_MADE)
    for slide_id, row_ids in islice(rows.items(), MOST_MADE):
        tell(f"{len(made):,} of {wanted:,} slides made ready; `microtome maintain` keeps them so")
        patience.check()
        made[slide_id] = ground.mosaic(slide_id, row_ids, where)
    return made
