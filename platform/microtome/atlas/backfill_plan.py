"""What a model lacks: the slides, tiles and fragments that have no vectors of it yet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.columns import counted
from microtome.atlas.ledger import read_work
from microtome.atlas.schema import vector_column, vector_field
from microtome.atlas.sql import quoted
from microtome.atlas.writer import Writer
from microtome.config import ReaderChoice
from microtome.models.card import ModelCard
from microtome.slides.slide import MppSource, SlideRef


@dataclass(frozen=True, slots=True)
class HeldSlide:
    """A slide whose tiles are in the atlas.

    Attributes:
        slide_id: its name.
        content_id: hash of the bytes that its tiles were cut from.
        uri: where it was read from.
        stamp: as in `SlideRef`.
        mpp: µm per level-0 pixel, as it was read.
        mpp_source: who said so.
        reader: the reader that opened it.
        tiles: how many it has.
    """

    slide_id: str
    content_id: str
    uri: str
    stamp: str
    mpp: float
    mpp_source: MppSource
    reader: ReaderChoice
    tiles: int

    @property
    def ref(self) -> SlideRef:
        """The slide as it must be opened for the same pixels to be read again."""
        mpp = None if self.mpp_source == "slide" else self.mpp
        return SlideRef(self.slide_id, self.uri, mpp=mpp, stamp=self.stamp)


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What there is to do for a model.

    Attributes:
        version: of `tiles`, which the plan was made of.
        held: slides in the atlas.
        settled: slides that have all their vectors or no tiles, and lack a row in the ledger.
        wanted: slides that lack vectors, by slide id, in the order of their fragments.
        fragments: of each wanted slide, all that hold its tiles.
        lacking: of each fragment, the slides that lack vectors there.
    """

    version: int
    held: int
    settled: tuple[HeldSlide, ...]
    wanted: Mapping[str, HeldSlide]
    fragments: Mapping[str, tuple[int, ...]]
    lacking: Mapping[int, frozenset[str]]


def add_vector_column(writer: Writer, card: ModelCard) -> None:
    """Give `tiles` a column for a model, all nulls, unless it has one.

    Raises:
        AtlasWriteFailed: the store refuses.
    """

    def add(tiles: lance.LanceDataset) -> None:
        if vector_column(card.model_id) not in tiles.schema.names:
            tiles.add_columns(pa.schema([vector_field(card)]))

    writer.transact("tiles", add)


def plan_backfill(atlas: Atlas, model_id: str, leave_out: Collection[str] = ()) -> BackfillPlan:
    """Find what a model lacks; to be called after `recovery.recover`.

    Reads the column `slide_id`; of the model's column only where the ledger doesn't say `done`.

    Args:
        atlas: with the model's column.
        model_id: the model.
        leave_out: ids of slides that aren't to be tried.

    Raises:
        AtlasError: a table can't be read.
    """
    held = list(_held_slides(atlas))
    mine = read_work(atlas, f"model_id = {quoted(model_id)} AND status <> 'failed'")
    known = {(work.slide_id, work.content_id) for work in mine}
    pending = {
        one.slide_id: one
        for one in held
        if (one.slide_id, one.content_id) not in known and one.slide_id not in leave_out
    }
    tiles = atlas.tiles
    everywhere = _rows_by_fragment(tiles, pending)
    places = {number for counts in everywhere.values() for number in counts}
    nulls = _rows_by_fragment(tiles, pending, f"{vector_column(model_id)} IS NULL", places)
    lacking = defaultdict(set)
    for slide_id, counts in nulls.items():
        for number in counts:
            lacking[number].add(slide_id)
    wanted = sorted(nulls, key=lambda slide_id: (min(everywhere[slide_id]), slide_id))
    return BackfillPlan(
        tiles.version,
        len(held),
        tuple(one for slide_id, one in pending.items() if slide_id not in nulls),
        {slide_id: pending[slide_id] for slide_id in wanted},
        {slide_id: tuple(sorted(everywhere[slide_id])) for slide_id in wanted},
        {number: frozenset(slide_ids) for number, slide_ids in lacking.items()},
    )


def lacks_vectors(atlas: Atlas, model_id: str) -> bool:
    """Whether there are slides that a further job would embed with a model of the atlas."""
    return model_id in atlas.models and bool(plan_backfill(atlas, model_id).wanted)


def stored_places(
    tiles: lance.LanceDataset, slide_id: str, fragments: Iterable[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the tiles of one slide lie.

    Args:
        tiles: the version that the plan was made of.
        slide_id: the slide.
        fragments: all that hold its tiles.

    Returns:
        Corners, (N, 2) int64, x and y in level-0 px; fractions of tissue, (N,) float32.
    """
    rows = tiles.scanner(
        columns=["x", "y", "tissue"],
        filter=f"slide_id = {quoted(slide_id)}",
        fragments=[tiles.get_fragment(number) for number in fragments],
    ).to_table()
    corners = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1).astype(np.int64)
    return corners, rows["tissue"].to_numpy()


def _held_slides(atlas: Atlas) -> Iterator[HeldSlide]:
    columns = [field.name for field in fields(HeldSlide)]
    for row in atlas.slides.to_table(columns=columns).to_pylist():
        yield HeldSlide(**row)


def _rows_by_fragment(
    tiles: lance.LanceDataset,
    wanted: Mapping[str, HeldSlide],
    where: str | None = None,
    fragments: Iterable[int] | None = None,
) -> dict[str, Counter[int]]:
    """How many rows of each wanted slide match, by fragment."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    if not wanted or fragments == set():
        return found
    names = pa.array(list(wanted), pa.string())
    scanner = tiles.scanner(
        columns=["slide_id"],
        filter=where,
        fragments=[tiles.get_fragment(one) for one in sorted(fragments)] if fragments else None,
        with_row_address=True,
    )
    for batch in scanner.to_batches():
        rows = pa.Table.from_batches([batch])
        rows = rows.filter(pc.is_in(rows["slide_id"], value_set=names))
        for slide_id, fragment, count in counted(rows, ["slide_id"]):
            found[slide_id][fragment] += count
    return found
