"""What `verify` looks at: all tables at versions that belong together, each read at most once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.census import ID_SAMPLE, Census, VectorCount, count_vectors, take_census
from microtome.atlas.damage import DAMAGE, Damaged, find_damaged
from microtome.atlas.lease import Holder
from microtome.atlas.lease_store import lease_store
from microtome.atlas.ledger import Work, read_work
from microtome.atlas.schema import TABLES, vector_column

SETTLE_S = 20.0
"""How long a job at work may keep its wave half committed before that counts as found."""
_FACTS = ["slide_id", "content_id", "case_id", "tiles", "run_id"]


@dataclass
class Evidence:
    """An atlas at one moment.

    Attributes:
        atlas: pinned to one version of each table.
        thorough: read every vector and hash every tile id anew, else a sample of the ids.
        at_work: who writes to the atlas at this moment, as far as can be told.
    """

    atlas: Atlas
    thorough: bool = False
    at_work: Holder | None = None

    @cached_property
    def works(self) -> list[Work]:
        """The ledger."""
        return read_work(self.atlas)

    @cached_property
    def settled(self) -> list[Work]:
        """Rows of the ledger that say `done` or `empty`."""
        return [work for work in self.works if work.settled]

    @cached_property
    def models_of(self) -> Counter[str]:
        """How many models settle each slide."""
        return Counter(work.slide_id for work in self.settled)

    @cached_property
    def all_slides(self) -> pa.Table:
        """Rows of `slides`: what `verify` needs of them."""
        return self.atlas.slides.to_table(columns=[*_FACTS, *self.atlas.columns.names])

    @cached_property
    def slides(self) -> pa.Table:
        """Rows of `slides`, one per slide id."""
        place = {name: row for row, name in enumerate(self.all_slides["slide_id"].to_pylist())}
        return self.all_slides.take(pa.array(place.values(), pa.int64()))

    @cached_property
    def contents(self) -> dict[str, str]:
        """Content id of each slide."""
        names = self.slides["slide_id"].to_pylist()
        return dict(zip(names, self.slides["content_id"].to_pylist(), strict=True))

    @cached_property
    def unsettled(self) -> list[str]:
        """Slides whose bytes no row of the ledger calls done or empty."""
        known = {(work.slide_id, work.content_id) for work in self.settled}
        return [name for name, content in self.contents.items() if (name, content) not in known]

    @property
    def models(self) -> list[str]:
        """Models that have a column of their name."""
        names = set(self.atlas.tiles.schema.names)
        return [model for model in self.atlas.models if vector_column(model) in names]

    @property
    def shared(self) -> list[str]:
        """Columns that a tile has from its slide."""
        return ["case_id", *self.atlas.columns.names]

    @cached_property
    def damaged(self) -> list[Damaged]:
        """Fragments of `tiles` that can't be read; without their vectors, unless thorough."""
        columns = ["slide_id", "tile_id", "x", "y", *self.shared]
        try:
            self.census  # noqa: B018 - it is kept, and reading it once is enough
            if self.thorough:
                columns += map(vector_column, self.models)
                self.vectors  # noqa: B018
        except DAMAGE:
            return find_damaged(self.atlas.tiles, columns, self.atlas.uri)
        return []

    @cached_property
    def census(self) -> Census:
        """The tiles of each slide."""
        return take_census(
            self.atlas.tiles,
            self.slides,
            self.atlas.grid.key,
            self.shared,
            id_sample=1 if self.thorough else ID_SAMPLE,
        )

    @cached_property
    def found(self) -> dict[str, int]:
        """Tiles found of each slide in `slides`."""
        return dict(zip(self.census.slide_ids, self.census.counts.tolist(), strict=True))

    @cached_property
    def vectors(self) -> dict[str, VectorCount]:
        """Vectors of each slide in `slides`, by model id."""
        return {
            model_id: count_vectors(self.atlas.tiles, self.census.slide_ids, model_id)
            for model_id in self.models
        }


def gather(uri: str, *, thorough: bool = False, ours: bool = False) -> Evidence:
    """Pin an atlas to versions that belong together.

    A job at work has a wave half committed now and then. So while there is one, it is waited for a
    moment in which nothing changes and every slide is settled.

    Args:
        uri: of the atlas.
        thorough: as in `Evidence`.
        ours: whether this process holds the lease itself, so nobody else is at work.

    Raises:
        AtlasNotFound: no atlas lies there.
        AtlasError: a table is missing or can't be read.
    """
    until_s = time.monotonic() + SETTLE_S
    while True:
        at_work = None if ours else holder_at_work(uri)
        atlas = Atlas.open(uri)
        versions = _versions(atlas)
        evidence = Evidence(replace(atlas, pinned=versions), thorough, at_work)
        if ours or time.monotonic() > until_s:
            return evidence
        if not evidence.unsettled and _versions(atlas) == versions:
            return evidence
        if at_work is None and holder_at_work(uri) is None:
            return evidence
        time.sleep(0.1)


def holder_at_work(uri: str) -> Holder | None:
    """Who holds the lease; None where it was released, or its process is known to be dead.

    Raises:
        AtlasError: the store doesn't answer.
    """
    store = lease_store(uri)
    newest = max((name for name in store.names() if name.endswith(".json")), default=None)
    holder = Holder.from_json(store.get(newest) or b"") if newest else None
    if holder is None or holder.released or (holder.is_here and holder.is_gone):
        return None
    return holder


def _versions(atlas: Atlas) -> dict[str, int]:
    return {table: atlas.dataset(table).version for table in TABLES}
