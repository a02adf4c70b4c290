"""Which slides have tiles in the atlas, of which bytes, and in which fragments.

The tiles prove it themselves: a tile's id is a hash of its slide's content and its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import tile_ids
from microtome.atlas.sql import one_of
from microtome.atlas.storage import patiently
from microtome.atlas.tables import reading


@dataclass(frozen=True, slots=True)
class Presence:
    """The visible tiles of one slide.

    Attributes:
        tiles: how many there are.
        tile_id: id of one of them.
        corner: its x and y, level-0 px.
        fragments: ids of the Lance fragments that hold them.
    """

    tiles: int
    tile_id: str
    corner: tuple[int, int]
    fragments: frozenset[int]

    def is_of(self, content_id: str, grid_key: str) -> bool:
        """Whether these tiles were cut from those bytes."""
        corner = np.array([self.corner], dtype=np.int64)
        return tile_ids(content_id, grid_key, corner) == [self.tile_id]


def find_tiles(atlas: Atlas, slide_ids: Iterable[str]) -> dict[str, Presence]:
    """The tiles of the named slides; slides without any are left out.

    Reads the whole column `slide_id`, so callers name only slides that may have tiles.
    """
    wanted = set(slide_ids)
    if not wanted:
        return {}
    scanner = atlas.tiles.scanner(
        columns=["slide_id", "tile_id", "x", "y"],
        filter=one_of("slide_id", wanted),
        with_row_address=True,
    )
    with reading(atlas.uri, "tiles"):
        rows = patiently(scanner.to_table)
    return {
        slide_id: _presence(rows.filter(pc.equal(rows["slide_id"], slide_id)))
        for slide_id in pc.unique(rows["slide_id"]).to_pylist()
    }


def _presence(rows: pa.Table) -> Presence:
    first = rows.slice(0, 1).to_pylist()[0]
    fragments = pc.unique(pc.shift_right(rows["_rowaddr"], pa.scalar(32, pa.uint64())))
    return Presence(
        len(rows), first["tile_id"], (first["x"], first["y"]), frozenset(fragments.to_pylist())
    )


def replacement(
    tiles: lance.LanceDataset,
    leaving: Mapping[str, Presence],
    arriving: list[lance.FragmentMetadata],
) -> lance.LanceOperation.BaseOperation:
    """One operation in which the tiles of some slides leave and new fragments arrive."""
    if not leaving:
        return lance.LanceOperation.Append(arriving)
    removed, updated = [], []
    for number in sorted(frozenset().union(*(old.fragments for old in leaving.values()))):
        rest = tiles.get_fragment(number).delete(one_of("slide_id", leaving))
        if rest is None:
            removed.append(number)
        else:
            updated.append(rest)
    return lance.LanceOperation.Update(
        removed_fragment_ids=removed, updated_fragments=updated, new_fragments=arriving
    )
