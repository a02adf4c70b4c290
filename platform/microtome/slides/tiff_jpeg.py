"""JPEG tiles of a TIFF: made whole, checked before they are decoded, shrunk while they are.

A tile is an abbreviated stream. Before a decoder can take it,

- the tables that all tiles of a level share (the JPEGTables tag) go in front;
- its own application segments fall out, and one Adobe segment goes in that says which colours it
  holds: Aperio writes RGB without a word, and a decoder would take that for YCbCr;
- its frame must have the tile's size: a lying frame could ask for gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import simplejpeg

from microtome.slides.slide import Pixels

REDUCTIONS = (1, 2, 4, 8)
"""The inverse DCT gives a block at 8, 4, 2 or 1 pixels a side for less and less work."""

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN = b"\xff\xda"
_COMMENT = 0xFE
_APPLICATION = range(0xE0, 0xF0)
_JFIF = 0xE0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# "Adobe", version 100, two flag words, then 0 for RGB or 1 for YCbCr (Adobe TN 5116).
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


class JpegBroken(ValueError):
    """The stream isn't the JPEG that the tile should be."""


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int


def shared_tables(tag: bytes) -> bytes:
    """The segments inside a JPEGTables tag, ready to stand in front of a tile's own.

    Raises:
        JpegBroken: the tag holds something else.
    """
    if not tag:
        return b""
    if not tag.endswith(_END):
        raise JpegBroken("the shared JPEG tables have no end")
    return b"".join(
        tag[segment.start : segment.end] for segment in _kept(_segments(tag, len(tag) - 2))
    )


def is_jfif(tile: bytes) -> bool:
    """Whether a tile carries the JFIF segment, which says that its colours are YCbCr."""
    return any(segment.marker == _JFIF for segment in _segments(tile, len(tile)))


def complete_jpeg(tile: bytes, tables: bytes, ycbcr: bool, size_px: tuple[int, int]) -> bytes:
    """One tile as a stream that any decoder takes, in the colours it really holds.

    Args:
        tile: as it lies in the file.
        tables: from `shared_tables`.
        ycbcr: whether its components are YCbCr; else they are RGB.
        size_px: height and width that its frame must have.

    Raises:
        JpegBroken: no frame of that size with three components, or no scan.
    """
    scan = _scan_start(tile)
    return b"".join((_head(tile[:scan], tables, ycbcr, size_px), memoryview(tile)[scan:]))


@lru_cache(maxsize=64)
def _head(own: bytes, tables: bytes, ycbcr: bool, size_px: tuple[int, int]) -> bytes:
    """What goes before the scan. A level's tiles mostly share theirs: it is made once."""
    segments = list(_segments(own, len(own)))
    frames = [own[s.start : s.end] for s in segments if s.marker in _FRAMES]
    if len(frames) != 1:
        raise JpegBroken("the tile has no JPEG frame, or several")
    _check_frame(frames[0], size_px)
    kept = b"".join(own[s.start : s.end] for s in _kept(segments))
    return _START + tables + kept + _ADOBE + (b"\x01" if ycbcr else b"\x00")


def decode_jpeg(stream: bytes, size_px: tuple[int, int], reduction: int) -> Pixels:
    """Decode a complete stream at 1 / `reduction` of its size.

    Raises:
        JpegBroken: the decoder met damage, even such as it could have papered over.
    """
    height, width = size_px[0] // reduction, size_px[1] // reduction
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(stream, "RGB", min_height=height, min_width=width)
    except ValueError as error:
        raise JpegBroken(str(error)) from None
    if pixels.shape != (height, width, 3):
        raise JpegBroken(f"the tile decodes to {pixels.shape}, not {(height, width, 3)}")
    return pixels


def _scan_start(tile: bytes) -> int:
    """Where the marker of the first scan lies."""
    at = 2
    while tile[at : at + 2] != _SCAN:
        length = int.from_bytes(tile[at + 2 : at + 4])
        if length < 2:  # also past the end
            raise JpegBroken("the tile has no JPEG scan")
        at += 2 + length
    return at


def _segments(data: bytes, end: int) -> Iterator[_Segment]:
    """Marker segments after the start of image, up to the first scan or `end`."""
    if data[:2] != _START:
        raise JpegBroken("the tile doesn't begin as JPEG does")
    at = 2
    while at + 4 <= end and data[at : at + 2] != _SCAN:
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at] != 0xFF or after > end:
            raise JpegBroken("a JPEG segment is damaged")
        yield _Segment(data[at + 1], at, after)
        at = after


def _kept(segments: Iterable[_Segment]) -> Iterator[_Segment]:
    return (s for s in segments if s.marker not in _APPLICATION and s.marker != _COMMENT)


def _check_frame(frame: bytes, size_px: tuple[int, int]) -> None:
    """Marker, length, precision, then height, width and components."""
    size = int.from_bytes(frame[5:7]), int.from_bytes(frame[7:9])
    if size != size_px or frame[9:10] != b"\x03":
        raise JpegBroken(f"a tile of {size_px} pixels holds a JPEG of {size}")
