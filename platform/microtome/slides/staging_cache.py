"""A folder of entries, bounded in bytes, shared by processes, evicted least recently used.

Beside the entries (see `staging_entry`) lies `room`, locked by who makes room, so that no two count
on the same bytes. Bytes are reserved before they are fetched. What nobody holds and isn't whole was
left by a killed process: garbage, swept by the next fetch.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import EBUSY, EDQUOT, ENOSPC
from pathlib import Path

from microtome.slides.staging_entry import KEY, Entry, Fetch, locked

DEFAULT_MAX_BYTES = 50_000_000_000
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Held:
    """A whole entry that is not evicted before `lock` is closed."""

    path: Path
    lock: io.FileIO


@dataclass(frozen=True, slots=True)
class StagingCache:
    """See the module.

    Attributes:
        folder: made with mode 0700 where it isn't there.
        max_bytes: of all entries; None takes 50 GB, or half of what the disk can give if less.
        wait_s: how long `held` waits for entries that are in use and take all the room.
    """

    folder: Path
    max_bytes: int | None
    wait_s: float

    def held(self, key: str, size: int, fetch: Fetch) -> Held:
        """The entry of that key; fetched where it isn't there, by one process for all.

        Args:
            key: matches `KEY`.
            size: bytes of all its files.
            fetch: what brings them; called once more if the disk was full and has room now.

        Raises:
            OSError: there is no room, and its text says why; or the disk refuses.
            Exception: what `fetch` raises. Nothing of the entry is left then.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry = Entry(self.folder, key)
        while True:
            hold = locked(entry.lock, fcntl.LOCK_SH)  # waits for who fetches it
            if entry.holds(size):
                os.utime(hold.fileno())
                return Held(entry.whole, hold)
            hold.close()
            try:  # never waits: once another has fetched it, it can be in use for hours
                own = locked(entry.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(POLL_S)
                continue
            with own:
                if not entry.holds(size):
                    self._fill(entry, size, fetch, own)

    def _fill(self, entry: Entry, size: int, fetch: Fetch, own: io.FileIO) -> None:
        own.truncate(0)
        try:
            entry.clear()
            self._reserve(entry, size, own)
            try:
                entry.fetch(fetch)
            except OSError as error:
                if error.errno not in {ENOSPC, EDQUOT} or not self._evicted_all_idle(entry):
                    raise
                entry.fetch(fetch)
            entry.part.rename(entry.whole)
        except BaseException:
            entry.remove()
            raise

    def _reserve(self, entry: Entry, size: int, own: io.FileIO) -> None:
        """Count the entry in, as soon as it fits beside those that are in use."""
        deadline = time.monotonic() + self.wait_s
        while True:
            with locked(self.folder / "room", fcntl.LOCK_EX):
                others = self._others(entry)
                bound = self._bound(sum(others.values()))
                if size > bound:
                    raise OSError(ENOSPC, f"it takes {size:,} bytes of at most {bound:,}")
                self._sweep(others, lambda taken: self._fits(size, taken))
                if self._fits(size, sum(others.values())):
                    own.write(b"%d" % size)
                    return
            if not sum(others.values()):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            if time.monotonic() > deadline:
                raise OSError(EBUSY, "slides in use take all the room")
            time.sleep(POLL_S)

    def _evicted_all_idle(self, entry: Entry) -> bool:
        """Make all the room there is: a quota, or others' files, can fill a disk unannounced."""
        with locked(self.folder / "room", fcntl.LOCK_EX):
            others = self._others(entry)
            before = len(others)
            self._sweep(others, lambda _: False)
            return len(others) < before

    def _others(self, entry: Entry) -> dict[Entry, int]:
        """Bytes of every other entry, least recently used first."""
        keys = {path.name.partition(".")[0] for path in self.folder.iterdir()} - {entry.key}
        entries = [Entry(self.folder, key) for key in keys if KEY.fullmatch(key)]
        return {one: one.size for one in sorted(entries, key=lambda one: one.last_use)}

    def _sweep(self, others: dict[Entry, int], enough: Callable[[int], bool]) -> None:
        """Remove garbage, and idle entries in their order until those left take little `enough`."""
        for one in list(others):
            if one.whole.exists() and enough(sum(others.values())):
                continue
            if one.removed():
                del others[one]

    def _bound(self, taken: int) -> int:
        half = (shutil.disk_usage(self.folder).free + taken) // 2
        return min(DEFAULT_MAX_BYTES, half) if self.max_bytes is None else self.max_bytes

    def _fits(self, size: int, taken: int) -> bool:
        free = shutil.disk_usage(self.folder).free
        return size <= free and taken + size <= self._bound(taken)
