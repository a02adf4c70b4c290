"""What a search asks for: a picture, a tile of the atlas, or a region of a slide.

A text is taken as the first of these that fits:

1. the name of a file that exists (so a picture may be called `a#1,2,3,4` or `0123…cdef`): an image;
2. 32 hex digits: a tile id;
3. `SLIDE#x,y,w,h` with four whole numbers, level-0 px: a region, where SLIDE is a slide's file,
   its URI or its slide_id, and the last `#` counts;
4. a URI without such an end: an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from microtome.errors import QueryUnreadable
from microtome.slides.listing import EXTENSIONS, extension

FORMS = (
    "Ask with an image file (PNG, JPEG, TIFF, WebP), a tile id (32 hex digits) "
    "or a region of a slide (slide.svs#x,y,w,h in level-0 px)."
)

_ONLY_SLIDES = EXTENSIONS - {"tif", "tiff"}
_TILE_ID = re.compile(r"[0-9a-fA-F]{32}")
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


Query = ImageQuery | TileQuery | RegionQuery


def parse_query(text: str) -> Query:
    """Read a query; only whether a local file exists is looked up, nothing is opened.

    Raises:
        QueryUnreadable: the text fits none of the three forms, names a whole slide, or a region
            without area.
    """
    if _is_file(text):
        return _image(text)
    if _TILE_ID.fullmatch(text.strip()):
        return TileQuery(text.strip().lower())
    if region := _REGION.fullmatch(text):
        return _region(text, region["slide"], region["box"])
    if "://" in text:
        return _image(text)
    raise QueryUnreadable(f"no image file, tile id or region of a slide: {text!r}", remedy=FORMS)


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


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False
