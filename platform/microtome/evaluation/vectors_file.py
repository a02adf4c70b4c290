"""Vectors that another program made, with their labels.

vectors.npz            arrays `vectors` (N, D) and `labels` (N,), or `groups`, `splits`, `names`
vectors.parquet        a list column `vectors`, and columns label, group, split, name
slide.h5, or a folder  TRIDENT's layout, and CLAM's: one file a slide with `features` (N, D) and
                       `coords` (N, 2); labels come from a table beside them
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from microtome.datasets.listing import some_of
from microtome.datasets.samples import WHOLE
from microtome.errors import DatasetNotFound, SettingError, VectorsInvalid
from microtome.evaluation.collection import Collection
from microtome.evaluation.cosines import directions
from microtome.evaluation.grouping import Columns
from microtome.evaluation.slide_features import FEATURES, slide_files, slide_vector
from microtome.slides.listing import extension
from microtome.slides.storage import explained, filesystem_of
from microtome.slides.tables import read_table

_VECTORS: Final = ("vectors", "vector", "embedding", "embeddings", FEATURES)
_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "label": ("label", "labels"),
    "group": ("group", "groups", "case_id"),
    "split": ("split", "splits"),
    "name": ("name", "names", "path", "slide_id", "tile_id"),
}
"""Under which names a table's columns and a file's arrays are looked for."""

_FORMS = "Give .npz, .parquet, a slide's .h5, or a folder of these as TRIDENT and CLAM write them."


@dataclass(frozen=True, slots=True)
class GivenVectors:
    """What a file held.

    Attributes:
        collection: the labelled things.
        vectors: (N, D) float32, each of unit length.
        columns: of the file or its labels, to group by.
        about: what was done to the vectors; empty where nothing was.
    """

    collection: Collection
    vectors: NDArray[np.float32]
    columns: Columns
    about: str = ""


def read_vectors(path: str, labels: str | None = None, group: str | None = None) -> GivenVectors:
    """Read vectors, and who they are.

    Args:
        path: file or folder, on a disk or in a store; see the module's docstring.
        labels: for HDF5, a CSV or Parquet table of `slide_id` and `label`, optionally `group` (or
            `case_id`) and `split`.
        group: a column or array that must be read too, where there is one of that name.

    Raises:
        SettingError: another kind of file, or labels are missing or too much.
        VectorsInvalid: another shape, values that aren't finite, no direction, or labels that
            don't fit the vectors.
        DatasetNotFound: nothing lies there.
        SourceError: the labels can't be read.
    """
    kind = extension(path)
    if kind not in {"npz", "parquet", "pq"}:
        return _of_slides(path, labels)
    if labels is not None:
        raise SettingError(f"{path} holds its labels itself: --labels is for HDF5")
    return _of_columns(path, _npz(path, group) if kind == "npz" else _parquet(path, group))


@dataclass(frozen=True, slots=True)
class _Held:
    """What of a file is needed.

    Attributes:
        vectors: name of the array or column that holds them; None where there is none.
        names: of all that it holds.
        wanted: those that say what the vectors are.
    """

    vectors: str | None
    names: tuple[str, ...]
    wanted: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str], group: str | None) -> Self:
        names = tuple(names)
        vectors = next((name for name in _VECTORS if name in names), None)
        known = (next((one for one in same if one in names), None) for same in _NAMED.values())
        wanted = {*known, *({group} & {*names})} - {None, vectors}
        return cls(vectors, names, tuple(name for name in names if name in wanted))

    @property
    def read(self) -> tuple[str, ...]:
        """Whatever is read; the rest may be of any shape and type."""
        return (*self.wanted, *([] if self.vectors is None else [self.vectors]))


_Columns = tuple[_Held, dict[str, Any]]


def _npz(path: str, group: str | None) -> _Columns:
    filesystem, inside = filesystem_of(path)
    with explained(path, missing=DatasetNotFound, refused=VectorsInvalid):
        try:
            with filesystem.open(inside, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                held = _Held.of(arrays.files, group)
                return held, {name: arrays[name] for name in held.read}
        except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
            raise VectorsInvalid(
                f"{path} can't be read: {error}",
                remedy="Save plain arrays with numpy.savez; Python objects (pickles) are refused.",
            ) from None


def _parquet(path: str, group: str | None) -> _Columns:
    filesystem, inside = filesystem_of(path)
    with explained(path, missing=DatasetNotFound, refused=VectorsInvalid):
        content = filesystem.cat_file(inside)
    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        held = _Held.of(file.schema_arrow.names, group)
        table = file.read(columns=list(held.read))
    except pa.ArrowInvalid as error:
        raise VectorsInvalid(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None
    return held, {name: _array(path, name, table[name]) for name in held.read}


def _array(path: str, name: str, column: pa.ChunkedArray) -> Any:
    """A column as it is, or as (N, length) where it holds lists of one length."""
    if not isinstance(column.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return column.to_pylist()
    lists = column.combine_chunks()
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if lists.null_count or len(lengths) != 1:
        raise VectorsInvalid(f"{path}: the lists in {name!r} are of different lengths, or missing")
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), lengths[0])


def _of_columns(path: str, read: _Columns) -> GivenVectors:
    """From arrays by name to labelled vectors."""
    held, columns = read
    if held.vectors is None or _column(columns, "label") is None:
        raise VectorsInvalid(
            f"{path} holds {', '.join(held.names) or 'nothing'}, but not both vectors and labels",
            remedy="Name the vectors `vectors` and their labels `label`.",
        )
    vectors = directions(columns[held.vectors], path)
    flat = {name: _texts(path, name, columns[name]) for name in held.wanted}
    for name, values in flat.items():
        if len(values) != len(vectors):
            raise VectorsInvalid(f"{path}: {len(vectors):,} vectors, but {len(values):,} of {name}")
    others: Columns = {name: () for name in held.names if name != held.vectors}  # for messages
    return GivenVectors(_collection(path, flat, len(vectors)), vectors, {**others, **flat})


def _texts(path: str, name: str, values: Any) -> list[str | None]:
    """Labels and the like as text; whole numbers are names too, and bytes are UTF-8."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise VectorsInvalid(f"{path}: {name} must be one value for each vector, not {array.shape}")
    try:
        texts = [one.decode() if isinstance(one, bytes) else one for one in array.tolist()]
    except UnicodeDecodeError as error:
        raise VectorsInvalid(f"{path}: {name} holds bytes that aren't UTF-8: {error}") from None
    return [None if _missing(one) else str(one) for one in texts]


