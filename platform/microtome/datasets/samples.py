"""What a labelled set is: an Arrow table of samples, its classes, and what belongs together.

A sample is one row that says where an image's bytes lie, never the bytes. So a set of a million
images loads in seconds and travels to any worker, where `read_image` reads a row's picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.errors import DatasetInvalid, SettingError

WHOLE: Final = "all"
"""The split of a set that was published without splits."""

REGION: Final = pa.struct(
    [
        pa.field("x", pa.int32()),
        pa.field("y", pa.int32()),
        pa.field("tile_px", pa.int32()),
        pa.field("mpp", pa.float64()),
        pa.field("slide_mpp", pa.float64()),
        pa.field("content_id", pa.string()),
    ]
)
"""A square of a slide: corner in level-0 px, then the side and the µm per pixel it is read at, the
slide's own µm per level-0 pixel and its content id. Of a scan in an array: corner and side in its
pixels, the rest null."""

SAMPLES: Final = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),
        pa.field("index", pa.int64()),
        pa.field("part", pa.string()),
        pa.field("region", REGION),
        pa.field("bgr", pa.bool_()),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""One row per image; null is what a sample doesn't need.

| column            | meaning                                                                      |
|-------------------|------------------------------------------------------------------------------|
| `uri`             | file that holds the image: absolute path or fsspec URI                       |
| `offset`, `size`  | the image file's bytes within it, where `uri` is a tar archive               |
| `index`           | the image's number, where `uri` is a `.npy` or HDF5 file of many             |
| `part`            | name of the array within an HDF5 file                                        |
| `region`          | the square to read, where `uri` is a slide or `part` a whole scan            |
| `bgr`             | true where the file holds red and blue swapped; `read_image` mends it        |
| `label`           | index into the set's classes                                                 |
| `group`           | slide or patient: images of one group never part                             |
| `split`           | as published; `all` where there are no splits                                |
"""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Labelled images, in a fixed order.

    Attributes:
        name: of the set, as people know it.
        classes: name of each class; a label is an index into them.
        samples: columns of `SAMPLES`.
        mpp: µm per pixel of its images; None where they vary, or nobody says.
        grouped_by: what a group is (`patient`, `slide` …); empty where nobody says who belongs
            together.
        home: where it comes from.
        notes: what whoever uses it must know: what is missing, what was left out, what was assumed.

    Raises:
        DatasetInvalid: no images, other columns, a label that names no class, or a group that
            lies in two splits.
    """

    name: str
    classes: tuple[str, ...]
    samples: pa.Table
    mpp: float | None = None
    grouped_by: str = ""
    home: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples.schema.equals(SAMPLES):
            raise DatasetInvalid(f"the samples of {self.name} have other columns than SAMPLES")
        if not len(self.samples):
            raise DatasetInvalid(f"{self.name} holds no images")
        span = pc.min_max(self.samples["label"]).as_py()
        if span["min"] < 0 or span["max"] >= len(self.classes):
            raise DatasetInvalid(
                f"{self.name} has labels from {span['min']} to {span['max']}, but "
                f"{len(self.classes)} classes"
            )
        self._check_splits()

    def _check_splits(self) -> None:
        """No slide or patient is learnt from in one split and asked about in another."""
        if len(self.splits) == 1:
            return
        grouped = self.samples.filter(pc.is_valid(self.samples["group"]))
        pairs = grouped.group_by(["group", "split"]).aggregate([])
        twice = pairs.group_by("group").aggregate([("split", "list")])
        for row in twice.to_pylist():
            if len(row["split_list"]) > 1:
                raise DatasetInvalid(
                    f"{self.name}: {row['group']!r} lies in {' and '.join(row['split_list'])}",
                    remedy="Put each group into one split, or name no splits and part the set by "
                    "its groups.",
                )

    def __len__(self) -> int:
        return int(self.samples.num_rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each image, (N,) int64."""
        return np.asarray(self.samples["label"].to_numpy(), np.int64)

    @property
    def groups(self) -> tuple[str | None, ...]:
        """Slide or patient of each image; None where nobody says."""
        return tuple(self.samples["group"].to_pylist())

    @property
    def splits(self) -> dict[str, int]:
        """How many images each split holds, in order of appearance."""
        counted = pc.value_counts(self.samples["split"]).to_pylist()
        return {row["values"]: row["counts"] for row in counted}

    def split(self, name: str) -> Self:
        """The images of one split, all classes kept.

        Raises:
            SettingError: there is no such split.
        """
        if name not in self.splits:
            raise SettingError(
                f"{self.name} has no split {name!r}, only {', '.join(self.splits)}",
                remedy="Choose one of them, or part the set by its groups."
                + (f" The set comes from {self.home}" if self.home else ""),
            )
        return replace(self, samples=self.samples.filter(pc.equal(self.samples["split"], name)))

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Self:
        """The images at `indices`, in that order, all classes kept."""
        return replace(self, samples=self.samples.take(pa.array(np.asarray(indices, np.int64))))

    def noted(self, *notes: str) -> Self:
        """The same set with more to know about it."""
        return replace(self, notes=(*self.notes, *notes))


def samples_of(columns: Mapping[str, Any]) -> pa.Table:
    """A table of `SAMPLES` from some of its columns, arrays or lists; the others are null.

    Without `split` every sample is of the split `all`.
    """
    rows = len(columns["uri"])
    given = {"split": pa.repeat(pa.scalar(WHOLE), rows), **columns}
    return pa.table([_column(given, field, rows) for field in SAMPLES], schema=SAMPLES)


def regions_of(columns: Mapping[str, Any]) -> pa.StructArray:
    """An array of `REGION` from some of its fields, arrays or lists; the others are null."""
    rows = len(columns["x"])
    fields = [_column(columns, field, rows) for field in REGION]
    return pa.StructArray.from_arrays(fields, fields=list(REGION))


def _column(columns: Mapping[str, Any], field: pa.Field, rows: int) -> pa.Array:
    values = columns.get(field.name)
    if values is None:
        return pa.nulls(rows, field.type)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)
