"""Pictures out of slides, for whoever may see them. Label and macro images are never read."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from weakref import finalize

import numpy as np
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.config import check_choice, check_whole
from microtome.errors import SlideUnknown, SlideUnreadable
from microtome.slides.slide import Pixels, SlideReader
from microtome.tiles.reading import ReadPlan, read_tile, scale_for
from microtome_serve.access import Access
from microtome_serve.deepzoom import Box, DeepZoom, TileAddress, crop, read_box
from microtome_serve.following import Followed
from microtome_serve.open_slides import OpenSlides, SlideFile
from microtome_serve.settings import ServeSettings
from microtome_serve.threads import Threads
from microtome_serve.visible_rows import Page, PageWanted, Row, VisibleRows

Format = Literal["jpeg", "png", "webp"]
MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
LEAST_SIDE_PX: Final = 16
MOST_SIDE_PX: Final = 1024
QUALITY: Final = 85
THREADS: Final = 4
"""Decoders let go of Python's lock; each may hold 50 MB of pixels."""

_MARK: Final = "1"  # another where the same address comes to show other pixels


@dataclass(frozen=True, slots=True)
class Look:
    """How a tile's picture is wanted.

    Attributes:
        format: of the file.
        size: its side in pixels; None for the size that the model saw.
    """

    format: Format = "jpeg"
    size: int | None = None

    def __post_init__(self) -> None:
        check_choice("format", self.format, tuple(MEDIA_TYPES))
        if self.size is not None:
            check_whole("size", self.size, least=LEAST_SIDE_PX, most=MOST_SIDE_PX)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as a file.

    Attributes:
        data: its bytes; None where the client has it already.
        media_type: of the bytes.
        etag: a name of exactly these bytes.
    """

    data: bytes | None
    media_type: str
    etag: str


class PictureReader:
    """Slides, and pictures of them and of their tiles. Safe to call from several threads.

    Whatever is asked by an id raises `SlideUnknown` or `TileNotFound` alike where there is none
    and where it isn't for them; and where the slide's file isn't there any more, or isn't what was
    indexed, another `SlideError`.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.rows = VisibleRows(atlas)
        self._grid = atlas.grid
        self._slides = OpenSlides()
        finalize(self, self._slides.close)

    def thumbnail(self, access: Access, slide_id: str, known: str = "") -> Encoded:
        """The small JPEG that was kept when the slide was indexed.

        Args:
            access: who asks.
            slide_id: the slide.
            known: the `If-None-Match` of the request, here and below.
        """
        data = self.rows.thumbnail(access, slide_id)
        if not data:
            raise SlideUnknown("no thumbnail was kept of the slide")
        etag = _etag(hashlib.blake2b(data, digest_size=16).hexdigest())
        return Encoded(None if etag in known else data, MEDIA_TYPES["jpeg"], etag)

    def tile_picture(self, access: Access, tile_id: str, look: Look, known: str = "") -> Encoded:
        """A tile, read from its slide at its place."""
        tile = self.rows.tile(access, tile_id)
        side_px = look.size or self._grid.tile_px
        etag = _etag(tile["tile_id"], side_px, look.format)
        if etag in known:
            return Encoded(None, MEDIA_TYPES[look.format], etag)
        with self._slides.reading(self._file(access, tile["slide_id"])) as reader:
            pixels = _square(reader, tile, side_px)
        return Encoded(encoded(pixels, look.format), MEDIA_TYPES[look.format], etag)

    def descriptor(self, access: Access, slide_id: str, form: Format = "jpeg") -> str:
        """The Deep Zoom descriptor of a slide, whose tiles are to have this format."""
        file = self._file(access, slide_id)
        return DeepZoom(file.width_px, file.height_px).descriptor(form)

    def deepzoom_tile(
        self, access: Access, slide_id: str, address: TileAddress, look: Look, known: str = ""
    ) -> Encoded:
        """A Deep Zoom tile of a slide; `look.size` says nothing here.

        Raises:
            SlideUnknown: the slide has no such tile, too.
        """
        file = self._file(access, slide_id)
        deepzoom = DeepZoom(file.width_px, file.height_px)
        box = deepzoom.box(address)
        if box is None:
            raise SlideUnknown("the slide has no such tile")
        place = f"{address.level}/{address.column}_{address.row}"
        etag = _etag(file.content_id, place, look.format)
        if etag in known:
            return Encoded(None, MEDIA_TYPES[look.format], etag)
        with self._slides.reading(file) as reader:
            pixels = read_box(reader, box, deepzoom.downsample(address.level))
        if pixels is None:
            pixels = self._from_thumbnail(access, slide_id, box, deepzoom.size_px(address.level))
        return Encoded(encoded(pixels, look.format), MEDIA_TYPES[look.format], etag)

    def _file(self, access: Access, slide_id: str) -> SlideFile:
        return SlideFile(**self.rows.slide_file(access, slide_id))

    def _from_thumbnail(
        self, access: Access, slide_id: str, box: Box, size_px: tuple[int, int]
    ) -> Pixels:
        """Coarse, but at once: the slide has no level from which the tile could be read."""
        data = self.rows.thumbnail(access, slide_id)
        if not data:
            raise SlideUnreadable(f"{slide_id} has no level coarse enough for this tile")
        return crop(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), box, size_px)


