"""Decoded tiles of one slide, shared by neighbouring regions and by threads.

A tile that several threads want at once is decoded by the first; the others wait for it. Each
thread finishes all it has taken on before it waits, so none can wait in a circle.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from microtome.slides.slide import Pixels


class TileKey(NamedTuple):
    """One decoded tile: its level, its number there, and by how much its decoder shrank it."""

    level: int
    tile: int
    reduction: int


Tiles = dict[TileKey, Pixels]

Decode = Callable[[Sequence[TileKey]], Iterable[Pixels]]
"""Tiles by key, in that order; may raise at any of them."""


class TileCache:
    """The most recently used decoded tiles, never more than `max_bytes` of them.

    Args:
        max_bytes: of pixels kept; tiles being decoded or copied come on top.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[TileKey, Pixels] = OrderedDict()
        self._coming: dict[TileKey, Future[Tiles]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def tiles(self, keys: Sequence[TileKey], decode: Decode) -> Tiles:
        """The tiles of `keys`, no others, from memory or else by `decode`; not to be written to.

        Raises:
            Exception: whatever `decode` raised, here or in the thread that decoded for this one.
        """
        found: Tiles = {}
        others: dict[TileKey, Future[Tiles]] = {}
        own: list[TileKey] = []
        ours: Future[Tiles] = Future()
        with self._lock:
            for key in keys:
                if (pixels := self._kept.get(key)) is not None:
                    self._kept.move_to_end(key)
                    found[key] = pixels
                elif (coming := self._coming.get(key)) is not None:
                    others[key] = coming
                else:
                    own.append(key)
                    self._coming[key] = ours
        if own:
            found |= self._decoded(own, ours, decode)
        return found | {key: coming.result()[key] for key, coming in others.items()}

    def _decoded(self, own: list[TileKey], ours: Future[Tiles], decode: Decode) -> Tiles:
        """Decode what this thread took on, and tell those who wait, also of failure."""
        try:
            tiles = dict(zip(own, decode(own), strict=True))
        except BaseException as error:
            with self._lock:
                for key in own:
                    del self._coming[key]
            ours.set_exception(error)
            raise
        with self._lock:
            for key, pixels in tiles.items():
                del self._coming[key]
                self._keep(key, pixels)
        ours.set_result(tiles)
        return tiles

    def _keep(self, key: TileKey, pixels: Pixels) -> None:
        pixels.setflags(write=False)
        self._kept[key] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self.max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
