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

MOST: Final = 64  # calibrations waiting to be made
ASK_AGAIN_S: Final = 30.0  # after which it is tried again where none could be made

OF_A_PART: Final = "that is told by all tiles of the atlas, and some were left out"
NOT_YET: Final = "what is usual in the atlas isn't known yet; ask again in a moment"
FAILED: Final = "it can't be found out what is usual in the atlas"


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found out, and what it is of.

    Attributes:
        found: the calibration, maybe of a version before, or why there is none.
        version: of the atlas for which one was to be made.
        made: whether one was; else it is tried again after a while.
        at_s: when, by `time.monotonic`.
    """

    found: Calibration | str
    version: tuple[Any, ...]
    made: bool
    at_s: float

    def holds(self, version: tuple[Any, ...]) -> bool:
        recent = time.monotonic() < self.at_s + ASK_AGAIN_S
        return self.version == version and (self.made or recent)


class LaterCalibrations:
    """As `Calibrations`, but whoever asks for one never waits; for many threads."""

    def __init__(self, atlas: Atlas) -> None:
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
                self._thread.submit(self._make, finder, by, tiles, version)
        return known.found if known else NOT_YET

    def _make(self, finder: Finder, by: str, tiles: int, version: tuple[Any, ...]) -> None:
        name, found = (finder.model_id, by, tiles), self._tried(finder, by, tiles)
        made = isinstance(found, Calibration)
        with self._lock:
            before = self._known.get(name)
            if found is None:
                kept = before is not None and isinstance(before.found, Calibration)
                found = before.found if before and kept else FAILED
            self._known[name] = _Known(found, version, made, time.monotonic())
            self._making.discard(name)

    def _tried(self, finder: Finder, by: str, tiles: int) -> Calibration | str | None:
        """See `Calibrations.find`; None where that fails."""
        try:
            return self._calibrations.find(finder, by, None, tiles)
        except MicrotomeError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("what scores are usual can't be found out")
        return None

    def _version(self, finder: Finder) -> tuple[Any, ...]:
        return finder.version()
