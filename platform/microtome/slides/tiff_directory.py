"""The directories of a TIFF or BigTIFF, read from any file, however broken, in bounded time.

A library would do for good files. Here each value is looked at before it is read: a directory that
was seen, a count of billions or an offset past the end is a typed error, arrays of a million tile
offsets become NumPy arrays at once, and nothing that isn't asked for moves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.errors import SlideUnreadable
from microtome.slides.tiff_source import ByteRange, ByteSource

MAX_DIRECTORIES = 256
"""A slide has about ten; a stack of thousands of planes is no slide."""

MAX_ENTRIES = 1024
MAX_VALUE_BYTES = 1 << 26
"""64 MiB: the offsets of eight million tiles, or an XML header with pictures in it."""

# TIFF 6.0 and BigTIFF; a rational is two numbers.
_TYPES: Mapping[int, tuple[str, int]] = {
    1: ("u1", 1), 2: ("u1", 1), 3: ("u2", 1), 4: ("u4", 1), 5: ("u4", 2), 6: ("i1", 1),
    7: ("u1", 1), 8: ("i2", 1), 9: ("i4", 1), 10: ("i4", 2), 11: ("f4", 1), 12: ("f8", 1),
    13: ("u4", 1), 16: ("u8", 1), 17: ("i8", 1), 18: ("u8", 1),
}  # fmt: skip


class NotTiff(Exception):
    """The file doesn't begin as a TIFF does."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How this file writes its numbers: byte order, and field widths of TIFF or BigTIFF."""

    order: str
    big: bool

    def count_of(self, entry_count: bytes) -> int:
        return int(struct.unpack(self.order + ("Q" if self.big else "H"), entry_count)[0])

    def offset_of(self, field: bytes) -> int:
        return int(struct.unpack(self.order + ("Q" if self.big else "I"), field)[0])

    @property
    def count_size(self) -> int:
        return 8 if self.big else 2

    @property
    def field_size(self) -> int:
        return 8 if self.big else 4

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count, and the value or its offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    count: int
    field: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """One image file directory: values are fetched when they are asked for."""

    source: ByteSource
    dialect: _Dialect
    entries: Mapping[int, _Entry]

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def numbers(self, tag: int) -> NDArray[np.generic]:
        """All numbers of a tag, rationals as float64 quotients; empty where the tag is missing.

        Raises:
            SlideUnreadable: a type TIFF doesn't know, or too many values to be true.
            SlideTruncated: the values lie past the end of the file.
        """
        entry = self.entries.get(tag)
        if entry is None:
            return np.empty(0, np.int64)
        letters, parts = _TYPES.get(entry.kind, ("", 0))
        if not letters:
            raise self._broken(f"tag {tag} has the unknown type {entry.kind}")
        dtype = np.dtype(self.dialect.order + letters)
        size = entry.count * parts * dtype.itemsize
        if size > MAX_VALUE_BYTES:
            raise self._broken(f"tag {tag} claims {entry.count} values")
        values = np.frombuffer(self._value(entry, size), dtype)
        if parts == 1:
            return values.astype(dtype.newbyteorder("="))
        with np.errstate(divide="ignore", invalid="ignore"):
            return values[0::2] / values[1::2].astype(np.float64)

    def number(self, tag: int, default: int = 0) -> int:
        """The first number of a tag, whole.

        Raises:
            SlideUnreadable: the tag holds fractions.
        """
        values = self._whole(tag)
        return int(values[0]) if len(values) else default

    def ratio(self, tag: int) -> float:
        """The first number of a tag as a float; NaN where it is missing."""
        entry = self.entries.get(tag)
        return float(self.numbers(tag)[0]) if entry is not None and entry.count else float("nan")

    def data(self, tag: int) -> bytes:
        """The bytes of a tag; none where it is missing."""
        return self.numbers(tag).tobytes()

    def text(self, tag: int) -> str:
        """The text of a tag up to its first NUL; broken characters are replaced."""
        return self.data(tag).split(b"\0", 1)[0].decode("utf-8", "replace")

    def children(self, tag: int) -> list[Directory]:
        """The directories a tag points at, such as SubIFDs.

        Raises:
            SlideUnreadable: there are too many, one is broken, or its offset is a fraction.
        """
        offsets = self._whole(tag)
        if len(offsets) > MAX_DIRECTORIES:
            raise self._broken(f"tag {tag} claims {len(offsets)} directories")
        return [_directory(self.source, self.dialect, int(offset))[0] for offset in offsets]

    def _whole(self, tag: int) -> NDArray[np.generic]:
        """All numbers of a tag that must be whole: a float or a rational may be NaN or infinite."""
        values = self.numbers(tag)
        if not np.issubdtype(values.dtype, np.integer):
            raise self._broken(f"tag {tag} holds fractions instead of whole numbers")
        return values

    def _value(self, entry: _Entry, size: int) -> bytes:
        if size <= self.dialect.field_size:
            return entry.field[:size]
        offset = self.dialect.offset_of(entry.field)
        return self.source.read([ByteRange(offset, size)])[0]

    def _broken(self, what: str) -> SlideUnreadable:
        return SlideUnreadable(f"{self.source.name} is damaged: {what}")


def read_directories(source: ByteSource) -> list[Directory]:
    """Every directory of the main chain, in the file's order.

    Raises:
        NotTiff: the file doesn't begin as a TIFF does.
        SlideUnreadable: the chain is a loop or a directory is broken.
        SlideTruncated: a directory lies past the end of the file.
    """
    if source.size < 16:
        raise NotTiff
    head = source.read([ByteRange(0, 16)])[0]
    dialect, first = _dialect(head)
    return list(_chain(source, dialect, first))


def _dialect(head: bytes) -> tuple[_Dialect, int]:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise NotTiff
    version, width, zero = struct.unpack(order + "HHH", head[2:8])
    if version == 42:
        dialect = _Dialect(order, big=False)
        return dialect, dialect.offset_of(head[4:8])
    if (version, width, zero) == (43, 8, 0):
        dialect = _Dialect(order, big=True)
        return dialect, dialect.offset_of(head[8:16])
    raise NotTiff


def _chain(source: ByteSource, dialect: _Dialect, offset: int) -> Iterator[Directory]:
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) == MAX_DIRECTORIES:
            raise SlideUnreadable(f"{source.name} is damaged: its directories never end")
        seen.add(offset)
        directory, offset = _directory(source, dialect, offset)
        yield directory


def _directory(source: ByteSource, dialect: _Dialect, offset: int) -> tuple[Directory, int]:
    """The directory at `offset`, and the offset of the next one or 0."""
    count = dialect.count_of(source.read([ByteRange(offset, dialect.count_size)])[0])
    if not 0 < count <= MAX_ENTRIES:
        raise SlideUnreadable(f"{source.name} is damaged: a directory of {count} entries")
    table_size = count * dialect.entry.size
    start = offset + dialect.count_size
    table = source.read([ByteRange(start, table_size + dialect.field_size)])[0]
    entries = {
        tag: _Entry(kind, number, field)
        for tag, kind, number, field in dialect.entry.iter_unpack(table[:table_size])
    }
    return Directory(source, dialect, entries), dialect.offset_of(table[table_size:])
