"""Where the tokens lie: a file that only its owner may read, or an object of a store."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from microtome.errors import AccessUnavailable
from microtome.slides.storage import (
    filesystem_of,
    is_remote,
    local_path,
    store_errors,
    store_reason,
)

Stamp = Hashable
"""Changes whenever the content does; None where there is nothing."""
Change = Callable[[bytes | None], bytes]
"""What the content becomes, from what it is; None is nothing yet."""

TRIES: Final = 5


class TokenStore(Protocol):
    """One document; each method raises `AccessUnavailable` if the disk or the store refuses."""

    def stamp(self) -> Stamp:
        """Asked often: reads nothing."""
        ...

    def read(self) -> tuple[Stamp, bytes]:
        """The content, with a stamp that is no newer than it."""
        ...

    def change(self, change: Change) -> None:
        """Replace the content at once, and none that another wrote meanwhile."""
        ...


def token_store(uri: str) -> TokenStore:
    """The document at a path or URI, which need not exist."""
    return _Object(uri) if is_remote(uri) else _File(uri)


class _File:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._path = Path(local_path(uri))

    def stamp(self) -> Stamp:
        with _reaching(self._uri), suppress(FileNotFoundError):
            about = self._path.stat()
            return about.st_ino, about.st_mtime_ns, about.st_size
        return None

    def read(self) -> tuple[Stamp, bytes]:
        stamp = self.stamp()
        with _reaching(self._uri):
            return stamp, self._path.read_bytes()

    def change(self, change: Change) -> None:
        with _reaching(self._uri), _alone(self._path.parent):
            data = self._path.read_bytes() if self._path.exists() else None
            self._replace(change(data))

    def _replace(self, data: bytes) -> None:
        """`mkstemp` makes files of mode 600."""
        descriptor, beside = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        except OSError:
            Path(beside).unlink(missing_ok=True)
            raise


class _Object:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._files, self._path = filesystem_of(uri)

    def stamp(self) -> Stamp:
        with _reaching(self._uri), suppress(FileNotFoundError):
            stamp: Stamp = self._files.info(self._path, refresh=True)["ETag"]
            return stamp
        return None

    def read(self) -> tuple[Stamp, bytes]:
        stamp = self.stamp()
        with _reaching(self._uri):
            return stamp, self._files.cat_file(self._path)

    def change(self, change: Change) -> None:
        for _ in range(TRIES):
            stamp = self.stamp()
            with _reaching(self._uri):
                data = None if stamp is None else self._files.cat_file(self._path)
            if self._put(change(data), stamp):
                return
        raise AccessUnavailable(
            f"the token file {self._uri} is changed by others all the time", remedy="Try again."
        )

    def _put(self, data: bytes, stamp: Stamp) -> bool:
        """Write where nothing was written since `stamp`; False otherwise.

        s3fs repeats a request whose answer was lost, and is then told of its own object.
        """
        condition = {"IfNoneMatch": "*"} if stamp is None else {"IfMatch": stamp}
        with _reaching(self._uri):
            try:
                self._files.pipe_file(self._path, data, **condition)
            except store_errors() as error:
                if isinstance(error, FileExistsError) or store_reason(error) in {
                    "PreconditionFailed",
                    "ConditionalRequestConflict",
                }:
                    return bool(self._files.cat_file(self._path) == data)
                raise
        return True


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    try:
        yield
    except store_errors() as error:
        raise AccessUnavailable(
            f"the token file {uri} can't be reached: {store_reason(error)}",
            remedy="Check that it exists, its permissions, or the store's credentials.",
        ) from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one change; nothing is left behind, as a lock file would be."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
