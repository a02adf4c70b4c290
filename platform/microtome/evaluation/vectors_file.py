"""Vectors that another program made, with their labels.

    vectors.npz            arrays `vectors` (N, D) and `labels` (N,), or `groups`, `splits`, `names`
    vectors.parquet        a list column `vectors`, and columns label, group, split, name
    slide.h5, or a folder  TRIDENT's layout, and CLAM's: one file a slide with `features` (N, D) and
                           `coords` (N, 2); labels come from a table beside them

TRIDENT writes `features_<encoder>/<slide>.h5`, and slides' own vectors (D,) to
`slide_features_<encoder>`; CLAM writes `h5_files/<slide>.h5` beside `pt_files`: those are pickles,
never read. A slide's tiles become one vector: each set to unit length, then their mean.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from microtome.datasets.listing import files_under, some_of
from microtome.datasets.samples import WHOLE
from microtome.errors import DatasetNotFound, SettingError, VectorsInvalid
from microtome.evaluation.collection import Collection
from microtome.evaluation.grouping import Columns
from microtome.slides.listing import extension
from microtome.slides.storage import explained, filesystem_of
from microtome.slides.tables import read_table

HDF5: Final = frozenset({"h5", "hdf5"})
FEATURES: Final = "features"
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


def read_vectors(path: str, labels: str | None = None) -> GivenVectors:
    """Read vectors, and who they are.

    Args:
        path: file or folder, on a disk or in a store; see the module's docstring.
        labels: for HDF5, a CSV or Parquet table of `slide_id` and `label`, optionally `group` (or
            `case_id`) and `split`.

    Raises:
        SettingError: another kind of file, or labels are missing or too much.
        VectorsInvalid: another shape, values that aren't finite, no direction, or labels that
            don't fit the vectors.
        DatasetNotFound: nothing lies there.
        SourceError: the labels can't be read.
    """
    kind = extension(path)
    if kind in {"npz", "parquet", "pq"}:
        if labels is not None:
            raise SettingError(f"{path} holds its labels itself: --labels is for HDF5")
        columns = _npz(path) if kind == "npz" else _parquet(path)
        return _of_columns(path, columns)
    if kind in HDF5:
        return _of_slides(path, {posixpath.basename(path): path}, labels)
    files = _slide_files(path)
    if not files:
        raise SettingError(f"{path} holds no .h5 file", remedy=_FORMS)
    return _of_slides(path, files, labels)


def unit(vectors: Any, shown: str) -> NDArray[np.float32]:
    """(N, D) float32 of unit length.

    Raises:
        VectorsInvalid: another shape or type, or rows that aren't finite or are zero.
    """
    values = np.asarray(vectors)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise VectorsInvalid(
            f"{shown}: vectors must be numbers of shape (N, D), not {values.dtype} {values.shape}"
        )
    values = values.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1)
    if bad := np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))).tolist():
        raise VectorsInvalid(
            f"{shown}: {len(bad):,} of {len(values):,} vectors hold NaN, infinity or only zeros, "
            f"the first in row {bad[0]}",
            remedy="Mend them, or take their rows out.",
        )
    return np.asarray(values / lengths[:, None], np.float32)


def _npz(path: str) -> dict[str, Any]:
    filesystem, inside = filesystem_of(path)
    with explained(path, missing=DatasetNotFound, refused=VectorsInvalid):
        try:
            with filesystem.open(inside, "rb") as file, np.load(file, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
            raise VectorsInvalid(
                f"{path} can't be read: {error}",
                remedy="Save plain arrays with numpy.savez; Python objects (pickles) are refused.",
            ) from None


def _parquet(path: str) -> dict[str, Any]:
    filesystem, inside = filesystem_of(path)
    with explained(path, missing=DatasetNotFound, refused=VectorsInvalid):
        content = filesystem.cat_file(inside)
    try:
        table = parquet.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        raise VectorsInvalid(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None
    return {name: _array(path, name, table[name]) for name in table.column_names}


def _array(path: str, name: str, column: pa.ChunkedArray) -> Any:
    """A column as it is, or as (N, length) where it holds lists of one length."""
    if not isinstance(column.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return column.to_pylist()
    lists = column.combine_chunks()
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if lists.null_count or len(lengths) != 1:
        raise VectorsInvalid(f"{path}: the lists in {name!r} are of different lengths, or missing")
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), lengths[0])


def _of_columns(path: str, columns: Mapping[str, Any]) -> GivenVectors:
    """From arrays by name to labelled vectors."""
    named = next((name for name in _VECTORS if name in columns), None)
    if named is None or _column(columns, "label") is None:
        raise VectorsInvalid(
            f"{path} holds {', '.join(columns) or 'nothing'}, but not both vectors and labels",
            remedy="Name the vectors `vectors` and their labels `label`.",
        )
    vectors = unit(columns[named], path)
    flat = {name: _texts(path, name, one) for name, one in columns.items() if name != named}
    for name, values in flat.items():
        if len(values) != len(vectors):
            raise VectorsInvalid(f"{path}: {len(vectors):,} vectors, but {len(values):,} of {name}")
    return GivenVectors(_collection(path, flat, len(vectors)), vectors, flat)


def _texts(path: str, name: str, values: Any) -> list[str | None]:
    """Labels and the like as text; whole numbers are names too."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise VectorsInvalid(f"{path}: {name} must be one value for each vector, not {array.shape}")
    return [None if _missing(one) else str(one) for one in array.tolist()]


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
        tuple(name or f"row {row}" for row, name in enumerate(names)),
        grouped_by="group" if any(groups) else "",
    )


