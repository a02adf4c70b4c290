"""Slides that were looked at last, kept open: a viewer asks for tile after tile of one slide."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple

from microtome.config import MppSettings
from microtome.errors import SlideChanged, SlideUnreadable
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.storage import is_remote, local_path

MOST_OPEN: Final = 8
"""A reader keeps up to 64 MB of decoded tiles."""

REMOTE_S: Final = 300.0
"""A slide in a store is opened anew after so long; its every read says which version it wants."""


class SlideFile(NamedTuple):
    """A slide as the atlas knows it.

    Attributes:
        slide_id: its name.
        uri: where it was read from.
        mpp: µm per level-0 pixel, as indexed.
        content_id: of the bytes that were indexed.
        width_px: at level 0.
        height_px: at level 0.
    """

    slide_id: str
    uri: str
    mpp: float | None
    content_id: str
    width_px: int
    height_px: int


@dataclass(slots=True)
class _Held:
    """One open slide.

    Attributes:
        stamp: of the file when it was opened.
        users: who read from it now.
        dropped: whether the last of them closes it.
    """

    stamp: object
    users: int = 0
    dropped: bool = False
    reader: SlideReader | None = None
    opening: Lock = field(default_factory=Lock)


class OpenSlides:
    """Lends open slides to threads; a file that isn't the indexed one is refused."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._held: OrderedDict[SlideFile, _Held] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def reading(self, file: SlideFile) -> Iterator[SlideReader]:
        """Lend the slide's reader; it stays open at least as long.

        Raises:
            SlideChanged: other bytes lie there than were indexed.
            SlideError: it can't be opened, see `open_slide`.
        """
        held = self._take(file)
        try:
            with held.opening:
                held.reader = held.reader or _open(file)
            yield held.reader
        finally:
            self._give_back(held)

    def close(self) -> None:
        """Close every slide that nobody reads from, the others when they are given back."""
        with self._lock:
            while self._held:
                _drop(self._held.popitem()[1])

    def _take(self, file: SlideFile) -> _Held:
        stamp = _stamp(file)
        with self._lock:
            held = self._held.get(file)
            if held is not None and held.stamp != stamp:
                _drop(self._held.pop(file))
                held = None
            held = held or self._held.setdefault(file, _Held(stamp))
            self._held.move_to_end(file)
            held.users += 1
            while len(self._held) > self._most:
                _drop(self._held.popitem(last=False)[1])
            return held

    def _give_back(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            if held.dropped and not held.users:
                _close(held)


def _drop(held: _Held) -> None:
    held.dropped = True
    if not held.users:
        _close(held)


def _close(held: _Held) -> None:
    if held.reader is not None:
        held.reader.close()


def _open(file: SlideFile) -> SlideReader:
    reader = open_slide(SlideRef(file.slide_id, file.uri, mpp=file.mpp), MppSettings())
    if reader.slide.content_id != file.content_id:
        reader.close()
        raise SlideChanged(f"the file of {file.slide_id} has changed since it was indexed")
    return reader


def _stamp(file: SlideFile) -> object:
    """What changes when the file does, as far as can be told at once."""
    if is_remote(file.uri):
        return time.monotonic() // REMOTE_S
    try:
        status = os.stat(local_path(file.uri))
    except OSError:
        raise SlideUnreadable(f"the file of {file.slide_id} can't be read") from None
    return status.st_ino, status.st_size, status.st_mtime_ns
