"""Which files make up a slide: one, or a DICOM series, or MRXS and VMS with their companions."""

from __future__ import annotations

import posixpath

from microtome.slides.dicom import by_series
from microtome.slides.listing import extension
from microtome.slides.storage import FileSystem, filesystem_of

MAX_INDEX_BYTES = 1 << 20
"""A VMS or VMU file is a page of text; more is something else."""


def parts_of(uri: str) -> tuple[str, ...]:
    """Every file that makes up the slide at `uri`, by name; `uri` is among them.

    Raises:
        OSError: or a store's own error, where its folder or index can't be read.
    """
    filesystem, path = filesystem_of(uri)
    match extension(path):
        case "dcm":
            parts = _series(filesystem, path)
        case "mrxs":
            parts = {path, *filesystem.find(posixpath.splitext(path)[0])}
        case "vms" | "vmu":
            parts = {path, *_named_in(filesystem, path)}
        case _:
            parts = {path}
    return tuple(sorted(_uri(filesystem, uri, part) for part in parts))


def _uri(filesystem: FileSystem, uri: str, path: str) -> str:
    return str(filesystem.unstrip_protocol(path)) if "://" in uri else path


def _series(filesystem: FileSystem, path: str) -> set[str]:
    folder = posixpath.dirname(path)
    files = [one for one in filesystem.ls(folder, detail=False) if extension(one) == "dcm"]
    uris = {filesystem.unstrip_protocol(one): one for one in files}
    own = filesystem.unstrip_protocol(path)
    series = next((group for group in by_series(uris).values() if own in group), [own])
    return {uris.get(uri, path) for uri in series}


def _named_in(filesystem: FileSystem, path: str) -> set[str]:
    """Files beside a Hamamatsu VMS or VMU index that the index names."""
    index = filesystem.cat_file(path, start=0, end=MAX_INDEX_BYTES).decode("latin-1")
    values = {line.partition("=")[2].strip() for line in index.splitlines()}
    beside = filesystem.ls(posixpath.dirname(path), detail=False)
    return {one for one in beside if posixpath.basename(one) in values}
