"""Bytes of a TIFF by range: the one thing the direct reader asks of wherever a slide lies."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self, runtime_checkable

from microtome.errors import SlideTruncated, SlideUnreadable


class ByteRange(NamedTuple):
    """`size` bytes from `offset` on."""

    offset: int
    size: int


class ByteSource(Protocol):
    """Random access to one file or object. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The file as its user named it, for messages."""
        ...

    @property
    def size(self) -> int:
        """Bytes in the whole file."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes taken from it so far."""
        ...

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of every range, in the order asked for.

        They are asked for together so that a store far away can merge and overlap its requests.

        Raises:
            SlideTruncated: a range goes past the end.
            SlideUnreadable: the file or store refuses.
            SlideChanged: another version lies there now.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...


@runtime_checkable
class FetchingSource(ByteSource, Protocol):
    """A source so far away that bytes had better be on their way before they are asked for."""

    @property
    def ahead_bytes(self) -> int:
        """How much may be brought before it is read."""
        ...

    def bring(self, ranges: Sequence[ByteRange]) -> None:
        """Begin to fetch ranges that will be read soon; what fails shows when they are read."""
        ...


class LocalFile:
    """A `ByteSource` on this machine's disk; `pread` needs neither a lock nor a file position.

    Args:
        path: where it lies.
        name: how its user named it.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
        self.size = os.fstat(self._file.fileno()).st_size
        self._bytes_read = 0
        self._counting = threading.Lock()

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far."""
        return self._bytes_read

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """One `pread` each; see `ByteSource.read`."""
        chunks = [self._read_one(wanted) for wanted in ranges]
        with self._counting:
            self._bytes_read += sum(map(len, chunks))
        return chunks

    def _read_one(self, wanted: ByteRange) -> bytes:
        check_inside(self, wanted)
        try:
            chunk = os.pread(self._file.fileno(), wanted.size, wanted.offset)
        except OSError as error:
            raise SlideUnreadable(f"{self.name} can't be read: {error.strerror}") from None
        if len(chunk) < wanted.size:  # one call takes 2 GiB at most, and a file can shrink
            raise SlideTruncated(f"{self.name} gave {len(chunk)} of {wanted.size} bytes")
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_inside(source: ByteSource, wanted: ByteRange) -> None:
    """Raise `SlideTruncated` if a range goes past the end of the file."""
    if wanted.offset < 0 or wanted.size < 0 or wanted.offset + wanted.size > source.size:
        raise SlideTruncated(
            f"{source.name} has {source.size} bytes, but its structure points at bytes "
            f"{wanted.offset} to {wanted.offset + wanted.size}",
            remedy="Copy it again from where it came from.",
        )
