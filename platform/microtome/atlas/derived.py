"""Where lies what is derived from `tiles`: `<folder>/<model id>/<number>/`, beside the tables.

A card is written last, so a folder that holds it is complete, and the highest such number is the
one that counts. Readers never wait. All of it may be deleted at any time and is made again by
`microtome maintain`; nothing of it is kept elsewhere, so that what is removed here is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from microtome.atlas.storage import location, write_failed
from microtome.slides.storage import filesystem_of, is_remote, store_errors, store_reason

UNFINISHED = "unfinished-"

Card = TypeVar("Card")


class IndexUnusable(Exception):
    """Something derived is there, but it can't be used; says why. A search goes on without it."""


def read_card(make: Callable[..., Card], text: bytes, name: str, form: int) -> Card:
    """The card that the file of that name holds.

    Args:
        make: takes its facts by name; `witnesses` are by row id, which is text in JSON.
        text: of the file.
        name: of the file.
        form: the format that is understood.

    Raises:
        IndexUnusable: it is damaged, or of another format.
    """
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts["format"] != form:
            raise IndexUnusable(f"it has format {facts['format']}, this program reads {form}")
        facts["witnesses"] = {int(row): tile for row, tile in facts["witnesses"].items()}
        return make(**facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IndexUnusable(f"its {name} is damaged") from None


@dataclass(frozen=True, slots=True)
class Derived:
    """One kind of derived data of an atlas.

    Attributes:
        uri: of the atlas.
        folder: the kind's, in the atlas.
        card: name of the file that is written last.
        what: what it is, for messages.
    """

    uri: str
    folder: str
    card: str
    what: str

    def newest_card(self, model_id: str) -> bytes | None:
        """The card that counts; None where there is none.

        Raises:
            IndexUnusable: the store refuses.
        """
        for number in sorted(self._numbers(model_id), reverse=True):
            store, path = filesystem_of(self._place(f"{model_id}/{number}/{self.card}"))
            try:
                data: bytes = store.cat_file(path)
            except FileNotFoundError:
                continue
            except store_errors() as error:
                raise IndexUnusable(store_reason(error)) from None
            return data
        return None

    @contextmanager
    def local(self, model_id: str, number: int, name: str) -> Iterator[Path]:
        """A file as a local one; that of a store is a copy, which goes with the context.

        Raises:
            IndexUnusable: it is missing, or the store refuses.
        """
        place = self._place(f"{model_id}/{number}/{name}")
        if not is_remote(self.uri):
            if not Path(place).is_file():
                raise IndexUnusable(f"its {name} is missing")
            yield Path(place)
            return
        store, remote = filesystem_of(place)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / name
            try:
                store.get_file(remote, str(copy))
            except FileNotFoundError:
                raise IndexUnusable(f"its {name} is missing") from None
            except store_errors() as error:
                raise IndexUnusable(store_reason(error)) from None
            yield copy

    @contextmanager
    def draft(self, model_id: str) -> Iterator[Draft]:
        """A folder to be filled and published; it goes again where it is not.

        Raises:
            AtlasWriteFailed: the disk is full, or the store refuses; what was there stays.
        """
        number = max(self._numbers(model_id), default=0) + 1
        with self._writing(), self._scratch() as scratch:
            yield Draft(self, model_id, number, Path(scratch))

    def drop(self, model_id: str, *, before: int | None = None) -> int:
        """Delete all of a model, or what has a lower number; returns how many folders.

        Raises:
            AtlasWriteFailed: the store refuses.
        """
        going = [n for n in self._numbers(model_id) if before is None or n < before]
        with self._writing():
            for number in going:
                store, path = filesystem_of(self._place(f"{model_id}/{number}"))
                store.rm(path, recursive=True)
        return len(going)

    def remove_leftovers(self) -> int:
        """Delete what a killed job left of what it wrote; only under the lease. Returns how many.

        What it left in numbered folders goes when the next one is complete.
        """
        if is_remote(self.uri):  # a store keeps no half of an object
            return 0
        found = list((Path(location(self.uri)) / self.folder).glob(f"{UNFINISHED}*"))
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
        return len(found)

    def store(self, file: Path, below: str) -> None:
        """Move a file of a draft to its place, durably."""
        if is_remote(self.uri):
            store, path = filesystem_of(self._place(below))
            store.put_file(str(file), path)
            return
        target = Path(self._place(below))
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(file)
        os.replace(file, target)
        for folder in (target.parent, target.parent.parent):
            _sync(folder)

    def _numbers(self, model_id: str) -> list[int]:
        store, path = filesystem_of(self._place(model_id))
        try:
            names = [name.rstrip("/").rsplit("/", 1)[-1] for name in store.ls(path, detail=False)]
        except store_errors():  # nothing there, or nothing to be had
            return []
        return [int(name) for name in names if name.isdecimal()]

    def _place(self, below: str) -> str:
        return f"{location(self.uri)}/{self.folder}/{below}"

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        """Where to write first: beside the target, so that a file is moved into place at once."""
        if is_remote(self.uri):
            return tempfile.TemporaryDirectory()
        folder = Path(location(self.uri)) / self.folder
        folder.mkdir(exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except store_errors() as error:
            reason = OSError(store_reason(error)) if is_remote(self.uri) else error
            raise write_failed(self.uri, self.what, reason) from error


@dataclass(frozen=True, slots=True)
class Draft:
    """A folder that is being filled.

    Attributes:
        kind: of what it will hold.
        model_id: whose it is.
        number: that it will have.
        folder: local; its files are to be written here.
    """

    kind: Derived
    model_id: str
    number: int
    folder: Path

    def publish(
        self, names: Iterable[str], card: str, may_publish: Callable[[], None] = lambda: None
    ) -> None:
        """Store the files, then the card: it is the newest in one atomic step.

        Args:
            names: files in the folder.
            card: content of the card.
            may_publish: called before that step; raises where another job took over meanwhile.
        """
        for name in names:
            self.kind.store(self.folder / name, f"{self.model_id}/{self.number}/{name}")
        path = self.folder / self.kind.card
        path.write_text(card)
        may_publish()
        self.kind.store(path, f"{self.model_id}/{self.number}/{self.kind.card}")


def sha256_of(path: Path) -> str:
    """The hash of a local file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
