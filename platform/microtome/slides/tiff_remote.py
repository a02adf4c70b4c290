"""A `ByteSource` over an object in S3: merged requests, overlapped, and brought ahead of need.

    ranges → those not here yet → merged → fetched at once → kept until others need the room

Memory: `kept_bytes` of compressed tiles, and the bodies under way (`s3_object.CONCURRENCY` times
`tiff_ranges.REQUEST_BYTES`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

from microtome.slides.tiff_ranges import Run, merged
from microtome.slides.tiff_source import ByteRange, check_inside

KEPT_BYTES = 64 * 2**20
"""3,000 tiles of 256 px: those on their way, and those that the next row of regions shares with
this one, so that no tile moves twice."""


class RangedObject(Protocol):
    """One version of an object, by ranges; see `s3_object.S3Object`."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where `get` runs; it turns in a thread of its own."""
        ...

    @property
    def bytes_moved(self) -> int:
        """Bytes of bodies that came in."""
        ...

    async def get(self, wanted: ByteRange) -> bytes:
        """The bytes of one range."""
        ...


class RemoteObject:
    """Compressed tiles of one object.

    Args:
        name: the slide as its user named it.
        size: bytes of the whole object.
        ranges: where they come from.
        kept_bytes: compressed tiles kept in memory; half of it may be ahead of its reading.
    """

    def __init__(
        self, name: str, size: int, ranges: RangedObject, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self.name = name
        self.size = size
        self.ahead_bytes = kept_bytes // 2
        self._object = ranges
        self._kept_bytes = kept_bytes
        self._chunks: OrderedDict[ByteRange, Future[bytes]] = OrderedDict()
        self._bytes = 0
        self._under_way: set[Future[list[bytes]]] = set()
        self._lock = threading.RLock()
        self._closed = False

    @property
    def bytes_read(self) -> int:
        """Bytes moved so far."""
        return self._object.bytes_moved

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """See `ByteSource.read`; where a range fails, all others have ended, too."""
        chunks = self._begun(ranges)
        for chunk in chunks:
            chunk.exception()  # waits, so that a read after this one shares none of its requests
        return [chunk.result() for chunk in chunks]

    def bring(self, ranges: Sequence[ByteRange]) -> None:
        """See `FetchingSource.bring`."""
        self._begun(ranges)

    def close(self) -> None:
        """Give up what is under way; reading afterwards is an error."""
        with self._lock:
            self._closed = True
            under_way = list(self._under_way)
            self._chunks.clear()
        for fetching in under_way:
            fetching.cancel()

    def _begun(self, ranges: Sequence[ByteRange]) -> list[Future[bytes]]:
        """Every range, here or on its way."""
        for wanted in ranges:
            check_inside(self, wanted)
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.name} is closed")
            missing = {wanted for wanted in ranges if wanted not in self._chunks}
            for wanted in missing:
                self._chunks[wanted] = Future()
                self._bytes += wanted.size
            chunks = [self._chunks[wanted] for wanted in ranges]
            for run in merged(missing):
                self._start(run, [self._chunks[wanted] for wanted in run.ranges])
            for wanted in ranges:
                self._chunks.move_to_end(wanted)
            while self._bytes > self._kept_bytes:
                self._bytes -= self._chunks.popitem(last=False)[0].size
        return chunks

    def _start(self, run: Run, chunks: list[Future[bytes]]) -> None:
        fetching = asyncio.run_coroutine_threadsafe(self._fetch(run), self._object.loop)
        self._under_way.add(fetching)
        fetching.add_done_callback(lambda done: self._ended(done, run, chunks))

    async def _fetch(self, run: Run) -> list[bytes]:
        body = await self._object.get(run.span)
        starts = (wanted.offset - run.span.offset for wanted in run.ranges)
        return [body[at : at + one.size] for at, one in zip(starts, run.ranges, strict=True)]

    def _ended(self, fetching: Future[list[bytes]], run: Run, chunks: list[Future[bytes]]) -> None:
        """Hand out what came, or why it didn't; who asks for that again has it tried again."""
        failed = fetching.cancelled() or fetching.exception() is not None
        with self._lock:
            self._under_way.discard(fetching)
            if failed:
                self._forget(run.ranges, chunks)
        if fetching.cancelled():
            for chunk in chunks:
                chunk.cancel()
        elif error := fetching.exception():
            for chunk in chunks:
                chunk.set_exception(error)
        else:
            for chunk, content in zip(chunks, fetching.result(), strict=True):
                chunk.set_result(content)

    def _forget(self, ranges: Iterable[ByteRange], chunks: Iterable[Future[bytes]]) -> None:
        for wanted, chunk in zip(ranges, chunks, strict=True):
            if self._chunks.get(wanted) is chunk:
                del self._chunks[wanted]
                self._bytes -= wanted.size
