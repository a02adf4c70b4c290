"""A drawn region as a query: one polygon of GeoJSON (RFC 7946), in level-0 px of its slide.

Taken are what drawing programs write: a Polygon, a MultiPolygon of one, a Feature of either, and a
FeatureCollection or a list of one Feature. A polygon has one outline that doesn't cross itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import shapely

from microtome.errors import QueryUnreadable
from microtome.slides.storage import explained, filesystem_of

MAX_BYTES: Final = 16 << 20
MAX_CORNERS: Final = 100_000

_WANTED = "Give one GeoJSON polygon in level-0 px: a Polygon, a Feature, or a collection of one."


@dataclass(frozen=True, slots=True)
class PolygonQuery:
    """A polygon of a slide.

    Attributes:
        slide: slide_id in the atlas, file or URI.
        corners: x and y of each, level-0 px, in order; the first isn't repeated.
        name: what stands for the polygon in the query's text: its file.
    """

    slide: str
    corners: tuple[tuple[float, float], ...]
    name: str = "polygon"

    def __post_init__(self) -> None:
        _check(self.text, self.corners)

    @classmethod
    def of(cls, slide: str, geojson: Any, name: str = "polygon") -> Self:
        """Take the one polygon of parsed GeoJSON.

        Raises:
            QueryUnreadable: it isn't one, has holes, crosses itself or has no area.
        """
        text = f"{slide}#{name}"
        rings = _rings(text, geojson)
        if len(rings) > 1:
            raise QueryUnreadable(
                f"the polygon {text} has holes",
                remedy="Draw it without: a region is searched as one piece.",
            )
        return cls(slide, _corners(text, rings[0]), name)

    @property
    def text(self) -> str:
        """The query as a user would write it."""
        return f"{self.slide}#{self.name}"

    @property
    def polygon(self) -> Any:
        """As shapely's, level-0 px."""
        return shapely.Polygon(self.corners)


def is_geojson(name: str) -> bool:
    """Whether what follows `SLIDE#` names a GeoJSON file."""
    return name.lower().endswith((".geojson", ".json"))


def read_polygon(slide: str, file: str) -> PolygonQuery:
    """Read the polygon of a GeoJSON file, local or in a store.

    Raises:
        QueryUnreadable: the file is missing or holds no such polygon.
    """
    with explained(file, missing=QueryUnreadable, refused=QueryUnreadable):
        filesystem, path = filesystem_of(file)
        with filesystem.open(path, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise QueryUnreadable(f"{file} is larger than {MAX_BYTES >> 20} MiB", remedy=_WANTED)
    try:
        geojson = json.loads(data)
    except (ValueError, RecursionError):
        raise QueryUnreadable(f"{file} is no JSON", remedy=_WANTED) from None
    return PolygonQuery.of(slide, geojson, file)


def _rings(text: str, geojson: Any) -> Sequence[Any]:
    """The outline of the one polygon, and its holes."""
    for _ in range(3):  # collection, feature, polygon
        if isinstance(geojson, dict) and geojson.get("type") == "FeatureCollection":
            geojson = geojson.get("features")
        if isinstance(geojson, list):
            geojson = _only(text, geojson)
        if isinstance(geojson, dict) and geojson.get("type") == "Feature":
            geojson = geojson.get("geometry")
    kind = geojson.get("type") if isinstance(geojson, dict) else None
    rings = geojson.get("coordinates") if kind in {"Polygon", "MultiPolygon"} else None
    if kind == "MultiPolygon" and isinstance(rings, list):
        rings = _only(text, rings)
    if not (isinstance(rings, list) and rings):
        raise QueryUnreadable(f"{text} is no polygon", remedy=_WANTED)
    return rings


def _only(text: str, things: list[Any]) -> Any:
    if len(things) != 1:
        raise QueryUnreadable(f"{text} holds {len(things)} shapes, not one", remedy=_WANTED)
    return things[0]


def _corners(text: str, ring: Any) -> tuple[tuple[float, float], ...]:
    try:
        told = [[x, y] for x, y, *_ in ring]
        if not all(type(number) in {int, float} for place in told for number in place):
            raise TypeError  # numpy takes text for numbers, and a truth
        places = np.array(told, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise QueryUnreadable(f"the corners of {text} are no x and y", remedy=_WANTED) from None
    if len(places) > 1 and (places[0] == places[-1]).all():
        places = places[:-1]
    return tuple((x, y) for x, y in places.tolist())


def _check(text: str, corners: Sequence[tuple[float, float]]) -> None:
    if not 3 <= len(corners) <= MAX_CORNERS:
        raise QueryUnreadable(
            f"the polygon {text} has {len(corners):,} corners",
            remedy=f"Give three at least, and at most {MAX_CORNERS:,}.",
        )
    if not np.isfinite(corners).all() or np.abs(corners).max() > 1e9:
        raise QueryUnreadable(f"the corners of {text} lie on no slide", remedy=_WANTED)
    polygon = shapely.Polygon(corners)
    if not polygon.is_valid:
        raise QueryUnreadable(
            f"the polygon {text} crosses or touches itself ({shapely.is_valid_reason(polygon)})",
            remedy="Draw its outline anew, as one line around one piece of tissue.",
        )
    if polygon.area < 1:
        raise QueryUnreadable(f"the polygon {text} has no area", remedy=_WANTED)
