"""Where leases lie: small objects beside the tables, of which one can be made only once.

Put-if-absent is a file system's exclusive creation in a folder, and `If-None-Match: *` on S3.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from microtome.atlas.storage import location, write_failed
from microtome.slides.storage import filesystem_of, is_remote, store_errors, store_reason

FOLDER = "_lease"


class LeaseStore(Protocol):
    """Named objects of one atlas; each method raises `AtlasWriteFailed` if the store refuses."""

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


def lease_store(uri: str) -> LeaseStore:
    """The store of an atlas's leases."""
    if is_remote(uri):
        return _BucketStore(uri)
    return _FolderStore(uri)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    try:
        yield
    except store_errors() as error:
        raise write_failed(uri, "the lease", OSError(store_reason(error))) from error


class _FolderStore:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._folder = Path(location(uri)) / FOLDER

    def names(self) -> list[str]:
        with _reaching(self._uri), suppress(FileNotFoundError):
            return [path.name for path in self._folder.iterdir() if path.suffix != ".tmp"]
        return []

    def put_new(self, name: str, data: bytes) -> bool:
        with _reaching(self._uri):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with (self._folder / name).open("xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True

    def put(self, name: str, data: bytes) -> None:
        beside = self._folder / f"{name}.{secrets.token_hex(4)}.tmp"
        with _reaching(self._uri):
            try:
                beside.write_bytes(data)
                os.replace(beside, self._folder / name)
            finally:
                beside.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        with _reaching(self._uri), suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def delete(self, name: str) -> None:
        with _reaching(self._uri):
            (self._folder / name).unlink(missing_ok=True)


class _BucketStore:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._store, path = filesystem_of(uri)
        self._folder = f"{path.rstrip('/')}/{FOLDER}"

    def names(self) -> list[str]:
        with _reaching(self._uri), suppress(FileNotFoundError):
            paths = self._store.ls(self._folder, detail=False, refresh=True)
            return [path.rsplit("/", 1)[-1] for path in paths]
        return []

    def put_new(self, name: str, data: bytes) -> bool:
        with _reaching(self._uri):
            try:
                self._store.pipe_file(f"{self._folder}/{name}", data, mode="create")
            except FileExistsError:
                # s3fs repeats a request whose answer was lost, and is then told of its own object.
                return self.get(name) == data
        return True

    def put(self, name: str, data: bytes) -> None:
        with _reaching(self._uri):
            self._store.pipe_file(f"{self._folder}/{name}", data)

    def get(self, name: str) -> bytes | None:
        with _reaching(self._uri), suppress(FileNotFoundError):
            data: bytes = self._store.cat_file(f"{self._folder}/{name}")
            return data
        return None

    def delete(self, name: str) -> None:
        with _reaching(self._uri), suppress(FileNotFoundError):
            self._store.rm_file(f"{self._folder}/{name}")
