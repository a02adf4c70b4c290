"""A file's header read in pages: its many small values lie close, and each request costs a wait."""

from __future__ import annotations

from collections.abc import Sequence

from microtome.slides.tiff_source import ByteRange, ByteSource, check_inside

PAGE_BYTES = 32 * 1024
"""A directory and its short values; the tile lists of a large level take some pages more."""


class HeaderPages:
    """A `ByteSource` that reads another in whole pages and keeps them all.

    For as long as a header is parsed: what that asks for is bounded, a file isn't.

    Args:
        source: the file.
        page_bytes: what is read at least.
    """

    def __init__(self, source: ByteSource, page_bytes: int = PAGE_BYTES) -> None:
        self.name = source.name
        self.size = source.size
        self._source = source
        self._page_bytes = page_bytes
        self._pages: dict[int, bytes] = {}

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far."""
        return self._source.bytes_read

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `ByteSource.read`; a range's missing pages come in one read, with any between."""
        return [self._read_one(wanted) for wanted in ranges]

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _read_one(self, wanted: ByteRange) -> bytes:
        check_inside(self, wanted)
        first = wanted.offset // self._page_bytes
        numbers = range(first, -(-(wanted.offset + wanted.size) // self._page_bytes))
        self._bring([number for number in numbers if number not in self._pages])
        start = wanted.offset - first * self._page_bytes
        return b"".join(self._pages[n] for n in numbers)[start : start + wanted.size]

    def _bring(self, missing: list[int]) -> None:
        if not missing:
            return
        start = missing[0] * self._page_bytes
        end = min((missing[-1] + 1) * self._page_bytes, self.size)
        (block,) = self._source.read([ByteRange(start, end - start)])
        for number in range(missing[0], missing[-1] + 1):
            at = number * self._page_bytes - start
            self._pages[number] = block[at : at + self._page_bytes]
