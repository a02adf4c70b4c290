"""What a query turns out to be: pixels at the atlas's mpp or a tile of the atlas, and its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import quoted
from microtome.config import GridSettings, MppSettings
from microtome.errors import QueryUnreadable, SettingError, SlideChanged, TileNotFound
from microtome.search.hits import read_hits
from microtome.search.picture import check_size, load_image, resized
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import (
    FORMS,
    ImageQuery,
    Query,
    RegionQuery,
    TileQuery,
    VectorQuery,
)
from microtome.search.result import Hit, SearchSettings
from microtome.slides.opening import open_slide, slide_files_of
from microtome.slides.slide import Pixels, Slide, SlideReader, SlideRef
from microtome.slides.storage import is_remote, local_path
from microtome.tiles.reading import MOST_ENLARGED, ReadPlan


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that was looked at.

    Attributes:
        pixels: at the atlas's mpp; None for a tile, whose vector is stored, and for vectors.
        tile: the tile, with score 1, where it was asked for by id.
        slide_id: the atlas's slide that the query comes from, where there is one.
        case_id: its case, where known.
        notes: what a reader of the hits should know.
    """

    pixels: Pixels | None = None
    tile: Hit | None = None
    slide_id: str | None = None
    case_id: str | None = None
    notes: tuple[str, ...] = ()


def look_at(query: Query, atlas: Atlas, settings: SearchSettings) -> Asked:
    """Find and read what a query names.

    Raises:
        QueryUnreadable: no image, or a region that leaves its slide, or too large a one.
        TileNotFound: no such tile is in the atlas.
        SlideChanged: other bytes than were indexed lie where a region's slide lay.
        SlideError: a region's slide can't be opened or decoded.
        SettingError: the settings can't be followed for this kind of query.
    """
    match query:
        case ImageQuery():
            return _image(query, atlas.grid, settings)
        case RegionQuery():
            return _region(query, atlas, settings)
        case TileQuery():
            return _tile(query, atlas, settings)
        case VectorQuery():
            _check_placeless(query, settings)
            return Asked()
        case PolygonQuery():
            raise SettingError(
                f"{query.text} is an outline; tiles are found by rectangles",
                remedy="Search at the level of regions, or ask with slide.svs#x,y,w,h.",
            )
        case _:
            raise SettingError(
                f"{query.text} asks for slides or cases; tiles are found by tiles",
                remedy="Search at the level of slides or cases, or ask with a tile or a region.",
            )


def _image(query: ImageQuery, grid: GridSettings, settings: SearchSettings) -> Asked:
    _check_placeless(query, settings)
    pixels = load_image(query)
    mpp = settings.query_mpp or grid.mpp
    width, height = _size_at(pixels.shape[1], pixels.shape[0], mpp / grid.mpp)
    check_size(query.text, width, height)
    return Asked(resized(pixels, width, height), notes=about_detail(mpp, grid.mpp))


def _check_placeless(query: ImageQuery | VectorQuery, settings: SearchSettings) -> None:
    if settings.exclude != "none":
        raise SettingError(
            f"exclude {settings.exclude} needs a query that lies on a slide; {query.text} "
            f"{'is an image' if isinstance(query, ImageQuery) else 'have no place'}",
            remedy="Leave slides out with a filter: --where \"slide_id <> 'a.svs'\".",
        )


def _tile(query: TileQuery, atlas: Atlas, settings: SearchSettings) -> Asked:
    if settings.query_mpp is not None:
        raise SettingError("query_mpp is for an image, not for a tile, whose mpp is the atlas's")
    tiles = atlas.tiles
    where = f"tile_id = {quoted(query.tile_id)}"
    found = tiles.scanner(columns=[], filter=where, with_row_id=True).to_table()
    place = found["_rowid"].to_pylist()[:1]
    if not place:
        raise TileNotFound(
            f"no tile {query.tile_id} is in the atlas {atlas.uri}",
            remedy="Take the tile_id of a hit in this atlas, or index the slide it is from.",
        )
    tile = read_hits(tiles, place, [1.0])[0]
    return Asked(tile=tile, slide_id=tile.slide_id, case_id=tile.case_id)


