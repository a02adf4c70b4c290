"""Hits as pictures: each slide opened once, a slide out of reach is said, never raised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import one_of
from microtome.config import GridSettings, MppSettings
from microtome.errors import MicrotomeError
from microtome.search.result import Hit
from microtome.slides.opening import open_slide
from microtome.slides.slide import Pixels, SlideRef
from microtome.tiles.reading import ReadPlan, read_tile


@dataclass(frozen=True, slots=True)
class Picture:
    """A tile's pixels, or why there are none.

    Attributes:
        pixels: (tile_px, tile_px, 3) uint8 at the grid's mpp.
        problem: a short sentence; empty where there are pixels.
    """

    pixels: Pixels | None
    problem: str = ""


def read_pictures(hits: Iterable[Hit], atlas: Atlas) -> dict[str, Picture]:
    """The picture of every hit, by tile id, read from where the atlas says its slide lies."""
    by_slide: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_slide[hit.slide_id].append(hit)
    rows = atlas.slides.to_table(
        columns=["slide_id", "uri", "mpp", "content_id"], filter=one_of("slide_id", by_slide)
    )
    slides = {row["slide_id"]: row for row in rows.to_pylist()}
    pictures: dict[str, Picture] = {}
    for slide_id, of_slide in sorted(by_slide.items()):
        pictures.update(_of_slide(slides.get(slide_id, {}), of_slide, atlas.grid))
    return pictures


def _of_slide(
    row: Mapping[str, Any], hits: list[Hit], grid: GridSettings
) -> Iterator[tuple[str, Picture]]:
    """Pictures of one slide's hits, top to bottom; what goes wrong is said on those it concerns."""
    left = sorted(hits, key=lambda hit: (hit.y, hit.x), reverse=True)
    problem = "the slide is not in the atlas's list"
    try:
        if row:
            ref = SlideRef(row["slide_id"], row["uri"], mpp=row["mpp"])
            with open_slide(ref, MppSettings()) as reader:
                problem = "the file has changed since it was indexed"
                if reader.slide.content_id == row["content_id"]:
                    plan = ReadPlan.of(reader.slide, grid)
                    while left:
                        yield left[-1].tile_id, Picture(read_tile(reader, plan, *_corner(left[-1])))
                        left.pop()
    except MicrotomeError as error:
        problem = error.message
    yield from ((hit.tile_id, Picture(None, problem)) for hit in left)


def _corner(hit: Hit) -> tuple[int, int]:
    return hit.x, hit.y
