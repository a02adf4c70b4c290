"""What files lie in a set's folder, on a disk or in a store."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from microtome.errors import DatasetError, DatasetInvalid, DatasetNotFound
from microtome.slides.listing import extension
from microtome.slides.storage import explained, filesystem_of, is_remote, local_path

IMAGES: Final = frozenset({"bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
_SHOWN = 3


def files_under(path: str) -> dict[str, str]:
    """Every file at or below a folder.

    Args:
        path: folder or URI.

    Returns:
        URI of each file by its name relative to the folder, `/` between folders, sorted by name.
        What begins with a dot is no data and is left out.

    Raises:
        SettingError: the URI holds a secret, or no reader for its protocol is installed.
        DatasetNotFound: there is no such folder, or it holds nothing.
        DatasetError: the listing was refused.
    """
    with explained(path, missing=DatasetNotFound, refused=DatasetError):
        found = dict(_in_store(path) if is_remote(path) else _on_disk(local_path(path)))
    if not found:
        raise DatasetNotFound(f"nothing lies at {path}", remedy="Name the folder of the set.")
    return {name: found[name] for name in sorted(found) if "/." not in f"/{name}"}


def images_among(files: Mapping[str, str]) -> dict[str, str]:
    """Those that are images, by their names.

    Raises:
        DatasetInvalid: a name isn't UTF-8: no table could hold it.
    """
    images = {name: uri for name, uri in files.items() if extension(name) in IMAGES}
    if strange := [printable(name) for name, uri in images.items() if printable(uri) != uri]:
        raise DatasetInvalid(
            f"{len(strange):,} images have names that aren't UTF-8: {some_of(strange)}",
            remedy="Rename them; `convmv` turns names of another encoding into UTF-8.",
        )
    return images


def printable(name: str) -> str:
    """A file's name, escaped where its bytes aren't UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def some_of(names: Iterable[str]) -> str:
    """A few names for a message: `a, b, c and 4 more`."""
    names = list(names)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _on_disk(root: str) -> Iterator[tuple[str, str]]:
    """Through linked folders too, each real folder once."""
    seen: set[str] = set()
    if not os.path.isdir(root):
        raise FileNotFoundError(root)
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            file = os.path.join(folder, name)
            yield os.path.relpath(file, root).replace(os.sep, "/"), file


def _refuse(error: OSError) -> None:
    """A folder that can't be listed may hold images: it is not passed over."""
    raise error


def _in_store(path: str) -> Iterator[tuple[str, str]]:
    filesystem, root = filesystem_of(path)
    for file in filesystem.find(root.rstrip("/")):
        yield posixpath.relpath(file, root), filesystem.unstrip_protocol(file)