def _missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _column(columns: Mapping[str, Any], what: str) -> Any:
    return next((columns[name] for name in _NAMED[what] if name in columns), None)


def _collection(path: str, columns: Mapping[str, list[str | None]], count: int) -> Collection:
    labels = _column(columns, "label")
    if lacking := labels.count(None):
        raise VectorsInvalid(f"{path}: {lacking:,} of {count:,} vectors have no label")
    classes = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    groups = _column(columns, "group") or [None] * count
    splits = _column(columns, "split") or [WHOLE] * count
    names = _column(columns, "name") or [f"row {row}" for row in range(count)]
    return Collection(
        posixpath.basename(path.rstrip("/")),
        tuple(classes),
        np.array([numbers[label] for label in labels], np.int64),
        tuple(groups),
        tuple(split or WHOLE for split in splits),
        tuple(_short(name) if name else f"row {row}" for row, name in enumerate(names)),
        grouped_by="group" if any(groups) else "",
    )


def _short(name: str) -> str:
    """A name or path without the folders of a machine: its last two parts."""
    return "/".join(re.split(r"[/\\]+", name)[-2:])


def _of_slides(path: str, labels: str | None) -> GivenVectors:
    """One vector for each slide that the table of labels names."""
    slides = slide_files(path)
    if not slides:
        raise SettingError(f"{path} holds no .h5 file", remedy=_FORMS)
    if labels is None:
        raise SettingError(
            f"{path} holds features, but nothing says what the slides are",
            remedy="Give a table of slide_id and label with --labels FILE.csv.",
        )
    rows = _labelled_slides(labels)
    wanted = [str(name) for name in rows["slide_id"]]
    if missing := [name for name in wanted if name not in slides]:
        raise VectorsInvalid(
            f"{labels} names {len(missing):,} slides without a file in {path}: {some_of(missing)}",
            remedy="Bring their features, or take their rows out.",
        )
    vectors = [slide_vector(*slides[name]) for name in wanted]
    if len(lengths := {len(one) for one in vectors}) != 1:
        raise VectorsInvalid(
            f"{path} holds vectors of {' and '.join(str(one) for one in sorted(lengths))} values",
            remedy="Name the folder of one encoder.",
        )
    collection = _collection(path, rows, len(vectors))
    if left := slides.keys() - set(wanted):
        note = f"{len(left):,} slides have no label and were left out: {some_of(sorted(left))}"
        collection = collection.noted(note)
    about = "mean of a slide's vectors, each of unit length"
    return GivenVectors(collection, directions(np.stack(vectors), path), rows, about)


def _labelled_slides(labels: str) -> dict[str, list[str | None]]:
    texts = [name for names in _NAMED.values() for name in names]
    table = read_table(labels, texts)
    if not {"slide_id", "label"} <= set(table.column_names):
        raise VectorsInvalid(f"{labels} needs the columns slide_id and label")
    columns = {name: _texts(labels, name, table[name].to_pylist()) for name in table.column_names}
    if None in columns["slide_id"] or len(set(columns["slide_id"])) < len(columns["slide_id"]):
        raise VectorsInvalid(f"{labels} has a row without a slide_id, or two of one")
    return columns
