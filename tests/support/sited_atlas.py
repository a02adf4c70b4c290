"""An atlas of given vectors whose slides, cases and sites are given as well; no slide is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_column
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings
from support.clustered_atlas import card_of

GRID = GridSettings(mpp=0.5, tile_px=16, stride_px=16)
COLUMNS = pa.schema([("site", pa.string()), ("scanner", pa.string()), ("batch", pa.int64())])


@dataclass(frozen=True)
class MadeSlide:
    """A slide and its tiles' vectors; None is what nobody knows."""

    slide_id: str
    vectors: NDArray[np.float32]
    case_id: str | None = None
    site: str | None = None
    scanner: str | None = None
    batch: int | None = None


def tile_id(number: int) -> str:
    """The id of the atlas's tile of that number, in the order in which slides were given."""
    return f"{number:032x}"


def make_atlas(uri: str, slides: Sequence[MadeSlide]) -> Atlas:
    """The atlas that holds just these."""
    card = card_of(slides[0].vectors.shape[1])
    with open_writer(uri, "test") as writer:
        atlas = Atlas.open_or_create(writer, GRID, card, COLUMNS)
        told = [_told(slide) for slide in slides]
        writer.append("slides", _table(atlas.slides.schema, told))
        tiles = [
            facts | {"x": 16 * place, "y": 0, "size_px": 16}
            for facts, slide in zip(told, slides, strict=True)
            for place in range(len(slide.vectors))
        ]
        numbered = [facts | {"tile_id": tile_id(number)} for number, facts in enumerate(tiles)]
        rows = _table(atlas.tiles.schema, numbered)
        flat = np.concatenate([slide.vectors for slide in slides]).astype(np.float16).reshape(-1)
        column = vector_column(card.model_id)
        stored = pa.FixedSizeListArray.from_arrays(pa.array(flat), card.dim)
        place = rows.schema.get_field_index(column)
        writer.append("tiles", rows.set_column(place, rows.schema.field(column), stored))
    return atlas


def _told(slide: MadeSlide) -> dict[str, object]:
    names = ("slide_id", "case_id", "site", "scanner", "batch")
    facts = {name: getattr(slide, name) for name in names}
    place = {"content_id": slide.slide_id, "uri": f"slides/{slide.slide_id}"}
    return facts | place | {"tiles": len(slide.vectors)}


def _table(schema: pa.Schema, rows: list[dict[str, object]]) -> pa.Table:
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.table(columns, schema=schema)
