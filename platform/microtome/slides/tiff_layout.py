"""Where every tile of a TIFF slide lies and how it is coded: read once, then plain values.

Four kinds of file are taken, each by its own rule for what is a level:

- aperio: every tiled directory (label, macro and thumbnail are stripped);
- philips: the first and every reduced tiled directory, their sizes corrected by pixel spacings;
- ome: the first directory and its SubIFDs;
- generic: the first and every reduced tiled directory, by width.

The rules are OpenSlide's, so that level, size and downsample agree. Whatever is not plainly one of
these, or holds anything but 8-bit RGB in one plane, raises `LeftToOpenSlide`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.errors import SlideTruncated, SlideUnreadable
from microtome.slides import tiff_tags as tag
from microtome.slides.tiff_codecs import (
    APERIO_JP2K_RGB,
    APERIO_JP2K_YCBCR,
    COMPRESSIONS,
    DEFLATE,
    JPEG,
    LZW,
    OLD_DEFLATE,
    Encoding,
    TileBroken,
    jp2k_is_subsampled,
)
from microtome.slides.tiff_directory import Directory
from microtome.slides.tiff_jpeg import REDUCTIONS, JpegBroken, is_jfif, shared_tables
from microtome.slides.tiff_source import ByteRange

MAX_TILE_PX = 4096
"""Longest side of a tile that is decoded here: 48 MiB of pixels."""


class LeftToOpenSlide(Exception):
    """The direct reader isn't sure of this file; says why."""


@dataclass(frozen=True, slots=True)
class TiledImage:
    """One level: where its tiles lie.

    Attributes:
        width_px: width of the picture; the tiles may reach beyond.
        height_px: height of the picture.
        downsample: level-0 pixels per pixel of this level.
        columns: tiles in a row.
        encoding: how its tiles are coded.
        offsets: (rows × columns,) int64, where each tile begins in the file, row by row.
        byte_counts: (rows × columns,) int64; 0 for a tile that holds no pixels.
    """

    width_px: int
    height_px: int
    downsample: float
    columns: int
    encoding: Encoding
    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]

    def tile_range(self, tile: int) -> ByteRange:
        """Where a tile lies in the file."""
        return ByteRange(int(self.offsets[tile]), int(self.byte_counts[tile]))


def tiled_image(directory: Directory, *, jfif_decides: bool = False) -> TiledImage:
    """The layout of one tiled directory, as level 0.

    Args:
        directory: with tiles of 8-bit RGB in one plane.
        jfif_decides: take JPEG tiles with a JFIF segment for YCbCr where the header says RGB, as
            the writers of OME-TIFF mean it; else leave such a file alone.

    Raises:
        LeftToOpenSlide: another kind of image.
        SlideUnreadable: header and tile lists contradict each other.
        SlideTruncated: a tile lies past the end of the file.
    """
    width, height = directory.number(tag.WIDTH), directory.number(tag.HEIGHT)
    tile_size = directory.number(tag.TILE_HEIGHT), directory.number(tag.TILE_WIDTH)
    name = directory.source.name
    if min(width, height, *tile_size) < 1:
        raise SlideUnreadable(f"{name} is damaged: {width} × {height} px in tiles of {tile_size}")
    if max(tile_size) > MAX_TILE_PX:
        raise LeftToOpenSlide(f"tiles of {tile_size} px")
    _check_samples(directory)
    rows, columns = math.ceil(height / tile_size[0]), math.ceil(width / tile_size[1])
    offsets, counts = (
        _tile_list(directory, one, rows * columns)
        for one in (tag.TILE_OFFSETS, tag.TILE_BYTE_COUNTS)
    )
    encoding = _encoding(
        directory, tile_size, _first_tile(directory, offsets, counts), jfif_decides
    )
    _check_byte_counts(name, encoding, counts)
    return TiledImage(width, height, 1.0, columns, encoding, offsets, counts)


def has_missing_tiles(images: Iterable[TiledImage]) -> bool:
    """Whether any tile of any level has a byte count of zero."""
    return any(not image.byte_counts.all() for image in images)


def _check_samples(directory: Directory) -> None:
    """Three 8-bit unsigned samples side by side, nothing turned, nothing deep."""
    wanted = {
        tag.SAMPLES_PER_PIXEL: (3, 1),
        tag.PLANAR_CONFIGURATION: (1, 1),
        tag.SAMPLE_FORMAT: (1, 1),
        tag.ORIENTATION: (1, 1),
        tag.FILL_ORDER: (1, 1),
        tag.IMAGE_DEPTH: (1, 1),
    }
    for one, (value, default) in wanted.items():
        if directory.number(one, default) != value:
            raise LeftToOpenSlide(f"tag {one} is {directory.number(one, default)}")
    if list(directory.numbers(tag.BITS_PER_SAMPLE)) not in ([8, 8, 8], [8]):
        raise LeftToOpenSlide("samples aren't of 8 bits")


