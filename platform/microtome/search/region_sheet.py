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
from microtome.search.pictures import Picture
from microtome.search.region_picture import shown
from microtome.search.region_placement import Placement, turns
from microtome.search.region_result import RegionHit, RegionResult
from microtome.search.sheet import Card, Sheet
from microtome.slides.opening import open_slide
from microtome.slides.slide import Pixels, SlideReader, SlideRef

MAX_REGIONS: Final = 50


def region_sheet(result: RegionResult, atlas: Atlas) -> Sheet:
    """The query and the first `MAX_REGIONS` regions found, as pictures beside words.

    A slide that can't be read leaves a field that says so.
    """
    hits = result.hits[:MAX_REGIONS]
    pictures = dict(_pictures(hits, atlas))
    return Sheet(
        query=result.query.text,
        picture=Picture(result.pixels),
        facts=_facts(result, atlas, len(hits)),
        notes=result.notes,
        cards=tuple(_card(place + 1, hit, pictures[place]) for place, hit in enumerate(hits)),
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


def _card(rank: int, hit: RegionHit, picture: Picture) -> Card:
    x, y, width_px, height_px = hit.box
    region = f"{hit.slide_id}#{x},{y},{width_px},{height_px}"
    return Card(
        rank=rank,
        score=f"{hit.score:.3f}",
        slide=hit.slide_id,
        place=f"x {x:,} · y {y:,} · {width_px:,} by {height_px:,}",
        region=region,
        ask=region,
        facts=tuple(_said(hit).items()),
        picture=picture,
    )


def _said(hit: RegionHit) -> Mapping[str, str]:
    flip = ", mirrored" if hit.flipped else ""
    known: dict[str, Any] = {
        "turned": f"{hit.angle_deg:.0f}°{flip}",
        "tiles": f"{len(hit.tiles)}, {hit.coverage:.0%} covered",
        "case": hit.case_id,
        **hit.metadata,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
