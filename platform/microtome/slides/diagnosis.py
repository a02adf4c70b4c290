"""Why a slide can't be read: the file itself is asked, since readers say little more than no."""

from __future__ import annotations

import logging
import struct
from collections.abc import Container
from operator import add
from typing import Any

import tifffile

from microtome.errors import (
    NotBrightfield,
    SlideError,
    SlideImplausible,
    SlideTruncated,
    SlideUnreadable,
    SlideUnsupported,
)
from microtome.slides.facts import check_levels
from microtome.slides.slide import Level, SlideRef

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURES = {b"\xff\xd8\xff": "a JPEG picture", b"\x89PNG": "a PNG picture", b"BM": "a BMP picture"}
_COPY_AGAIN = "Copy it again from where it was scanned."
_CONVERT = (
    "Convert it, for instance with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg`."
)
_PIXEL_TAGS = (273, 279, 324, 325, 347)
"""Offsets and byte counts of strips and tiles, JPEG tables. Other tags point nowhere now and
then in slides that read well: they count only where a slide was refused."""
_TIFFFILE_ERRORS = (tifffile.TiffFileError, struct.error, ValueError, LookupError, OSError)

# What is wrong with a file is our own message; tifffile's remarks are for whoever listens.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def refusal(path: str, name: str, reader_said: str) -> SlideError:
    """The error for a file that no reader takes.

    Args:
        path: of the file, on this machine.
        name: the slide as its user knows it.
        reader_said: the last reader's words.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith(_TIFF_STARTS):
        return _tiff_refusal(path, name, reader_said)
    for mark, kind in _PICTURES.items():
        if start.startswith(mark) and not path.lower().endswith((".mrxs", ".dcm")):
            return SlideUnsupported(f"{name} is {kind}, not a slide", remedy=_CONVERT)
    kind = "is text, not a slide" if _is_text(start) else f"can't be read as a slide: {reader_said}"
    return SlideUnreadable(f"{name} {kind}", remedy=_COPY_AGAIN)


def check_complete(path: str, name: str) -> None:
    """Raise `SlideTruncated` if a TIFF-like file names bytes beyond its end.

    OpenSlide opens such a slide and fails, or shows white, only where pixels are missing.
    """
    with open(path, "rb") as file:
        if not file.read(4).startswith(_TIFF_STARTS):
            return
    try:
        with tifffile.TiffFile(path) as tiff:
            _refuse_truncated(tiff, name, _PIXEL_TAGS)
    except _TIFFFILE_ERRORS:
        return  # opening it will say what is wrong


def _refuse_truncated(tiff: tifffile.TiffFile, name: str, tags: Container[int]) -> None:
    """Raise if pixels, values of `tags` or a directory lie beyond the end of the file."""
    ends = [_next_directory_end(tiff)]
    for page in tiff.pages:
        ends += map(add, page.dataoffsets, page.databytecounts)
        ends += [tag.valueoffset + tag.valuebytecount for tag in page.tags if tag.code in tags]
    size, needed = tiff.filehandle.size, max(ends)
    if needed > size:
        raise SlideTruncated(
            f"{name} ends after {size:,} of at least {needed:,} bytes", remedy=_COPY_AGAIN
        )


def _next_directory_end(tiff: tifffile.TiffFile) -> int:
    """Where a further directory at least ends that lies beyond the file, or the last one if cut."""
    layout, file = tiff.tiff, tiff.filehandle
    pointer = layout.offsetsize  # of the header, to the first directory
    if len(tiff.pages):
        file.seek(tiff.pages[-1].offset)
        (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        pointer = file.tell() + tags * layout.tagsize
    if pointer + layout.offsetsize > file.size:
        return int(pointer + layout.offsetsize)
    file.seek(pointer)
    (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    return int(following and following + layout.tagnosize)


def _tiff_refusal(path: str, name: str, reader_said: str) -> SlideError:
    try:
        with tifffile.TiffFile(path) as tiff:
            _refuse_truncated(tiff, name, tags=range(1 << 16))
            _refuse_implausible(tiff, name)
            if tiff.is_qpi and (channels := _channels(tiff)):
                return NotBrightfield(
                    f"{name} is PerkinElmer QPTIFF with {channels} fluorescence channels",
                    remedy="Only brightfield slides of stained tissue can be indexed.",
                )
            if tiff.is_ome:
                return SlideUnsupported(
                    f"{name} is an OME-TIFF that OpenSlide doesn't take", remedy=_CONVERT
                )
            if not tiff.pages.first.is_tiled:
                return SlideUnsupported(f"{name} is a TIFF without tiles", remedy=_CONVERT)
            kind = tiff.pages.first.compression.name
            return SlideUnsupported(
                f"{name} is a TIFF of a layout that isn't read ({kind}): {reader_said}",
                remedy=_CONVERT,
            )
    except (SlideTruncated, SlideImplausible) as error:
        return error
    except (*_TIFFFILE_ERRORS, AttributeError) as error:
        return SlideUnreadable(
            f"{name} is a TIFF whose structure is broken: {error}", remedy=_COPY_AGAIN
        )


def _refuse_implausible(tiff: tifffile.TiffFile, name: str) -> None:
    """Raise if the finest level has dimensions that no scanner makes."""
    first: Any = tiff.pages.first
    check_levels(SlideRef(name, name), [Level(first.imagewidth, first.imagelength, 1.0)])


def _channels(tiff: tifffile.TiffFile) -> int:
    """Single-channel pages of full size: fluorescence channels; 0 for a brightfield slide."""
    first: Any = tiff.pages.first
    pages = [page for page in tiff.pages if page.shape[:2] == first.shape[:2]]
    return sum(page.samplesperpixel == 1 for page in pages)


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # more than a character cut in two
            return False
        text = start[: error.start].decode("utf-8")
    return all(one.isprintable() or one.isspace() for one in text)
