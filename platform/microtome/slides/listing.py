"""What lies at a SOURCE: a file, a folder (recursive), a glob or a URI, as a list of slide files.

Only names and sizes are looked at. What begins with a dot holds no slides (macOS leaves `._a.svs`
beside `a.svs`, file servers keep a `.snapshot` of everything), nor does a MRXS slide's data folder.
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from microtome.errors import SourceNotFound
from microtome.slides.storage import explained, filesystem_of, is_remote, local_path

EXTENSIONS = frozenset(
    {
        "bif",
        "dcm",
        "mrxs",
        "ndpi",
        "qptiff",
        "scn",
        "svs",
        "svslide",
        "tif",
        "tiff",
        "vms",
        "vmu",
    }
)
"""Files taken from a folder or a glob; `ome.tif` is a `tif`. A file named outright is always taken.
OpenSlide's, and those that deserve a reason when they can't be read."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file at a SOURCE.

    Attributes:
        name: relative to SOURCE, `/` between folders.
        uri: absolute path or fsspec URI.
        shown: as the user would name it: SOURCE and what follows.
        stamp: size and mtime (ns), or size and etag; empty where the file can't be looked at.
        outright: whether it is the SOURCE itself.
    """

    name: str
    uri: str
    shown: str
    stamp: str
    outright: bool = False

    @property
    def folder(self) -> str:
        """URI of the folder it lies in."""
        return posixpath.dirname(self.uri)

    @property
    def is_dicom(self) -> bool:
        """Whether it says to be DICOM."""
        return extension(self.uri) == "dcm"


def extension(uri: str) -> str:
    """Last extension in lower case, without its dot."""
    return posixpath.splitext(uri)[1].lower().lstrip(".")


def slide_files(source: str) -> list[FoundFile]:
    """Every slide file at a SOURCE, by name.

    Raises:
        SettingError: the URI holds a secret, or no reader for its protocol is installed.
        SourceNotFound: nothing lies there, or no file there is a slide.
        SourceUnreadable: the listing was refused.
    """
    with explained(source):
        files = _in_store(source) if is_remote(source) else _on_disk(source)
    if not files:
        raise SourceNotFound(
            f"no slide lies at {source}",
            remedy=f"Looked for {', '.join('.' + one for one in sorted(EXTENSIONS))}; "
            "a file with another name must be named itself.",
        )
    return sorted(files, key=lambda file: file.name)


def _on_disk(source: str) -> list[FoundFile]:
    root = local_path(source)
    if os.path.isfile(root):
        return [_local_file(os.path.basename(root), root, source, outright=True)]
    if os.path.isdir(root):
        base, paths = root, list(_walk(root))
    elif glob.has_magic(source):
        base = _fixed_prefix(root)
        matches = glob.glob(root, recursive=True)
        paths = [path for match in matches for path in _walk(match)]
        source = _fixed_prefix(source)
    else:
        raise FileNotFoundError(source)
    names = {os.path.relpath(path, base).replace(os.sep, "/"): path for path in paths}
    return [
        _local_file(name, names[name], posixpath.join(source, name)) for name in _slide_names(names)
    ]


def _local_file(name: str, path: str, shown: str, *, outright: bool = False) -> FoundFile:
    try:
        status = os.stat(path)
    except OSError:  # a dangling link: opening the slide will say so
        return FoundFile(name, path, shown, "", outright)
    return FoundFile(name, path, shown, f"{status.st_size}-{status.st_mtime_ns}", outright)


def _walk(top: str) -> Iterator[str]:
    """Files at or below a path, through linked folders too, each real folder once."""
    if not os.path.isdir(top):
        yield top
        return
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in names)


def _refuse(error: OSError) -> None:
    """A folder that can't be listed may hold slides: it is not passed over."""
    raise error


def _in_store(source: str) -> list[FoundFile]:
    filesystem, root = filesystem_of(source)
    root = root.rstrip("/")
    if glob.has_magic(root):
        base = _fixed_prefix(root)
        found = filesystem.glob(root, detail=True)
        for folder in [path for path, info in found.items() if info["type"] == "directory"]:
            found |= filesystem.find(folder, detail=True)
        source = _fixed_prefix(source)
    else:
        base, found = root, filesystem.find(root, detail=True)
    if list(found) == [root]:
        file = _stored_file(filesystem, posixpath.basename(root), found[root], source)
        return [replace(file, outright=True)]
    names = {
        posixpath.relpath(path, base): info
        for path, info in found.items()
        if info["type"] == "file"
    }
    return [
        _stored_file(filesystem, name, names[name], posixpath.join(source, name))
        for name in _slide_names(names)
    ]


def _stored_file(filesystem: Any, name: str, info: Mapping[str, Any], shown: str) -> FoundFile:
    mark = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    uri = filesystem.unstrip_protocol(info["name"])
    return FoundFile(name, uri, shown, f"{info['size']}-{str(mark).strip(chr(34))}")


def _slide_names(names: Iterable[str]) -> list[str]:
    """Those that are slides, by their names alone."""
    slides = [
        name for name in names if extension(name) in EXTENSIONS and not f"/{name}".count("/.")
    ]
    data_folders = {posixpath.splitext(name)[0] for name in slides if extension(name) == "mrxs"}
    return [name for name in slides if data_folders.isdisjoint(_parents(name))]


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _fixed_prefix(pattern: str) -> str:
    """The folder before the first part that holds a wildcard: `a/b` of `a/b/*/c?.svs`."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1].rstrip("/") or ("/" if fixed.startswith("/") else "")
