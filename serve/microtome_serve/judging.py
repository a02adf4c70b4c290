"""What scores are usual in an atlas, for searches that wait for nothing.

To read or to draw a calibration takes up to seconds, so a thread of its own does it, one at a time,
and meanwhile a search says that nothing is judged yet. Once there is one it serves until that of a
newer version is made: a commit changes little of what is usual.

A calibration tells of all tiles of the atlas. So there is none for a search among some of them,
whether a client's filter or the rows of a token leave out the others.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from microtome.atlas.atlas import Atlas
from microtome.errors import MicrotomeError
from microtome.search.calibration import Calibration, Calibrations
from microtome.search.finder import Finder

log = logging.getLogger("microtome.serve")

MOST: Final = 64  # of models, and of the columns by which groups are left out
ASK_AGAIN_S: Final = 30.0  # after which it is tried again where there was none

OF_A_PART: Final = "that is told by all tiles of the atlas, and some were left out"
NOT_YET: Final = "what is usual in the atlas isn't known yet; ask again in a moment"


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found out, of which version and when by `time.monotonic`."""

    found: Calibration | str
    version: tuple[Any, ...]
    at_s: float

    def holds(self, version: tuple[Any, ...]) -> bool:
        none_then = isinstance(self.found, str) and time.monotonic() > self.at_s + ASK_AGAIN_S
        return self.version == version and not none_then


class LaterCalibrations:
    """As `Calibrations`, but whoever asks for one never waits; for many threads."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._calibrations = Calibrations(atlas)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calibrate")
        self._known: dict[tuple[Any, ...], _Known] = {}
        self._making: set[tuple[Any, ...]] = set()
        self._lock = Lock()

    def find(self, finder: Finder, by: str, where: str | None, tiles: int) -> Calibration | str:
        """What is known now, or why there is nothing: see `Calibrations.find`."""
        if where is not None:
            return OF_A_PART
        name, version = (finder.model_id, by, tiles), self._version(finder)
        with self._lock:
            known = self._known.get(name)
            stale = known is None or not known.holds(version)
            if stale and name not in self._making and len(self._making) < MOST:
                self._making.add(name)
                self._thread.submit(self._make, finder, by, tiles)
        return known.found if known else NOT_YET

    def _make(self, finder: Finder, by: str, tiles: int) -> None:
        name, version = (finder.model_id, by, tiles), self._version(finder)
        found: Calibration | str = "it can't be found out what is usual in the atlas"
        try:
            found = self._calibrations.find(finder, by, None, tiles)
        except MicrotomeError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("what scores are usual can't be found out")
        with self._lock:
            self._known[name] = _Known(found, version, time.monotonic())
            self._making.discard(name)

    def _version(self, finder: Finder) -> tuple[Any, ...]:
        return finder.view().tiles.version, self._atlas.slides.version