def _square(reader: SlideReader, tile: Row, side_px: int) -> Pixels:
    """A tile's square of the slide with that many pixels a side."""
    scale = scale_for(reader.slide, tile["size_px"] / side_px)
    plan = ReadPlan(scale, max(1, round(tile["size_px"] / scale.downsample)), side_px)
    return read_tile(reader, plan, tile["x"], tile["y"])


def encoded(pixels: Pixels, form: Format) -> bytes:
    """The picture as a file; PNG is exact, JPEG and WebP are nearly so."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, quality=QUALITY)
    return file.getvalue()


def _etag(*parts: object) -> str:
    name = "|".join(map(str, (_MARK, *parts)))
    return f'"{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"'


class Pictures:
    """The deployment that lists slides and reads pictures; each method is `PictureReader`'s."""

    def __init__(self, settings: ServeSettings) -> None:
        self._readers = Followed(settings.atlas, PictureReader)
        self._decoding = Threads("pictures", THREADS)
        self._looking_up = Threads("rows", THREADS)  # no list waits for pictures

    async def ready(self) -> None:
        """Whether the atlas can be read.

        Raises:
            AtlasError: why it can't.
        """
        self._readers.current()

    @property
    def _reader(self) -> PictureReader:
        return self._readers.current()

    async def slides(self, access: Access, wanted: PageWanted) -> Page:
        """See `VisibleRows.page`."""
        return await self._looking_up.run(partial(self._reader.rows.page, access, wanted))

    async def slide(self, access: Access, slide_id: str) -> Row:
        """See `VisibleRows.slide`."""
        return await self._looking_up.run(partial(self._reader.rows.slide, access, slide_id))

    async def tile(self, access: Access, tile_id: str) -> Row:
        """See `VisibleRows.tile`."""
        return await self._looking_up.run(partial(self._reader.rows.tile, access, tile_id))

    async def thumbnail(self, access: Access, slide_id: str, known: str) -> Encoded:
        """See `PictureReader.thumbnail`."""
        return await self._decoding.run(partial(self._reader.thumbnail, access, slide_id, known))

    async def tile_picture(self, access: Access, tile_id: str, look: Look, known: str) -> Encoded:
        """See `PictureReader.tile_picture`."""
        return await self._decoding.run(
            partial(self._reader.tile_picture, access, tile_id, look, known)
        )

    async def descriptor(self, access: Access, slide_id: str, form: Format) -> str:
        """See `PictureReader.descriptor`."""
        return await self._decoding.run(partial(self._reader.descriptor, access, slide_id, form))

    async def deepzoom_tile(
        self, access: Access, slide_id: str, address: TileAddress, look: Look, known: str
    ) -> Encoded:
        """See `PictureReader.deepzoom_tile`."""
        return await self._decoding.run(
            partial(self._reader.deepzoom_tile, access, slide_id, address, look, known)
        )