def _slide_files(path: str) -> dict[str, str]:
    """HDF5 files at or below a folder, by name; CLAM's `h5_files` alone where there are such."""
    files = {name: uri for name, uri in files_under(path).items() if extension(name) in HDF5}
    of_clam = {name: uri for name, uri in files.items() if "h5_files/" in f"/{name}"}
    return of_clam or files


def _of_slides(path: str, files: Mapping[str, str], labels: str | None) -> GivenVectors:
    """One vector for each slide that the table of labels names."""
    if labels is None:
        raise SettingError(
            f"{path} holds features, but nothing says what the slides are",
            remedy="Give a table of slide_id and label with --labels FILE.csv.",
        )
    slides = _by_slide(path, files)
    rows = _labelled_slides(labels)
    wanted = [str(name) for name in rows["slide_id"]]
    if missing := [name for name in wanted if name not in slides]:
        raise VectorsInvalid(
            f"{labels} names {len(missing):,} slides without a file in {path}: {some_of(missing)}",
            remedy="Bring their features, or take their rows out.",
        )
    vectors = list(_slide_vectors([slides[name] for name in wanted]))
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
    return GivenVectors(collection, unit(np.stack(vectors), path), rows, about)


def _by_slide(path: str, files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """(name to show, URI) of each slide's file."""
    slides: dict[str, tuple[str, str]] = {}
    for name, uri in files.items():
        slide = posixpath.basename(name).rpartition(".")[0]
        if slide in slides:
            raise VectorsInvalid(
                f"{path} holds two files for {slide}: {slides[slide][0]} and {name}",
                remedy="Name the folder of one encoder.",
            )
        slides[slide] = (name, uri)
    return slides


def _labelled_slides(labels: str) -> dict[str, list[str | None]]:
    texts = [name for names in _NAMED.values() for name in names]
    table = read_table(labels, texts)
    if not {"slide_id", "label"} <= set(table.column_names):
        raise VectorsInvalid(f"{labels} needs the columns slide_id and label")
    columns = {name: _texts(labels, name, table[name].to_pylist()) for name in table.column_names}
    if None in columns["slide_id"] or len(set(columns["slide_id"])) < len(columns["slide_id"]):
        raise VectorsInvalid(f"{labels} has a row without a slide_id, or two of one")
    return columns


def _slide_vectors(files: Sequence[tuple[str, str]]) -> Iterator[NDArray[np.float32]]:
    for shown, uri in files:
        filesystem, inside = filesystem_of(uri)
        with explained(shown, missing=DatasetNotFound, refused=VectorsInvalid):
            features = _features(filesystem, inside, shown)
        if features.ndim == 3 and len(features) == 1:  # a batch of one, as some versions write it
            features = features[0]
        tiles = unit(features[None] if features.ndim == 1 else features, shown)
        yield tiles.mean(axis=0)


def _features(filesystem: Any, path: str, shown: str) -> NDArray[Any]:
    try:
        with filesystem.open(path, "rb") as raw, h5py.File(raw, "r") as file:
            features, coords = file[FEATURES], file.get("coords")
            values = np.asarray(features)
            if coords is not None and values.ndim > 1 and coords.shape[-2] != values.shape[-2]:
                raise VectorsInvalid(
                    f"{shown} holds {values.shape[-2]:,} features, but {coords.shape[-2]:,} coords"
                )
            return values
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise VectorsInvalid(
            f"{shown} isn't laid out as TRIDENT and CLAM write it: {error}",
            remedy="It needs an array `features` of shape (N, D).",
        ) from None
