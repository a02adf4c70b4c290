"""Making the mosaics of all slides, and bringing them up to date; only under the lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.index_building import LEAST_ROWS
from microtome.atlas.mosaic import Mosaic
from microtome.atlas.mosaic_files import LEAST_SLIDES, MosaicsCard, drop_mosaics, kind
from microtome.atlas.mosaic_writing import write_card, write_mosaics
from microtome.atlas.mosaics import mosaic_of
from microtome.atlas.schema import vector_column
from microtome.atlas.stored_mosaics import StoredMosaics, open_mosaics
from microtome.atlas.vector_index import check_witnesses, vector_files
from microtome.atlas.writer import Writer

WITNESSES = 8
MOST_MADE = 300
"""Mosaics that one search makes, where none are stored: a slide of 10,000 tiles takes about 0.3 s.
Of more slides they are stored, however few tiles these have."""

Rows = Mapping[str, NDArray[np.int64]]
"""Sorted row ids by slide id."""


@dataclass(frozen=True, slots=True)
class RefreshedMosaics:
    """What became of a model's mosaics.

    Attributes:
        card: of those that are there now; None where there are too few tiles for them.
        made: slides whose mosaic was made, or made anew.
        removed: slides that are gone.
    """

    card: MosaicsCard | None
    made: int = 0
    removed: int = 0


def refresh_all_mosaics(
    writer: Writer, tell: Callable[[str], None] = lambda _: None, least_tiles: int = LEAST_ROWS
) -> list[str]:
    """Bring the mosaics of each model up to date; returns what was done, in words.

    Raises:
        AtlasWriteFailed: the store refuses; running again goes on.
        LeaseLost: another job took over; what it wrote stays.
    """
    atlas, did = Atlas.open(writer.uri), []
    for model_id, card in atlas.models.items():
        became = refresh_mosaics(
            atlas,
            model_id,
            least_tiles=least_tiles,
            tell=tell,
            may_publish=writer.check_lease,
        )
        changes = [f"made {became.made:,}"] if became.made else []
        changes += [f"removed {became.removed:,}"] if became.removed else []
        if changes:
            did.append(f"{' and '.join(changes)} by {card.name} ({model_id})")
    return did


def refresh_mosaics(
    atlas: Atlas,
    model_id: str,
    *,
    least_tiles: int = LEAST_ROWS,
    least_slides: int = LEAST_SLIDES,
    tell: Callable[[str], None] = lambda _: None,
    may_publish: Callable[[], None] = lambda: None,
) -> RefreshedMosaics:
    """Make a model's mosaics, or bring them up to the newest version of `tiles`; under the lease.

    Slides that are gone leave the files too: they never hold more than the newest version does.

    Args:
        atlas: whose slides.
        model_id: whose vectors.
        least_tiles: where fewer tiles have vectors, and no more slides than `MOST_MADE`, none are
            kept: a search makes them.
        least_slides: see `write_mosaics`.
        tell: told how far it is.
        may_publish: see `write_mosaics`.

    Raises:
        AtlasWriteFailed: the store refuses; the mosaics before them stay.
        AtlasError: the table can't be read.
    """
    kind(atlas.uri).remove_leftovers()
    tiles = atlas.tiles
    rows = rows_by_slide(tiles, model_id)
    few = sum(map(len, rows.values())) < max(1, least_tiles)
    if few and len(rows) <= MOST_MADE:
        return RefreshedMosaics(None, removed=drop_mosaics(atlas.uri, model_id))
    known = _usable(atlas, model_id, tiles)
    kept = _current(known, rows) if known else {}
    gone = len(set(known.slide_ids) - rows.keys()) if known else 0
    sources = sorted(vector_files(tiles, model_id).values())
    if known and not gone and len(kept) == len(rows):
        if known.card.sources == sources:
            return RefreshedMosaics(known.card)
        card = replace(known.card, tiles_version=tiles.version, sources=sources)
        write_card(card, atlas.uri, may_publish)  # compacted, for instance
        return RefreshedMosaics(card)
    mosaics = _Mosaics(tiles, model_id, rows, known, kept, tell)
    card = MosaicsCard(model_id, 0, tiles.version, 0, 0, _witnesses(tiles, rows), sources, {})
    card = write_mosaics(atlas.uri, card, mosaics, may_publish, least_slides)
    drop_mosaics(atlas.uri, model_id, before=card.number)
    return RefreshedMosaics(card, made=mosaics.made, removed=gone)


def rows_by_slide(tiles: Any, model_id: str, where: str | None = None) -> Rows:
    """The rows of `tiles` that have a vector of the model, by slide, slides sorted.

    Args:
        tiles: the Lance dataset.
        model_id: the model.
        where: a condition that rows must meet besides.
    """
    present = f"{vector_column(model_id)} IS NOT NULL"
    table = tiles.scanner(
        columns=["slide_id"],
        filter=f"({where}\n) AND {present}" if where else present,
        with_row_id=True,
    ).to_table()
    names = pc.dictionary_encode(table["slide_id"]).combine_chunks()
    row_ids = table["_rowid"].to_numpy().astype(np.int64)
    order = np.lexsort((row_ids, names.indices.to_numpy()))
    sizes = np.bincount(names.indices.to_numpy(), minlength=len(names.dictionary))
    parts = np.split(row_ids[order], np.cumsum(sizes)[:-1]) if len(sizes) else []
    return dict(sorted(zip(names.dictionary.to_pylist(), parts, strict=True)))


def make_mosaic(tiles: Any, model_id: str, row_ids: NDArray[np.int64]) -> Mosaic:
    """The mosaic of the tiles in some sorted rows, at least one, which have vectors."""
    column = vector_column(model_id)
    taken = tiles._take_rows(row_ids.tolist(), columns=[column])
    stored = taken[column].combine_chunks()
    return Mosaic.of(stored.flatten().to_numpy().reshape(-1, stored.type.list_size), row_ids)


class _Mosaics:
    """All mosaics in order of the slides: those that are known and current, and new ones."""

    def __init__(
        self,
        tiles: Any,
        model_id: str,
        rows: Rows,
        known: StoredMosaics | None,
        kept: Mapping[str, int],
        tell: Callable[[str], None],
    ) -> None:
        self.made = 0
        self._of = tiles, model_id
        self._rows, self._known, self._kept, self._tell = rows, known, kept, tell

    def __iter__(self) -> Iterator[tuple[str, Mosaic]]:
        wanted = len(self._rows) - len(self._kept)
        for slide_id, row_ids in self._rows.items():
            yield slide_id, self._stored(slide_id) or self._fresh(row_ids)
            self._tell(f"mosaics: {self.made:,} of {wanted:,} slides")

    def _stored(self, slide_id: str) -> Mosaic | None:
        if self._known is None or slide_id not in self._kept:
            return None
        try:
            return mosaic_of(self._known, self._kept[slide_id])
        except IndexUnusable:  # its bytes are damaged
            return None

    def _fresh(self, row_ids: NDArray[np.int64]) -> Mosaic:
        self.made += 1
        return make_mosaic(*self._of, row_ids)


def _usable(atlas: Atlas, model_id: str, tiles: Any) -> StoredMosaics | None:
    try:
        known = open_mosaics(atlas.uri, model_id)
        if known is not None:
            check_witnesses(known.card.witnesses, tiles)
    except IndexUnusable:
        return None
    return known


def _current(known: StoredMosaics, rows: Rows) -> dict[str, int]:
    """Slides whose mosaic stands for just the tiles that are there, and where it is."""
    there = np.sort(np.concatenate(list(rows.values())))
    places = np.minimum(np.searchsorted(there, known.row_ids), len(there) - 1)
    found = np.add.reduceat(there[places] == known.row_ids, known.firsts[:-1])
    whole = found == np.diff(known.firsts)
    return {
        slide_id: place
        for place, slide_id in enumerate(known.slide_ids.tolist())
        if whole[place] and len(rows.get(slide_id, ())) == known.tiles[place]
    }


def _witnesses(tiles: Any, rows: Rows) -> dict[int, str]:
    row_ids = np.concatenate(list(rows.values()))
    chosen = np.unique(row_ids[np.linspace(0, len(row_ids) - 1, WITNESSES, dtype=np.int64)])
    there: pa.Table = tiles._take_rows(chosen.tolist(), columns=["tile_id", "_rowid"])
    return dict(zip(there["_rowid"].to_pylist(), there["tile_id"].to_pylist(), strict=True))
