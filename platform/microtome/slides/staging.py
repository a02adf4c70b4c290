"""A slide on this machine: where it lies, or as a copy in a bounded cache if it lies in a store.

list its files → wait for who fetches it already, or fetch all by ranges → see that it is the slide
that was looked at → hold the copy until it is discarded
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from microtome.config import check_positive, check_whole
from microtome.errors import SettingError, SlideChanged, SlideUnreadable
from microtome.slides.content import SlideFiles, content_id
from microtome.slides.staging_cache import StagingCache
from microtome.slides.storage import explained, filesystem_of, is_remote, local_path

FOLDER_VARIABLE = "MICROTOME_STAGING_FOLDER"
BYTES_VARIABLE = "MICROTOME_STAGING_BYTES"
CHUNK_BYTES = 8 << 20
STREAMS = 8
"""Requests under way for one slide, so STREAMS × CHUNK_BYTES of memory."""


@dataclass(frozen=True, slots=True)
class StagingSettings:
    """Where slides from a store are copied to if they can't be read there, and how many are kept.

    Every worker asks its own environment, so nodes with other disks can differ.

    Attributes:
        folder: `MICROTOME_STAGING_FOLDER`; made with mode 0700, since slides are patient data.
            None takes `$XDG_CACHE_HOME/microtome/slides`.
        max_bytes: `MICROTOME_STAGING_BYTES`; slides that are open at one time must fit together.
            None takes 50 GB, or half of what the disk can give if that is less.
        wait_s: how long a slide waits for others to be closed that take all the room.
    """

    folder: str | None = None
    max_bytes: int | None = None
    wait_s: float = 600.0

    def __post_init__(self) -> None:
        if self.max_bytes is not None:
            check_whole("max_bytes", self.max_bytes, least=1)
        check_positive("wait_s", self.wait_s)

    @classmethod
    def from_environment(cls) -> Self:
        """What this process's variables say.

        Raises:
            SettingError: `MICROTOME_STAGING_BYTES` is no whole number above 0.
        """
        limit = os.environ.get(BYTES_VARIABLE, "")
        if limit and not re.fullmatch(r"0*[1-9][0-9]*", limit):
            raise SettingError(f"{BYTES_VARIABLE} must be a number of bytes, not {limit!r}")
        return cls(os.environ.get(FOLDER_VARIABLE) or None, int(limit) if limit else None)

    @property
    def cache(self) -> StagingCache:
        """The cache they describe."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = local_path(self.folder or f"{home}/microtome/slides")
        return StagingCache(Path(folder), self.max_bytes, self.wait_s)


@dataclass(frozen=True, slots=True)
class LocalSlide:
    """A slide that this machine's readers can open.

    Attributes:
        path: of the file that a reader is given; its companions lie beside it.
        bytes_copied: what was moved from a store; 0 for a slide that lay here already.
    """

    path: str
    bytes_copied: int = 0
    _hold: io.FileIO | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it comes from a store."""
        return self._hold is not None

    def discard(self) -> None:
        """Let go of a copy: it stays in the cache until its room is needed."""
        if self._hold:
            self._hold.close()


def localised(files: SlideFiles, settings: StagingSettings | None = None) -> LocalSlide:
    """The slide on this machine, copied if it lies in a store.

    Args:
        files: which one.
        settings: where copies lie; by default what the environment says.

    Raises:
        SettingError: see `StagingSettings.from_environment`.
        SlideUnreadable: the store or the disk refuses, or there is no room.
        SlideChanged: another version was written meanwhile. Nothing of the copy is left then.
    """
    if not is_remote(files.ref.uri):
        return LocalSlide(local_path(files.ref.uri))
    cache = (settings or StagingSettings.from_environment()).cache
    download = _Download(files)
    try:
        held = cache.held(download.key, files.size_bytes, download.into)
    except OSError as error:
        raise SlideUnreadable(
            f"{files.ref.slide_id} can't be copied to this machine: {error.strerror or error}",
            remedy=f"Let {FOLDER_VARIABLE} name a folder that has room and can be written to, and "
            f"{BYTES_VARIABLE} be more than the slides that are open at one time.",
        ) from None
    return LocalSlide(str(held.path / download.main), sum(download.moved), held.lock)


class _Part(NamedTuple):
    path: str  # in the store
    name: str  # relative to the main file's folder


class _Chunk(NamedTuple):
    part: _Part
    start: int
    end: int


class _Download:
    """All files of one slide, from a store.

    Attributes:
        key: names the slide's bytes and its files' names.
        main: name of the file that a reader is given.
        moved: bytes of every request that ended well.
    """

    def __init__(self, files: SlideFiles) -> None:
        self._files = files
        self._store, main = filesystem_of(files.ref.uri)
        top, self.main = posixpath.split(main)
        paths = [filesystem_of(uri)[1] for uri in files.parts]
        self._parts = [_Part(path, self._inside(posixpath.relpath(path, top))) for path in paths]
        names = "\n".join(part.name for part in self._parts)
        self.key = f"{files.content_id}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
        self.moved: list[int] = []

    def into(self, folder: Path) -> None:
        """Fetch every file into `folder`; see `localised` for errors."""
        with ThreadPoolExecutor(STREAMS) as pool:
            before = list(pool.map(self._info, self._parts))
            chunks: list[_Chunk] = []
            for part, info in zip(self._parts, before, strict=True):
                target = folder / part.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
                chunks += _chunks(part, info["size"])
            list(pool.map(lambda chunk: self._copy(chunk, folder), chunks))
            after = list(pool.map(self._info, self._parts))
        copied = content_id([str(folder / part.name) for part in self._parts])
        if before != after or copied != (self._files.content_id, self._files.size_bytes):
            raise self._changed()

    def _info(self, part: _Part) -> dict[str, Any]:
        with explained(self._files.ref.uri, missing=SlideUnreadable, refused=SlideUnreadable):
            return dict(self._store.info(part.path))

    def _copy(self, chunk: _Chunk, folder: Path) -> None:
        with explained(self._files.ref.uri, missing=SlideUnreadable, refused=SlideUnreadable):
            content = self._store.cat_file(chunk.part.path, start=chunk.start, end=chunk.end)
        self.moved.append(len(content))
        if len(content) != chunk.end - chunk.start:
            raise self._changed()
        with open(folder / chunk.part.name, "r+b") as file:
            file.seek(chunk.start)
            file.write(content)

    def _inside(self, name: str) -> str:
        """A key such as `a/../../b` must not lead out of the slide's folder."""
        if name.startswith(("/", "../")):
            raise SlideUnreadable(f"{self._files.ref.slide_id} has files outside its own folder")
        return name

    def _changed(self) -> SlideChanged:
        return SlideChanged(
            f"{self._files.ref.slide_id} changed while it was copied",
            remedy="Run again once it has been uploaded whole.",
        )


def _chunks(part: _Part, size: int) -> list[_Chunk]:
    starts = range(0, size, CHUNK_BYTES)
    return [_Chunk(part, start, min(start + CHUNK_BYTES, size)) for start in starts]
