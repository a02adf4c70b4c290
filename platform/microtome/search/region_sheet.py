"""Regions as a gallery shows them: each turned and mirrored back to how the query lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import shapely

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import one_of
from microtome.config import MppSettings
from microtome.errors import MicrotomeError
from microtome.rows import beside
from microtome.search.pictures import Picture
from microtome.search.query import RegionQuery
from microtome.search.region_picture import shown
from microtome.search.region_placement import Placement, turns
from microtome.search.region_result import RegionHit, RegionResult
from microtome.search.sheet import Card, Sheet
from microtome.slides.opening import open_slide
from microtome.slides.slide import Pixels, SlideReader, SlideRef

MAX_REGIONS: Final = 50

Size = tuple[int, int]
"""Width and height, level-0 px."""


def region_sheet(result: RegionResult, atlas: Atlas) -> Sheet:
    """The query and the first `MAX_REGIONS` regions found, as pictures beside words.

    A slide that can't be read leaves a field that says so.
    """
    hits = result.hits[:MAX_REGIONS]
    pictures, sizes = dict(_pictures(hits, atlas)), _sizes(hits, atlas)
    return Sheet(
        query=result.query.text,
        picture=Picture(result.pixels),
        facts=_facts(result, atlas, len(hits)),
        notes=result.notes,
        cards=tuple(
            _card(rank, hit, sizes.get(hit.slide_id), pictures[rank - 1])
            for rank, hit in enumerate(hits, start=1)
        ),
        scale="mean cosine similarity × coverage",
    )


def _pictures(hits: Sequence[RegionHit], atlas: Atlas) -> Iterator[tuple[int, Picture]]:
    """Each hit's place in the list and its picture, slide by slide."""
    slide_ids = {hit.slide_id for hit in hits}
    columns = ["slide_id", "uri", "mpp", "content_id"]
    rows = atlas.slides.to_table(columns=columns, filter=one_of("slide_id", slide_ids))
    for row in rows.to_pylist():
        left = [place for place, hit in enumerate(hits) if hit.slide_id == row["slide_id"]]
        problem = "the file has changed since it was indexed"
        try:
            ref = SlideRef(row["slide_id"], row["uri"], mpp=row["mpp"])
            with open_slide(ref, MppSettings()) as reader:
                while left and reader.slide.content_id == row["content_id"]:
                    pixels = _upright(reader, hits[left[0]], atlas.grid.mpp / reader.slide.mpp)
                    yield left.pop(0), Picture(pixels)
        except MicrotomeError as error:
            problem = error.message
        yield from ((place, Picture(None, problem)) for place in left)
        slide_ids.discard(row["slide_id"])
    for place, hit in enumerate(hits):
        if hit.slide_id in slide_ids:
            yield place, Picture(None, "the slide is not in the atlas's list")


def _upright(reader: SlideReader, hit: RegionHit, factor: float) -> Pixels:
    """The region as if it lay like the query; `factor` is level-0 px per grid px."""
    turn = turns(np.array([hit.angle_deg]), np.array([hit.flipped]))[0]
    turned_back = np.array(hit.polygon) / factor @ turn
    middle = (turned_back.min(axis=0) + turned_back.max(axis=0)) / 2
    x, y = (turn @ middle).tolist()
    outline = shapely.Polygon(turned_back - middle)
    return shown(reader, factor, outline, Placement(x, y, hit.angle_deg, hit.flipped))


def _facts(result: RegionResult, atlas: Atlas, count: int) -> tuple[str, ...]:
    settings, grid = result.settings, atlas.grid
    searched = [f"{count:,} regions, each turned to lie as the query does"]
    if settings.where:
        searched.append(f"where {settings.where}")
    if settings.exclude != "none":
        searched.append(f"without the query's {settings.exclude}")
    tiles = f"tiles of {grid.tile_px} px at {grid.mpp:g} µm per px"
    return (
        " · ".join(searched),
        f"model {result.model_name} · {tiles} · places in level-0 px",
    )


def _sizes(hits: Sequence[RegionHit], atlas: Atlas) -> Mapping[str, Size]:
    """Of their slides."""
    columns = ["slide_id", "width_px", "height_px"]
    slides = one_of("slide_id", {hit.slide_id for hit in hits})
    rows = atlas.slides.to_table(columns=columns, filter=slides).to_pylist()
    return {row["slide_id"]: (row["width_px"], row["height_px"]) for row in rows}


def _within(hit: RegionHit, size: Size | None) -> RegionQuery:
    """The rectangle around a hit, as much of it as lies on its slide: more is no query."""
    x, y, width_px, height_px = hit.box
    right, bottom = x + width_px, y + height_px
    if size is not None:
        x, y, right, bottom = max(x, 0), max(y, 0), min(right, size[0]), min(bottom, size[1])
    return RegionQuery(hit.slide_id, x, y, max(1, right - x), max(1, bottom - y))


def _card(rank: int, hit: RegionHit, size: Size | None, picture: Picture) -> Card:
    x, y, width_px, height_px = hit.box
    region = _within(hit, size)
    return Card(
        rank=rank,
        score=f"{hit.score:.3f}",
        slide=hit.slide_id,
        place=f"x {x:,} · y {y:,} · {width_px:,} by {height_px:,}",
        region=region.text,
        ask=region.text,
        facts=tuple(_said(hit).items()),
        picture=picture,
    )


def _said(hit: RegionHit) -> Mapping[str, str]:
    flip = ", mirrored" if hit.flipped else ""
    known: dict[str, Any] = {
        "turned": f"{hit.angle_deg:.0f}°{flip}",
        "tiles": f"{len(hit.tiles)}, {hit.coverage:.0%} covered",
        "case": hit.case_id,
    }
    known |= beside(known, hit.metadata)
    return {name: str(value) for name, value in known.items() if value is not None}
