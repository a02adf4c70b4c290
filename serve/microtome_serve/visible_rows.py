"""Rows of `slides` and `tiles` as one token sees them; for it there are no others.

Ids are compared as texts, never taken for places: an id that looks like a path is just unknown.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from microtome.atlas import schema
from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import quoted
from microtome.atlas.tables import reading
from microtome.config import check_whole
from microtome.errors import SettingError, SlideUnknown, TileNotFound
from microtome.search.filters import all_of
from microtome.search.hits import plain
from microtome_serve.access import Access
from microtome_serve.filters import Condition, compile_filter, has_control

MOST_ON_A_PAGE: Final = 1000

_HIDDEN: Final = {"uri", "content_id", "reader", "thumbnail", "stamp", "run_id"}
"""Places and marks of the archive, and what is asked for by itself."""
_FACTS: Final = [name for name in schema.SLIDES.names if name not in _HIDDEN]
_FILE: Final = ["slide_id", "uri", "mpp", "content_id", "width_px", "height_px"]
_OF_A_TILE: Final = [name for name in schema.TILES.names if name != "run_id"]
_TILE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PageWanted:
    """Which slides to list.

    Attributes:
        limit: how many at most.
        cursor: `Page.next` of the page before; None for the first.
        conditions: those that all must fulfil.
    """

    limit: int = 100
    cursor: str | None = None
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        check_whole("limit", self.limit, least=1, most=MOST_ON_A_PAGE)


@dataclass(frozen=True, slots=True)
class Page:
    """Slides by id, in the order of their bytes.

    Attributes:
        slides: see `VisibleRows.slide`.
        total: how many there are on all pages.
        next: cursor of the next page; None on the last. Slides that come or go meanwhile move no
            other from page to page.
    """

    slides: Sequence[Row]
    total: int
    next: str | None


class VisibleRows:
    """Looks rows up for whoever asks."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas

    def slide(self, access: Access, slide_id: str) -> Row:
        """What is known of a slide: facts by name, the manifest's columns under `metadata`.

        Raises:
            SlideUnknown: there is none of that id, or none for them.
        """
        return _described(self._slide(access, slide_id, self._shown("slides")))

    def slide_file(self, access: Access, slide_id: str) -> Row:
        """Where a slide lies and what it was when it was indexed; never for a client's eyes.

        Returns:
            slide_id, uri, mpp, content_id, width_px and height_px.

        Raises:
            SlideUnknown: as `slide`.
        """
        return self._slide(access, slide_id, _FILE)

    def thumbnail(self, access: Access, slide_id: str) -> bytes | None:
        """The JPEG that was kept of a slide; None where there is none.

        Raises:
            SlideUnknown: as `slide`.
        """
        kept: bytes | None = self._slide(access, slide_id, ["thumbnail"])["thumbnail"]
        return kept

    def tile(self, access: Access, tile_id: str) -> Row:
        """What is known of a tile, as of a hit, without a score.

        Raises:
            TileNotFound: there is none of that id, or none for them.
        """
        columns = [*_OF_A_TILE, *self._manifest("tiles")]
        own = f"tile_id = {quoted(tile_id.lower())}"
        rows = self._rows("tiles", access, own, columns) if _TILE_ID.fullmatch(tile_id) else []
        if not rows:
            raise TileNotFound("the atlas holds no such tile")
        return _with_metadata(rows[0], _OF_A_TILE)

    def page(self, access: Access, wanted: PageWanted) -> Page:
        """Some of the slides there are for them.

        Raises:
            FilterInvalid: a condition can't be used.
            SettingError: the cursor is none of ours.
        """
        slides = self._atlas.slides
        chosen = compile_filter(wanted.conditions, _plain_columns(slides.schema)) or ""
        after = f"slide_id > {quoted(_named_by(wanted.cursor))}" if wanted.cursor else ""
        with reading(self._atlas.uri, "slides"):
            total = slides.count_rows(filter=all_of(chosen, access.rows or ""))
            rows = slides.to_table(
                columns=self._shown("slides"),
                filter=all_of(chosen, after, access.rows or ""),
                order_by=["slide_id"],
                limit=wanted.limit + 1,
            ).to_pylist()
        more = len(rows) > wanted.limit
        listed = [_described(row) for row in rows[: wanted.limit]]
        return Page(listed, total, _cursor(listed[-1]["slide_id"]) if more else None)

    def _slide(self, access: Access, slide_id: str, columns: list[str]) -> Row:
        own = f"slide_id = {quoted(slide_id)}"
        rows = [] if "\0" in slide_id else self._rows("slides", access, own, columns)
        if not rows:
            raise SlideUnknown("the atlas holds no such slide or case")
        return rows[0]

    def _rows(self, table: str, access: Access, condition: str, columns: list[str]) -> list[Row]:
        dataset = self._atlas.dataset(table)
        with reading(self._atlas.uri, table):
            where = all_of(condition, access.rows or "")
            rows: list[Row] = dataset.to_table(columns=columns, filter=where).to_pylist()
        return rows

    def _shown(self, table: str) -> list[str]:
        return [*_FACTS, *self._manifest(table)]

    def _manifest(self, table: str) -> list[str]:
        """The manifest's columns, as they are now."""
        known = schema.TABLES[table].names
        return [
            name
            for name in _plain_columns(self._atlas.dataset(table).schema).names
            if name not in known
        ]


def _plain_columns(columns: pa.Schema) -> pa.Schema:
    """All columns but vectors and pictures."""
    return pa.schema(
        field
        for field in columns
        if not (pa.types.is_fixed_size_list(field.type) or pa.types.is_binary(field.type))
    )


def _described(row: Mapping[str, Any]) -> Row:
    described = _with_metadata(row, _FACTS)
    described["properties"] = json.loads(row["properties"] or "{}")
    return described


def _with_metadata(row: Mapping[str, Any], facts: Sequence[str]) -> Row:
    further = {name: plain(value) for name, value in row.items() if name not in facts}
    return {name: row[name] for name in facts} | {"metadata": further}


def _cursor(slide_id: str) -> str:
    return base64.urlsafe_b64encode(slide_id.encode()).decode()


def _named_by(cursor: str) -> str:
    """The last slide of the page before."""
    try:
        named = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        if has_control(named):
            raise ValueError
        return named
    except ValueError:
        raise SettingError(
            "the cursor is none of this server's", remedy="Take `next` of the page before."
        ) from None
