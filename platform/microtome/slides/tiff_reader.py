"""Tiled TIFF slides read directly: each file tile fetched by its byte range and decoded once.

    region → file tiles it touches → those not in memory fetched together → decoded → pasted

A JPEG level is also offered at 1/2, 1/4 and 1/8: its decoder shrinks for a fraction of the work. At
full scale pixels equal OpenSlide's bit for bit (tifffile's for OME-TIFF, which OpenSlide refuses).

Memory: `cache_bytes` of decoded tiles, 16 bytes of layout for each tile of the file, and per call
the region with the tiles that are pasted at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from microtome.errors import TileReadFailed
from microtome.slides.slide import Pixels, Region, Slide
from microtome.slides.tiff_ahead import FetchAhead
from microtome.slides.tiff_cache import TileCache, TileKey
from microtome.slides.tiff_codecs import TileBroken, decode_tile
from microtome.slides.tiff_layout import TiledImage
from microtome.slides.tiff_source import ByteRange, ByteSource, FetchingSource

CACHE_BYTES = 64 * 2**20
"""Two rows of 256 px tiles across 43,000 px: regions share them with those of the next row."""

TILES_AT_ONCE = 64
"""12 MiB of 256 px tiles: a large region isn't held twice, a usual one is fetched in one go."""

WHITE = 255


class TiffReader:
    """A `ReducingReader` over the tiles of a TIFF.

    Args:
        slide: the header's facts; its levels are those of `levels`.
        levels: where the tiles lie, from `tiff_flavours.read_layout`.
        source: the file's bytes; closed with the reader.
        cache_bytes: decoded tiles that are kept for regions to come.
    """

    def __init__(
        self,
        slide: Slide,
        levels: Sequence[TiledImage],
        source: ByteSource,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.slide = slide
        self._levels = levels
        self._source = source
        self._cache = TileCache(cache_bytes)
        self._ahead: FetchAhead | None = None
        self._closed = False

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far."""
        return self._source.bytes_read

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        """Read a rectangle of one level; see `SlideReader.read_region`.

        A corner between two pixels of the level goes to the nearer one.
        """
        return self.read_reduced(x, y, level, width_px, height_px, reduction=1)

    def read_reduced(
        self, x: int, y: int, level: int, width_px: int, height_px: int, *, reduction: int
    ) -> Pixels:
        """Read a rectangle of one level, shrunk while it is decoded; see `ReducingReader`."""
        if self._closed:
            raise ValueError(f"{self._source.name} is closed")
        if not 0 <= level < len(self._levels) or width_px < 1 or height_px < 1:
            raise ValueError(f"no region of {width_px} × {height_px} px at level {level}")
        image = self._levels[level]
        if reduction not in image.encoding.reductions:
            raise ValueError(f"level {level} offers {image.encoding.reductions}, not {reduction}")
        view = _View.of(image, Region(x, y, level, width_px, height_px, reduction))
        region = np.empty((height_px, width_px, 3), np.uint8)
        if not view.covers(width_px, height_px):
            region.fill(WHITE)
        pastes = view.pastes(width_px, height_px)
        for start in range(0, len(pastes), TILES_AT_ONCE):
            part = pastes[start : start + TILES_AT_ONCE]
            tiles = self._cache.tiles([p.key for p in part if self._is_full(p.key)], self._decoded)
            for paste in part:
                pixels = tiles.get(paste.key)
                region[paste.into] = WHITE if pixels is None else pixels[paste.out_of]
        if self._ahead:
            self._ahead.advance()
        return region

    def fetch_ahead(self, regions: Iterable[Region]) -> None:
        """Bring what regions to come need; see `FetchingReader`. A file that is near needs none."""
        if isinstance(self._source, FetchingSource):
            self._ahead = FetchAhead(self._source, map(self._ranges, regions))

    def _ranges(self, region: Region) -> list[ByteRange]:
        """Where the tiles of a region lie in the file."""
        image = self._levels[region.level]
        view = _View.of(image, region)
        keys = (paste.key for paste in view.pastes(region.width_px, region.height_px))
        return [image.tile_range(key.tile) for key in keys if self._is_full(key)]

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_full(self, key: TileKey) -> bool:
        """Whether the file holds pixels of this tile."""
        return bool(self._levels[key.level].byte_counts[key.tile])

    def _decoded(self, keys: Sequence[TileKey]) -> Iterator[Pixels]:
        """Fetch tiles together and decode them one by one."""
        chunks = self._source.read([self._levels[k.level].tile_range(k.tile) for k in keys])
        for key, chunk in zip(keys, chunks, strict=True):
            image = self._levels[key.level]
            try:
                yield decode_tile(image.encoding, chunk, key.reduction)
            except TileBroken as error:
                row, column = divmod(key.tile, image.columns)
                raise TileReadFailed(
                    f"{self._source.name} can't be decoded at tile ({column}, {row}) "
                    f"of level {key.level}: {error}"
                ) from None


class _Paste(NamedTuple):
    """A part of a tile and its place in the region."""

    key: TileKey
    into: tuple[slice, slice]
    out_of: tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class _View:
    """A level at one reduction, seen from the region's corner (left, top) in reduced pixels."""

    image: TiledImage
    level: int
    reduction: int
    left: int
    top: int

    @classmethod
    def of(cls, image: TiledImage, region: Region) -> Self:
        scale = image.downsample * region.reduction
        left, top = _nearest(region.x / scale), _nearest(region.y / scale)
        return cls(image, region.level, region.reduction, left, top)

    @property
    def width_px(self) -> int:
        return math.ceil(self.image.width_px / self.reduction)

    @property
    def height_px(self) -> int:
        return math.ceil(self.image.height_px / self.reduction)

    def covers(self, width_px: int, height_px: int) -> bool:
        """Whether the whole region lies inside the picture."""
        return (
            self.left >= 0
            and self.top >= 0
            and self.left + width_px <= self.width_px
            and self.top + height_px <= self.height_px
        )

    def pastes(self, width_px: int, height_px: int) -> list[_Paste]:
        """What makes up the region, row of tiles by row."""
        tile_height, tile_width = (s // self.reduction for s in self.image.encoding.tile_size_px)
        across = _spans(self.left, width_px, self.width_px, tile_width)
        down = _spans(self.top, height_px, self.height_px, tile_height)
        return [
            _Paste(
                TileKey(self.level, row * self.image.columns + column, self.reduction),
                (into_y, into_x),
                (from_y, from_x),
            )
            for row, into_y, from_y in down
            for column, into_x, from_x in across
        ]


def _spans(start: int, size: int, limit: int, tile: int) -> list[tuple[int, slice, slice]]:
    """Along one axis: each tile that [start, start + size) touches inside [0, limit).

    Returns:
        The tile's number, its pixels' place in the region, and their place in the tile.
    """
    first, last = max(start, 0), min(start + size, limit)
    spans = []
    for number in range(first // tile, math.ceil(last / tile) if last > first else 0):
        begin, end = max(first, number * tile), min(last, (number + 1) * tile)
        origin = number * tile
        spans.append(
            (number, slice(begin - start, end - start), slice(begin - origin, end - origin))
        )
    return spans


def _nearest(position: float) -> int:
    return math.floor(position + 0.5)