def _tile_list(directory: Directory, one: int, tiles: int) -> NDArray[np.int64]:
    """Offsets or byte counts of `tiles` tiles; TIFF's numbers are unsigned, so checked first."""
    values = directory.numbers(one)
    if len(values) < tiles:
        raise SlideUnreadable(
            f"{directory.source.name} is damaged: its size asks for {tiles} tiles, "
            f"tag {one} lists {len(values)}"
        )
    values = values[:tiles]
    if values.dtype.kind not in "iu" or int(values.max()) > directory.source.size:
        raise SlideTruncated(
            f"{directory.source.name} has {directory.source.size} bytes, "
            f"but tag {one} names {values.max()}",
            remedy="Copy it again from where it came from.",
        )
    return values.astype(np.int64)


def _first_tile(
    directory: Directory, offsets: NDArray[np.int64], counts: NDArray[np.int64]
) -> bytes:
    """The bytes of the first tile that has any; and a check that all lie inside the file."""
    ends = offsets + counts
    if int(ends.max()) > directory.source.size or int(min(offsets.min(), counts.min())) < 0:
        raise SlideTruncated(
            f"{directory.source.name} has {directory.source.size} bytes, "
            f"but its tiles end at {ends.max()}",
            remedy="Copy it again from where it came from.",
        )
    full = np.flatnonzero(counts)
    if not len(full):
        raise LeftToOpenSlide("no tile holds pixels")
    first = full[0]
    wanted = ByteRange(int(offsets[first]), min(int(counts[first]), 1 << 16))
    return directory.source.read([wanted])[0]


def _check_byte_counts(name: str, encoding: Encoding, counts: NDArray[np.int64]) -> None:
    if int(counts.max()) > encoding.most_bytes:
        raise SlideUnreadable(
            f"{name} is damaged: a tile of {encoding.tile_bytes} bytes is stored in {counts.max()}"
        )


def _encoding(
    directory: Directory, tile_size: tuple[int, int], first_tile: bytes, jfif_decides: bool
) -> Encoding:
    compression = directory.number(tag.COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        raise LeftToOpenSlide(f"compression {compression}")
    if compression == JPEG:
        return _jpeg_encoding(directory, tile_size, first_tile, jfif_decides)
    if compression in {APERIO_JP2K_YCBCR, APERIO_JP2K_RGB}:
        return _jp2k_encoding(directory, tile_size, first_tile)
    predictor = directory.number(tag.PREDICTOR, 1)
    if predictor not in ((1, 2) if compression in {LZW, DEFLATE, OLD_DEFLATE} else (1,)):
        raise LeftToOpenSlide(f"predictor {predictor}")
    if directory.number(tag.PHOTOMETRIC) != tag.RGB:
        raise LeftToOpenSlide(f"photometric {directory.number(tag.PHOTOMETRIC)}")
    return Encoding(compression, tile_size, predictor=predictor)


def _jpeg_encoding(
    directory: Directory, tile_size: tuple[int, int], first_tile: bytes, jfif_decides: bool
) -> Encoding:
    photometric = directory.number(tag.PHOTOMETRIC)
    if photometric not in (tag.RGB, tag.YCBCR):
        raise LeftToOpenSlide(f"JPEG with photometric {photometric}")
    try:
        jfif = is_jfif(first_tile)
        tables = shared_tables(directory.data(tag.JPEG_TABLES))
    except JpegBroken as error:
        raise LeftToOpenSlide(str(error)) from None
    if photometric == tag.RGB and jfif and not jfif_decides:
        raise LeftToOpenSlide("its header says RGB, its JPEG tiles say YCbCr")
    reductions = tuple(r for r in REDUCTIONS if not (tile_size[0] % r or tile_size[1] % r))
    ycbcr = photometric == tag.YCBCR or jfif
    return Encoding(JPEG, tile_size, ycbcr, jpeg_tables=tables, reductions=reductions)


def _jp2k_encoding(directory: Directory, tile_size: tuple[int, int], first_tile: bytes) -> Encoding:
    try:
        subsampled = jp2k_is_subsampled(first_tile)
    except TileBroken as error:
        raise LeftToOpenSlide(str(error)) from None
    if subsampled:
        raise LeftToOpenSlide("JPEG 2000 with subsampled components")
    compression = directory.number(tag.COMPRESSION)
    return Encoding(compression, tile_size, ycbcr=compression == APERIO_JP2K_YCBCR)
