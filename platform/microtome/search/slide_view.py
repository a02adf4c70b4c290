"""One version of an atlas as slides are searched in it: kept as long as nothing changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Final

import numpy as np

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.mosaic import Mosaic
from microtome.atlas.mosaic_building import rows_by_slide
from microtome.atlas.mosaics import Numbers, mosaic_of
from microtome.atlas.sql import one_of
from microtome.atlas.stored_mosaics import StoredMosaics, open_mosaics
from microtome.atlas.vector_index import check_witnesses, rows_with_vectors
from microtome.search.filters import all_of
from microtome.search.finder import Finder, View
from microtome.search.keeping import Kept
from microtome.search.slide_bank import Bank, Ground, Tell, make_bank, those_among
from microtome.search.slide_facts import SlideFacts

KEPT_BYTES: Final = 256 << 20
"""For the banks of filters: a byte for each stored representative, and 16 for each slide."""
COUNTS_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class SlideView:
    """What a search for slides looks at.

    Attributes:
        tiles: as the tile search sees them.
        ground: what banks are made of.
        problem: why there are mosaics that can't be used; else empty.
    """

    tiles: View
    ground: Ground
    problem: str
    _banks: Kept[Bank] = field(
        default_factory=lambda: Kept(KEPT_BYTES, lambda bank: bank.nbytes), compare=False
    )
    _counts: Kept[Numbers] = field(
        default_factory=lambda: Kept(COUNTS_BYTES, lambda tiles: tiles.nbytes), compare=False
    )

    def bank(self, where: str | None, tell: Tell) -> Bank:
        """The mosaics that a filter lets be found.

        Raises:
            DeadlinePassed: nobody waits any more; mosaics made till then are kept for the next.
        """
        return self._banks.of((where,), lambda: make_bank(self.ground, where, tell))

    def tile_counts(self, visible: str | None) -> Numbers:
        """(F,) how many tiles each slide has for whom only some are visible."""
        facts, tiles = self.ground.facts, self.ground.tiles
        if visible is None:
            return facts.tiles
        return self._counts.of((visible,), lambda: facts.counted(tiles, visible))

    def mosaics(self, slide_ids: list[str], visible: str | None) -> list[Mosaic]:
        """Mosaics of those of some slides that have vectors, of the tiles that are visible.

        Raises:
            IndexUnusable: stored mosaics are damaged.
        """
        ground, known = self.ground, {}
        if ground.stored is not None and visible is None:
            asked = [ground.facts.places.get(slide_id, -2) for slide_id in slide_ids]
            known = {
                ground.stored.slide_ids[number]: mosaic_of(ground.stored, number)
                for number in np.flatnonzero(np.isin(ground.places, asked)).tolist()
            }
        fresh = [slide_id for slide_id in slide_ids if slide_id not in known]
        if fresh:
            where = all_of(one_of("slide_id", fresh), visible or "")
            rows = rows_by_slide(ground.tiles, ground.model_id, where)
            known |= {
                slide_id: ground.mosaic(slide_id, own, visible) for slide_id, own in rows.items()
            }
        return [known[slide_id] for slide_id in slide_ids if slide_id in known]


class SlideViews:
    """The newest view of one model's vectors; safe to use from many threads."""

    def __init__(self, atlas: Atlas, finder: Finder) -> None:
        self.finder = finder
        self._atlas = atlas
        self._view: SlideView | None = None
        self._lock = RLock()

    def view(self) -> SlideView:
        """The newest version, or the one that the atlas is pinned to.

        Raises:
            AtlasError: a table can't be read.
        """
        tiles = self.finder.view()
        with self._lock:
            if self._view is None or self._view.tiles is not tiles:
                self._view = self._renewed(tiles)
            return self._view

    def without_stored(self, problem: str) -> SlideView:
        """A view that doesn't use stored mosaics, until the next one is made."""
        with self._lock:
            self._view = self._seen(self.finder.view(), None, problem)
            return self._view

    def _renewed(self, tiles: View) -> SlideView:
        old = self._view
        known = old.ground.stored if old else None
        stored, problem = None, ""
        try:
            stored = open_mosaics(self._atlas.uri, self.finder.model_id, known)
            if stored is not None:
                check_witnesses(stored.card.witnesses, tiles.tiles)
        except IndexUnusable as unusable:
            stored, problem = None, str(unusable)
        if old and stored is known and _same(old, tiles, self._atlas):
            return replace(old, tiles=tiles)
        return self._seen(tiles, stored, problem)

    def _seen(self, tiles: View, stored: StoredMosaics | None, problem: str) -> SlideView:
        facts = SlideFacts.of(self._atlas)
        places = _places(tiles, stored, facts) if stored else np.empty(0, np.int64)
        ground = Ground(tiles.tiles, self.finder.model_id, facts, stored, places)
        return SlideView(tiles, ground, problem)


def _same(old: SlideView, tiles: View, atlas: Atlas) -> bool:
    """Whether no table has changed since a view was made."""
    slides = old.ground.facts.dataset.version
    same: bool = (old.tiles.tiles.version, slides) == (tiles.tiles.version, atlas.slides.version)
    return same


def _places(tiles: View, stored: StoredMosaics, facts: SlideFacts) -> Numbers:
    """Where stored mosaics' slides are among the facts; −1 where a slide, row or vector is gone."""
    rows = rows_with_vectors(tiles.tiles, stored.card.model_id, set(stored.card.sources))
    there = those_among(rows, stored.row_ids)
    whole = np.logical_and.reduceat(there, stored.firsts[:-1])
    places = [facts.places.get(slide_id, -1) for slide_id in stored.slide_ids.tolist()]
    return np.where(whole, places, -1)
