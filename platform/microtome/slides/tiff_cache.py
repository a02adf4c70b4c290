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
        self._coming: dict[TileKey, Future[Pixels]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def tiles(self, keys: Sequence[TileKey], decode: Decode) -> list[Pixels]:
        """The tiles of `keys`, from memory or else through `decode`; not to be written to.

        Raises:
            Exception: whatever `decode` raised for a tile, here or in the thread that had it.
        """
        found: dict[TileKey, Pixels] = {}
        others: dict[TileKey, Future[Pixels]] = {}
        own: dict[TileKey, Future[Pixels]] = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key]
                elif key in self._coming:
                    others[key] = self._coming[key]
                else:
                    own[key] = self._coming[key] = Future()
        if own:
            found |= self._decoded(own, decode)
        found |= {key: tile.result() for key, tile in others.items()}
        return [found[key] for key in keys]

    def _decoded(self, own: dict[TileKey, Future[Pixels]], decode: Decode) -> dict[TileKey, Pixels]:
        """Decode what this thread took on, and tell those who wait, also of failure."""
        found: dict[TileKey, Pixels] = {}
        try:
            for key, pixels in zip(own, decode(list(own)), strict=True):
                found[key] = pixels
                self._keep(key, pixels)
                own[key].set_result(pixels)
        except BaseException as error:
            with self._lock:
                for key in own.keys() - found.keys():
                    self._coming.pop(key, None)
                    own[key].set_exception(error)
            raise
        return found

    def _keep(self, key: TileKey, pixels: Pixels) -> None:
        pixels.setflags(write=False)
        with self._lock:
            del self._coming[key]
            self._kept[key] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