def _region(query: RegionQuery, atlas: Atlas, settings: SearchSettings) -> Asked:
    with opened(query.slide, atlas, settings.query_mpp) as (reader, own):
        pixels = _read(query, reader, atlas.grid)
        return Asked(pixels, slide_id=own.get("slide_id"), case_id=own.get("case_id"))


@contextmanager
def opened(
    name: str, atlas: Atlas, assume_mpp: float | None
) -> Iterator[tuple[SlideReader, Mapping[str, Any]]]:
    """Open the atlas's slide of an id, else a file or URI, with the mpp that the atlas has for it.

    Yields:
        Its reader, and its row in the atlas; nothing where the atlas holds no such bytes.

    Raises:
        QueryUnreadable: it is neither.
        SlideChanged: where the slide lay, other bytes lie now than were indexed.
        SlideError: it can't be opened.
    """
    row = _row(atlas, "slide_id", name)
    uri = row.get("uri", name)
    if not row:
        if not is_remote(name) and not os.path.exists(local_path(name)):
            raise QueryUnreadable(
                f"{name} is neither a slide_id of the atlas {atlas.uri} nor a file", remedy=FORMS
            )
        row = _row(atlas, "content_id", slide_files_of(SlideRef(name, name)).content_id)
    ref = SlideRef(name, uri, mpp=row.get("mpp"))
    with open_slide(ref, MppSettings(assume_mpp=assume_mpp)) as reader:
        # Other bytes may be those of a slide that nobody may see.
        if row and row["content_id"] != reader.slide.content_id:
            raise SlideChanged(
                f"the file of {name} has changed since it was indexed", remedy="Index it again."
            )
        yield reader, row


def _row(atlas: Atlas, column: str, value: str) -> Mapping[str, Any]:
    """Of the slide that has a value in a column; nothing where none has."""
    columns = ["slide_id", "case_id", "uri", "mpp", "content_id"]
    rows = atlas.slides.to_table(columns=columns, filter=f"{column} = {quoted(value)}")
    return rows.to_pylist()[0] if len(rows) else {}


def _read(query: RegionQuery, reader: SlideReader, grid: GridSettings) -> Pixels:
    """A region's pixels at the grid's mpp, decoded at the scale that its tiles are."""
    slide = reader.slide
    _check_inside(query, slide)
    scale = ReadPlan.of(slide, grid).scale
    width, height = _size_at(query.width_px, query.height_px, 1 / scale.downsample)
    wanted = _size_at(query.width_px, query.height_px, slide.mpp / grid.mpp)
    check_size(query.text, width, height)
    check_size(query.text, *wanted)
    return resized(scale.read(reader, query.x, query.y, width, height), *wanted)


def _check_inside(query: RegionQuery, slide: Slide) -> None:
    right, bottom = query.x + query.width_px, query.y + query.height_px
    if query.x < 0 or query.y < 0 or right > slide.width_px or bottom > slide.height_px:
        raise QueryUnreadable(
            f"the region {query.text} leaves the slide, which has "
            f"{slide.width_px} × {slide.height_px} px",
            remedy="Give x,y,w,h in level-0 px, inside the slide.",
        )


def _size_at(width_px: int, height_px: int, scale: float) -> tuple[int, int]:
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def about_detail(mpp: float, wanted_mpp: float) -> tuple[str, ...]:
    """What to say of a picture that is coarser than the atlas."""
    if mpp <= wanted_mpp * MOST_ENLARGED:
        return ()
    return (
        f"the query has {mpp:g} µm per pixel, the atlas {wanted_mpp:g}: "
        "it was enlarged and lacks the detail of its hits",
    )
