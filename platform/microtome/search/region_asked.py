"""What a query for regions turns out to be: an outline, and pixels to be seen from any side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import shapely

from microtome.atlas.atlas import Atlas
from microtome.config import GridSettings
from microtome.errors import QueryUnreadable, SettingError
from microtome.search.asked import about_detail, opened
from microtome.search.picture import MAX_PIXELS, check_size, load_image, resized
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import ImageQuery, RegionQuery
from microtome.search.region_picture import Canvas, Held, OnSlide, shown, zoom_of
from microtome.search.region_placement import Floats, Placement
from microtome.search.region_result import AskedRegion, RegionSettings
from microtome.slides.slide import Pixels, SlideReader
from microtome.tiles.reading import ReadPlan

MARGIN: Final = 1.5
"""Around a drawn region, in tiles: the middle of one that shares ground with it lies at most 0.71
beyond its rim, and that tile, turned, reaches 0.71 further."""

MOST_ACROSS: Final = 256
"""Tiles from corner to corner, 29 mm with 224 px of 0.5 µm: 160 MB of cosines in each such box."""

MOST_CORNERS: Final = 256
"""Of the outline that is searched with: what costs 3 ms with so many, costs 20 s with 10,000."""

SIMPLER: Final = 1 / 32
"""Of a tile: so little at first, then ever more, are corners moved for that."""

ALIKE: Final = 0.05
"""Of its area: when it has changed by more, it is said."""


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A query, ready to be seen from any side.

    Attributes:
        drawn: polygon in the query's frame, see `region_placement`.
        outline: the same with at most `MOST_CORNERS`: a brush leaves thousands, and areas are cut
            out of it thousands of times.
        canvas: its pixels, and those around it.
        middle: (2,) the origin of the query's frame on the canvas, px.
        pixels: a small picture of it.
        slide_id: the atlas's slide that it lies on, where there is one.
        own: its own placement there.
        notes: what a reader of the hits should know.
    """

    drawn: Any
    outline: Any
    canvas: Canvas
    middle: Floats
    pixels: Pixels
    slide_id: str | None = None
    own: Placement | None = None
    notes: tuple[str, ...] = ()

    @property
    def reach_px(self) -> float:
        """From the middle to the furthest corner, grid px."""
        return _reach(self.outline)


@contextmanager
def looked_at(query: AskedRegion, atlas: Atlas, settings: RegionSettings) -> Iterator[LookedAt]:
    """Open what a query names for as long as it is searched with.

    Raises:
        QueryUnreadable: no image, no such slide, an outline that leaves it, or too large a one.
        SlideChanged: other bytes than were indexed lie where it lay.
        SlideError: the slide can't be opened or decoded.
        SettingError: an image has no slide to be left out.
    """
    if isinstance(query, ImageQuery):
        yield _image(query, atlas.grid, settings)
        return
    with opened(query.slide, atlas, settings.query_mpp) as (reader, row):
        own, asked = row.get("slide_id"), _drawn(query, reader, atlas.grid)
        yield replace(asked, slide_id=own, own=asked.own if own else None)


def _image(query: ImageQuery, grid: GridSettings, settings: RegionSettings) -> LookedAt:
    if settings.exclude != "none":
        raise SettingError(
            f"exclude {settings.exclude} needs a query that lies on a slide; {query.text} is an "
            "image",
            remedy="Leave slides out with a filter: --where \"slide_id <> 'a.svs'\".",
        )
    pixels = load_image(query)
    mpp = settings.query_mpp or grid.mpp
    height, width = (max(1, round(side * mpp / grid.mpp)) for side in pixels.shape[:2])
    check_size(query.text, width, height)
    held = Held(resized(pixels, width, height))
    outline = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
    _check_reach(query.text, outline, grid)
    middle = np.array([width / 2, height / 2])
    zoom = zoom_of(width, height)
    small = resized(held.pixels, max(1, round(width * zoom)), max(1, round(height * zoom)))
    return LookedAt(outline, outline, held, middle, small, notes=about_detail(mpp, grid.mpp))


def _drawn(query: RegionQuery | PolygonQuery, reader: SlideReader, grid: GridSettings) -> LookedAt:
    slide, drawn = reader.slide, _polygon(query)
    left, top, right, bottom = drawn.bounds
    if left < 0 or top < 0 or right > slide.width_px or bottom > slide.height_px:
        raise QueryUnreadable(
            f"the region {query.text} leaves the slide, which has "
            f"{slide.width_px} × {slide.height_px} px",
            remedy="Give places in level-0 px, inside the slide.",
        )
    factor = grid.mpp / slide.mpp
    on_slide = shapely.transform(drawn, lambda corners: corners / factor)
    left, top, right, bottom = on_slide.bounds
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    outline = shapely.transform(on_slide, lambda corners: corners - middle)
    own = Placement((left + right) / 2, (top + bottom) / 2, angle_deg=0.0, flipped=False)
    _check_reach(query.text, outline, grid)
    canvas = OnSlide(reader, ReadPlan.of(slide, grid).scale, factor)
    small = shown(reader, factor, outline, own)
    held = _held(canvas, on_slide, grid)
    simpler, notes = _simpler(outline, grid.tile_px)
    return LookedAt(outline, simpler, held, middle, small, own=own, notes=notes)


def _check_reach(text: str, outline: Any, grid: GridSettings) -> None:
    across = 2 * _reach(outline) / grid.stride_px
    if across > MOST_ACROSS:
        raise QueryUnreadable(
            f"{text} is {across:,.0f} tiles across",
            remedy=f"Ask with a region of at most {MOST_ACROSS:,} tiles from corner to corner, or "
            "for slides, with slide:ID.",
        )


def _reach(outline: Any) -> float:
    """From the origin to the furthest corner."""
    return float(np.linalg.norm(shapely.get_coordinates(outline), axis=1).max())


def _simpler(outline: Any, tile_px: int) -> tuple[Any, tuple[str, ...]]:
    """An outline of at most `MOST_CORNERS`, and what to say where it isn't quite the same."""
    simpler, moved_px = outline, SIMPLER * tile_px
    while not _is_simple(simpler) and not simpler.is_empty:
        simpler = outline.simplify(moved_px, preserve_topology=False)
        moved_px *= 2
    if simpler.is_empty:
        simpler = outline.oriented_envelope
    if abs(simpler.area / outline.area - 1) < ALIKE:
        return simpler, ()
    return simpler, ("the outline has too many corners: a simpler one was searched with",)


def _is_simple(outline: Any) -> bool:
    few = shapely.get_num_coordinates(outline) <= MOST_CORNERS + 1  # the first comes twice
    return bool(few and outline.geom_type == "Polygon" and outline.is_valid)


def _polygon(query: RegionQuery | PolygonQuery) -> Any:
    if isinstance(query, PolygonQuery):
        return query.polygon
    return shapely.box(query.x, query.y, query.x + query.width_px, query.y + query.height_px)


def _held(canvas: OnSlide, outline: Any, grid: GridSettings) -> Canvas:
    """All of a region and its margin in memory, where that is no more than a picture may be."""
    left, top, right, bottom = outline.bounds
    margin = round(MARGIN * grid.tile_px) + 2
    left, top = int(left) - margin, int(top) - margin
    width, height = int(right) + margin - left, int(bottom) + margin - top
    if width * height > MAX_PIXELS:
        return canvas
    return Held(canvas.read(left, top, width, height), left, top)
