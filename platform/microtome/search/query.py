"""What a search asks for: a picture, a tile, a region, a whole slide or case, or given vectors.

A text is taken as the first of these that fits:

1. the name of a file that exists (so a picture may be called `a#1,2,3,4` or `0123…cdef`): an image;
2. 32 hex digits: a tile id;
3. `slide:ID` or `case:ID`, where all that follows is the id: a slide or a case of the atlas;
4. `SLIDE#x,y,w,h` with four whole numbers, level-0 px: a region, where SLIDE is a slide's file,
   its URI or its slide_id, and the last `#` counts;
5. a URI without such an end: an image.

Vectors have no text: they are given by programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microtome.errors import QueryUnreadable
from microtome.search.polygon_query import PolygonQuery, is_geojson, read_polygon
from microtome.slides.listing import EXTENSIONS, extension

FORMS = (
    "Ask with an image file (PNG, JPEG, TIFF, WebP), a tile id (32 hex digits), "
    "a region of a slide (slide.svs#x,y,w,h in level-0 px, or slide.svs#outline.geojson), or a "
    "slide or case of the atlas "
    "(slide:ID, case:ID)."
)

_ONLY_SLIDES = EXTENSIONS - {"tif", "tiff"}
_TILE_ID = re.compile(r"[0-9a-fA-F]{32}")
_WHOLE = re.compile(r"(?P<kind>slide|case):(?P<id>.+)", re.DOTALL)
_REGION = re.compile(r"(?P<slide>.+)#(?P<box>[^#]*)", re.DOTALL)
_BOX = re.compile(r"\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*")


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """A picture of tissue.

    Attributes:
        text: file or URI, as the user named it.
        data: the file's bytes where they came with the question; else they are read from `text`.
    """

    text: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TileQuery:
    """A tile of the atlas, by its id in lower case."""

    tile_id: str

    @property
    def text(self) -> str:
        """The query as a user would write it."""
        return self.tile_id


@dataclass(frozen=True, slots=True)
class RegionQuery:
    """A rectangle of a slide.

    Attributes:
        slide: slide_id in the atlas, file or URI.
        x: left edge, level-0 px.
        y: top edge, level-0 px.
        width_px: level-0 px.
        height_px: level-0 px.
    """

    slide: str
    x: int
    y: int
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise QueryUnreadable(
                f"the region {self.text} has no area",
                remedy="Give x,y,w,h in level-0 px, with w and h at least 1.",
            )

    @property
    def text(self) -> str:
        """The query as a user would write it."""
        return f"{self.slide}#{self.x},{self.y},{self.width_px},{self.height_px}"


@dataclass(frozen=True, slots=True)
class SlideQuery:
    """A whole slide of the atlas, by its slide_id."""

    slide_id: str

    @property
    def text(self) -> str:
        """The query as a user would write it."""
        return f"slide:{self.slide_id}"


@dataclass(frozen=True, slots=True)
class CaseQuery:
    """All slides of a case of the atlas, by its case_id."""

    case_id: str

    @property
    def text(self) -> str:
        """The query as a user would write it."""
        return f"case:{self.case_id}"


@dataclass(frozen=True, slots=True, eq=False)
class VectorQuery:
    """Vectors of tiles, made elsewhere with the atlas's model.

    Attributes:
        vectors: (Q, D) numbers; kept as float32 of unit length.
    """

    vectors: NDArray[Any] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", _unit(self.vectors))

    @property
    def text(self) -> str:
        """What stands for the query in a result; it can't be read back."""
        return f"{len(self.vectors)} vectors of {self.vectors.shape[1]} numbers"


Query = ImageQuery | TileQuery | RegionQuery | PolygonQuery | SlideQuery | CaseQuery | VectorQuery


def parse_query(text: str) -> Query:
    """Read a query; whether a local file exists is looked up, and only GeoJSON is opened.

    Raises:
        QueryUnreadable: the text fits none of the forms, names a whole slide, or a region
            without area.
    """
    if _is_file(text):
        return _image(text)
    if _TILE_ID.fullmatch(text.strip()):
        return TileQuery(text.strip().lower())
    if whole := _WHOLE.fullmatch(text):
        return SlideQuery(whole["id"]) if whole["kind"] == "slide" else CaseQuery(whole["id"])
    if region := _REGION.fullmatch(text):
        if is_geojson(region["box"]):
            return read_polygon(region["slide"], region["box"])
        return _region(text, region["slide"], region["box"])
    if "://" in text:
        return _image(text)
    raise QueryUnreadable(f"no image file, tile id, region, slide or case: {text!r}", remedy=FORMS)


def _image(text: str) -> ImageQuery:
    if extension(text) in _ONLY_SLIDES:  # some begin as an image that shows the label
        raise QueryUnreadable(
            f"{text} is a whole slide", remedy=f"Ask with a region of it: {text}#x,y,w,h."
        )
    return ImageQuery(text)


def _region(text: str, slide: str, box: str) -> RegionQuery:
    numbers = _BOX.fullmatch(box)
    if numbers is None:
        raise QueryUnreadable(
            f"what follows # in {text!r} must be four whole numbers: x,y,w,h", remedy=FORMS
        )
    x, y, width_px, height_px = (int(number) for number in numbers.groups())
    return RegionQuery(slide, x, y, width_px, height_px)


def _unit(vectors: Any) -> NDArray[np.float32]:
    """Rows of unit length.

    Raises:
        QueryUnreadable: no (Q, D) numbers, or a row that has no direction.
    """
    try:
        rows = np.asarray(vectors, dtype=np.float64)  # whose squares don't vanish or overflow
    except (TypeError, ValueError) as error:
        raise QueryUnreadable("the vectors are not rows of equally many numbers") from error
    if rows.ndim != 2 or not rows.size:
        raise QueryUnreadable(
            f"the vectors have the shape {rows.shape}",
            remedy="Give (Q, D) numbers: Q ≥ 1 vectors of the model's D dimensions.",
        )
    largest = np.abs(rows).max(axis=1, keepdims=True)
    faults = {"holds NaN or infinity": ~np.isfinite(largest), "is all zeros": largest == 0}
    for fault, bad in faults.items():
        if bad.any():
            raise QueryUnreadable(
                f"vector {int(bad.argmax())}, counted from 0, {fault}",
                remedy="Give finite vectors that have a direction.",
            )
    rows = rows / largest
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows.astype(np.float32)
    return unit


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False
