"""A slide on this machine: where it lies, or in a private copy that is gone when it is closed."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from microtome.slides.storage import filesystem_of, is_remote, local_path


@dataclass(frozen=True, slots=True)
class LocalSlide:
    """A slide that this machine's readers can open.

    Attributes:
        path: of the file that a reader is given; its companions lie beside it.
        bytes_copied: what was fetched from a store; 0 for a slide that lay here.
    """

    path: str
    bytes_copied: int = 0
    _copy: TemporaryDirectory[str] | None = None

    def discard(self) -> None:
        """Remove the copy, if it is one."""
        if self._copy:
            self._copy.cleanup()


def localised(uri: str, parts: Sequence[str]) -> LocalSlide:
    """The slide at `uri` on this machine, copied if it lies in a store.

    Args:
        uri: the slide's main file.
        parts: URIs of all its files, `uri` among them.

    Raises:
        OSError: or a store's own error; nothing of the copy is left then.
    """
    if not is_remote(uri):
        return LocalSlide(local_path(uri))
    filesystem, main = filesystem_of(uri)
    folder = posixpath.dirname(main)
    copy = TemporaryDirectory(prefix="microtome-")
    try:
        copied = 0
        for part in parts:
            _, path = filesystem_of(part)
            target = _inside(copy.name, posixpath.relpath(path, folder))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            filesystem.get_file(path, target)
            copied += os.path.getsize(target)
    except BaseException:
        copy.cleanup()
        raise
    return LocalSlide(_inside(copy.name, posixpath.basename(main)), copied, copy)


def _inside(folder: str, name: str) -> str:
    """Path of `name` in `folder`; a key such as `a/../../b` must not lead out of it."""
    target = os.path.normpath(os.path.join(folder, name))
    if os.path.commonpath([folder, target]) != folder:
        raise PermissionError(f"{name} leads out of the slide's folder")
    return target
