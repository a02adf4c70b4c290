"""One entry of a cache that processes share: its files, its size, its last use and its lock.

Staged slides are kept so, and copies of models (which know neither size nor last use).

    <key>/       the files, whole: they appear by one rename
    <key>.part/  the files while they are fetched, or what a killed process left of them
    <key>.lock   its text is the bytes reserved, its mtime the last use; who reads holds it shared,
                 who fetches or evicts holds it alone

The lock is the kernel's (flock): a process that is killed holds nothing any more.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}")
"""Of a staged slide; nothing else in its folder is ever touched."""
Fetch = Callable[[Path], None]
"""Puts an entry's files into a new, empty folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry `key` of a cache's `folder`; whether it is there or not."""

    folder: Path
    key: str

    @property
    def whole(self) -> Path:
        """Its files, all of them."""
        return self.folder / self.key

    @property
    def part(self) -> Path:
        """Its files while they are fetched."""
        return self.folder / f"{self.key}.part"

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.folder / f"{self.key}.lock"

    @property
    def size(self) -> int:
        """Bytes reserved for it or, if the lock's text was lost, taken by it."""
        try:
            reserved = self.lock.read_bytes()
            return int(reserved) if reserved.isdigit() else _bytes_in(self.whole)
        except FileNotFoundError:  # it was given up just now
            return 0

    @property
    def last_use(self) -> int:
        """In ns since 1970; 0 if nobody knows."""
        try:
            return self.lock.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def holds(self, size: int) -> bool:
        """Whether it is whole; a cleaner of caches can have taken single files away."""
        return _bytes_in(self.whole) == size

    def fetch(self, fetch: Fetch) -> None:
        """Fetch its files, from the beginning."""
        self.clear()
        self.part.mkdir(mode=0o700)
        fetch(self.part)

    def removed(self) -> bool:
        """Remove it, unless somebody holds it."""
        try:
            lock = locked(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with lock:
            self.remove()
        return True

    def remove(self) -> None:
        """Remove it; the caller holds it alone."""
        self.clear()
        self.lock.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove its files, never leaving a folder that looks whole and isn't."""
        if self.part.exists():
            _remove(self.part)
        if self.whole.exists():
            self.whole.rename(self.part)
            _remove(self.part)


def locked(path: Path, how: int) -> io.FileIO:
    """The file at `path`, made and locked; `BlockingIOError` where `how` says not to wait."""
    while True:
        file = io.FileIO(path, "a+")
        try:
            fcntl.flock(file, how)
            if _is_at(path, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # whoever held it removed it meanwhile


def _is_at(path: Path, file: io.FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    """Remove a folder, or a file that somebody put in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
