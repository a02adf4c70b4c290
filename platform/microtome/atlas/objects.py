"""Small objects beside the tables: leases, and the records of what was forgotten.

Each folder of an atlas whose name begins with an underscore holds objects, not a table. An object
can be made only once: by a file system's exclusive creation, or `If-None-Match: *` on S3.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from microtome.atlas.storage import location, write_failed
from microtome.slides.storage import filesystem_of, is_remote, store_errors, store_reason


class Objects(Protocol):
    """The objects of one folder; each method raises `AtlasWriteFailed` if the store refuses."""

    def names(self) -> list[str]:
        """Names of all objects."""
        ...

    def put_new(self, name: str, data: bytes) -> bool:
        """Make an object; False, and nothing is written, where one of that name exists."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write an object over what lies there."""
        ...

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def clear(self) -> None:
        """Remove the folder and everything below it."""
        ...


def objects(uri: str, folder: str, what: str) -> Objects:
    """The objects in one folder of an atlas, which need not exist.

    Args:
        uri: of the atlas.
        folder: its name.
        what: what they are, for messages.
    """
    return _Bucket(uri, folder, what) if is_remote(uri) else _Folder(uri, folder, what)


@contextmanager
def _reaching(uri: str, what: str) -> Iterator[None]:
    try:
        yield
    except store_errors() as error:
        raise write_failed(uri, what, OSError(store_reason(error))) from error


class _Folder:
    def __init__(self, uri: str, folder: str, what: str) -> None:
        self._place = uri, what
        self._folder = Path(location(uri)) / folder

    def names(self) -> list[str]:
        with _reaching(*self._place), suppress(FileNotFoundError):
            return [path.name for path in self._folder.iterdir() if path.suffix != ".tmp"]
        return []

    def put_new(self, name: str, data: bytes) -> bool:
        with _reaching(*self._place):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                file = (self._folder / name).open("xb")
            except FileExistsError:
                return False
            try:
                with file:
                    file.write(data)
            except OSError:  # half an object says less than none
                (self._folder / name).unlink()
                raise
        return True

    def put(self, name: str, data: bytes) -> None:
        beside = self._folder / f"{name}.{secrets.token_hex(4)}.tmp"
        with _reaching(*self._place):
            self._folder.mkdir(exist_ok=True)
            try:
                beside.write_bytes(data)
                os.replace(beside, self._folder / name)
            except OSError:
                beside.unlink(missing_ok=True)
                # On a full disk there is room in its own place, so that a lease can be released.
                with (self._folder / name).open("r+b") as file:
                    file.write(data)
                    file.truncate()

    def get(self, name: str) -> bytes | None:
        with _reaching(*self._place), suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def delete(self, name: str) -> None:
        with _reaching(*self._place):
            (self._folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        with _reaching(*self._place), suppress(FileNotFoundError):
            shutil.rmtree(self._folder)


class _Bucket:
    def __init__(self, uri: str, folder: str, what: str) -> None:
        self._place = uri, what
        self._store, path = filesystem_of(uri)
        self._folder = f"{path.rstrip('/')}/{folder}"

    def names(self) -> list[str]:
        with _reaching(*self._place), suppress(FileNotFoundError):
            paths = self._store.ls(self._folder, detail=False, refresh=True)
            return [path.rsplit("/", 1)[-1] for path in paths]
        return []

    def put_new(self, name: str, data: bytes) -> bool:
        with _reaching(*self._place):
            try:
                self._store.pipe_file(f"{self._folder}/{name}", data, mode="create")
            except FileExistsError:
                # s3fs repeats a request whose answer was lost, and is then told of its own object.
                return self.get(name) == data
        return True

    def put(self, name: str, data: bytes) -> None:
        with _reaching(*self._place):
            self._store.pipe_file(f"{self._folder}/{name}", data)

    def get(self, name: str) -> bytes | None:
        with _reaching(*self._place), suppress(FileNotFoundError):
            data: bytes = self._store.cat_file(f"{self._folder}/{name}")
            return data
        return None

    def delete(self, name: str) -> None:
        with _reaching(*self._place), suppress(FileNotFoundError):
            self._store.rm_file(f"{self._folder}/{name}")

    def clear(self) -> None:
        with _reaching(*self._place), suppress(FileNotFoundError):
            self._store.rm(self._folder, recursive=True)
