"""Where an index of codes lies: `_index/<model id>/<number>/`, beside the tables.

`codes.faiss`   the codes
`index.json`    what they are, with the hash of the codes; written last, so a folder that holds it
                is complete, and the highest such number is the index. Readers never wait.

An index is derived from `tiles` and may be deleted at any time. A reader reads all of it into
memory; nothing of it is kept elsewhere, so that what is removed here is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from microtome.atlas.index_codes import Codes
from microtome.atlas.storage import location, write_failed
from microtome.slides.storage import filesystem_of, is_remote, store_errors, store_reason

FOLDER = "_index"
FORMAT = 1
CODES = "codes.faiss"
CARD = "index.json"
UNFINISHED = "unfinished-"


class IndexUnusable(Exception):
    """There is an index, but it can't be used; says why. A search goes on without it."""


@dataclass(frozen=True, slots=True)
class IndexCard:
    """What an index of codes is.

    Attributes:
        model_id: whose vectors it codes.
        number: of its folder.
        tiles_version: the version of `tiles` it was brought up to.
        rows: how many it codes.
        trained_rows: how many there were when its centroids were found.
        lists: see `CodePlan`.
        bits: see `CodePlan`.
        probes: see `CodePlan`.
        files: data files of `tiles` whose vectors it has all seen: those that are null stay null.
        witnesses: tile id by row id, of a few rows; a table that says otherwise is another one.
        size_bytes: of the codes.
        sha256: of the codes.
        format: of these files.
    """

    model_id: str
    number: int
    tiles_version: int
    rows: int
    trained_rows: int
    lists: int
    bits: int
    probes: int
    files: tuple[str, ...] = field(repr=False)
    witnesses: dict[int, str] = field(repr=False)
    size_bytes: int = 0
    sha256: str = ""
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes) -> IndexCard:
        """Read a card.

        Raises:
            IndexUnusable: it is damaged, or of another format.
        """
        try:
            facts: dict[str, Any] = json.loads(text)
            if facts["format"] != FORMAT:
                raise IndexUnusable(f"it has format {facts['format']}, this program reads {FORMAT}")
            facts["files"] = tuple(facts["files"])
            facts["witnesses"] = {int(row): tile for row, tile in facts["witnesses"].items()}
            return cls(**facts)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise IndexUnusable(f"its {CARD} is damaged") from None


def newest_card(uri: str, model_id: str) -> IndexCard | None:
    """The card of a model's index; None where there is none.

    Raises:
        IndexUnusable: the card can't be read.
    """
    for number in sorted(_numbers(uri, model_id), reverse=True):
        text = _read(uri, f"{model_id}/{number}/{CARD}")
        if text is not None:
            return IndexCard.from_json(text)
    return None


def read_codes(uri: str, card: IndexCard) -> Codes:
    """The codes a card speaks of.

    Raises:
        IndexUnusable: they are missing or damaged, or the store refuses.
    """
    with _local_copy(uri, f"{card.model_id}/{card.number}/{CODES}") as path:
        if path is None:
            raise IndexUnusable(f"its {CODES} is missing")
        if _sha256(path) != card.sha256:
            raise IndexUnusable(f"its {CODES} is damaged")
        try:
            codes = Codes.read(path)
        except ValueError as error:
            raise IndexUnusable(str(error)) from None
    if (len(codes), codes.lists) != (card.rows, card.lists):
        raise IndexUnusable(f"its {CODES} is not what its {CARD} says")
    return codes


def write_index(
    uri: str, card: IndexCard, codes: Codes, may_publish: Callable[[], None] = lambda: None
) -> IndexCard:
    """Store an index under the next number, durably; it is the newest in one atomic step.

    Args:
        uri: of the atlas.
        card: what it is.
        codes: what it holds.
        may_publish: called before that step; raises where another job took over meanwhile.

    Returns:
        The card as it was written, with number, size and hash.

    Raises:
        AtlasWriteFailed: the disk is full, or the store refuses; the index before it stays.
    """
    facts = asdict(card) | {"number": max(_numbers(uri, card.model_id), default=0) + 1}
    folder = f"{card.model_id}/{facts['number']}"
    with _writing(uri), _scratch(uri) as scratch:
        path = Path(scratch) / CODES
        codes.write(path)
        facts |= {"size_bytes": path.stat().st_size, "sha256": _sha256(path)}
        _store(uri, path, f"{folder}/{CODES}")
        path = Path(scratch) / CARD
        path.write_text(json.dumps(facts))
        may_publish()
        _store(uri, path, f"{folder}/{CARD}")
    return IndexCard(**facts)


def drop_index(uri: str, model_id: str, *, before: int | None = None) -> int:
    """Delete every stored index of a model, or those of a lower number; returns how many.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    going = [n for n in _numbers(uri, model_id) if before is None or n < before]
    with _writing(uri):
        for number in going:
            store, path = filesystem_of(_place(uri, f"{model_id}/{number}"))
            store.rm(path, recursive=True)
    return len(going)


def _numbers(uri: str, model_id: str) -> list[int]:
    store, path = filesystem_of(_place(uri, model_id))
    try:
        names = [name.rstrip("/").rsplit("/", 1)[-1] for name in store.ls(path, detail=False)]
    except store_errors():  # nothing there, or nothing to be had
        return []
    return [int(name) for name in names if name.isdecimal()]


def _place(uri: str, below: str) -> str:
    return f"{location(uri)}/{FOLDER}/{below}"


def _read(uri: str, below: str) -> bytes | None:
    store, path = filesystem_of(_place(uri, below))
    try:
        data: bytes = store.cat_file(path)
    except FileNotFoundError:
        return None
    except store_errors() as error:
        raise IndexUnusable(store_reason(error)) from None
    return data


@contextmanager
def _local_copy(uri: str, below: str) -> Iterator[Path | None]:
    """A file of the index as a local one; None where there is none."""
    if not is_remote(uri):
        path = Path(_place(uri, below))
        yield path if path.is_file() else None
        return
    store, remote = filesystem_of(_place(uri, below))
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / CODES
        try:
            store.get_file(remote, str(copy))
        except FileNotFoundError:
            copy = None  # type: ignore[assignment]
        except store_errors() as error:
            raise IndexUnusable(store_reason(error)) from None
        yield copy


def _scratch(uri: str) -> tempfile.TemporaryDirectory[str]:
    """Where to write first: beside the target, so that a file can be moved into place at once."""
    if is_remote(uri):
        return tempfile.TemporaryDirectory()
    folder = Path(location(uri)) / FOLDER
    folder.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder)


def _store(uri: str, file: Path, below: str) -> None:
    if is_remote(uri):
        store, path = filesystem_of(_place(uri, below))
        store.put_file(str(file), path)
        return
    target = Path(_place(uri, below))
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(file)
    os.replace(file, target)
    for folder in (target.parent, target.parent.parent):
        _sync(folder)


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _writing(uri: str) -> Iterator[None]:
    try:
        yield
    except store_errors() as error:
        reason = OSError(store_reason(error)) if is_remote(uri) else error
        raise write_failed(uri, "the search index", reason) from error


def remove_leftovers(uri: str) -> int:
    """Delete what a killed job left of an index it wrote; only under the lease. Returns how many.

    What it left in numbered folders goes when the next index is complete.
    """
    if is_remote(uri):  # a store keeps no half of an object
        return 0
    found = list((Path(location(uri)) / FOLDER).glob(f"{UNFINISHED}*"))
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)
