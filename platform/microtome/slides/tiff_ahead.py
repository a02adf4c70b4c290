"""Bring what regions will need while those before them are decoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from microtome.slides.tiff_source import ByteRange, FetchingSource


class FetchAhead:
    """Keeps a source busy with the regions to come, in their order, no further than it has room.

    Much is asked for at a time, since neighbours then merge into few requests: whenever half the
    room is free, it is filled.

    Args:
        source: what they are read from.
        regions: the ranges that each region to come needs.
    """

    def __init__(self, source: FetchingSource, regions: Iterable[list[ByteRange]]) -> None:
        self._source = source
        self._regions = iter(regions)
        self._sizes: deque[int] = deque()
        self._lock = threading.Lock()
        self._bytes = 0
        self._fill()

    def advance(self) -> None:
        """One more region was read."""
        with self._lock:
            if self._sizes:
                self._bytes -= self._sizes.popleft()
                if self._bytes <= self._source.ahead_bytes // 2:
                    self._fill()

    def _fill(self) -> None:
        wanted: dict[ByteRange, None] = {}
        while self._bytes < self._source.ahead_bytes:
            region = next(self._regions, None)
            if region is None:
                break
            new = [one for one in region if one not in wanted]
            wanted |= dict.fromkeys(new)
            self._sizes.append(sum(one.size for one in new))
            self._bytes += self._sizes[-1]
        if wanted:
            self._source.bring(list(wanted))
