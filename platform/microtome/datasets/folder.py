"""Any folder of images with a subfolder for each class, or with a manifest that says more."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any, Final

import pyarrow.compute as pc

from microtome.datasets.listing import files_under, images_among, some_of
from microtome.datasets.samples import WHOLE, LabelledSet, samples_of
from microtome.errors import DatasetInvalid
from microtome.slides.tables import read_table

MANIFEST: Final = "manifest.csv"
SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Split of a folder by its name in lower case."""

_TEXTS = ("path", "label", "group", "split")
_LAYOUT = (
    "Lay it out as one folder per class, or as train, val and test of such folders, or add a "
    f"{MANIFEST} of path, label, group and split."
)


def read_folder(path: str) -> LabelledSet:
    """Read a folder-per-class tree.

    Args:
        path: folder or URI that holds one folder per class, or `train`, `val` and `test` folders of
            such folders, under any name of `SPLITS`. A `manifest.csv` in it says which images
            count: `path`, relative to the folder, and `label`, optionally `group` (slide or
            patient) and `split`.

    Returns:
        The set; classes by name.

    Raises:
        DatasetNotFound: nothing lies there.
        DatasetInvalid: no images in class folders, or nested folders of which only some are named
            as splits are, or a manifest that lacks a column or a value, or names images that are
            not there.
        ManifestError: the manifest is no CSV of texts.
    """
    files = files_under(path)
    images = images_among(files)
    rows = _from_manifest(path, files) if MANIFEST in files else _from_folders(path, images)
    if not rows:
        raise DatasetInvalid(f"no labelled image lies at {path}", remedy=_LAYOUT)
    classes = sorted({row["label"] for row in rows})
    numbers = {name: number for number, name in enumerate(classes)}
    columns: dict[str, list[Any]] = {
        "uri": [files[row["path"]] for row in rows],
        "label": [numbers[row["label"]] for row in rows],
        "group": [row["group"] for row in rows],
        "split": [row["split"] or WHOLE for row in rows],
    }
    left = images.keys() - {row["path"] for row in rows}
    return LabelledSet(
        posixpath.basename(path.rstrip("/")) or path,
        tuple(classes),
        samples_of(columns),
        grouped_by="group" if any(columns["group"]) else "",
        notes=_left_out(left),
    )


def _from_folders(path: str, images: Iterable[str]) -> list[dict[str, Any]]:
    """Path, label, group and split of the images that lie in a class folder."""
    tops = {name.split("/")[0] for name in images if "/" in name}
    splits = {top for top in tops if top.lower() in SPLITS}
    depth = 1 if splits == tops else 0
    if splits and splits < tops and any(name.count("/") > 1 for name in images):
        raise DatasetInvalid(
            f"{path} holds {some_of(sorted(splits))} as if for splits beside "
            f"{some_of(sorted(tops - splits))}",
            remedy=_LAYOUT,
        )
    return [
        {
            "path": name,
            "label": parts[depth],
            "group": None,
            "split": SPLITS[parts[0].lower()] if depth else None,
        }
        for name in images
        if len(parts := name.split("/")) > depth + 1
    ]


def _from_manifest(path: str, files: Iterable[str]) -> list[dict[str, Any]]:
    shown = posixpath.join(path, MANIFEST)
    table = read_table(shown, _TEXTS)
    for name in ("path", "label"):
        if name not in table.column_names:
            raise DatasetInvalid(f"{shown} has no column {name!r}", remedy=_LAYOUT)
        if nulls := table[name].null_count:
            raise DatasetInvalid(
                f"{shown}: {nulls} rows have no {name}", remedy="Fill them in, or take them out."
            )
    missing = set(table["path"].to_pylist()).difference(files)
    if missing:
        raise DatasetInvalid(
            f"{shown} names {len(missing):,} images that aren't there: {some_of(sorted(missing))}",
            remedy="Bring them, or take their rows out.",
        )
    if len(pc.unique(table["path"])) < len(table):
        raise DatasetInvalid(f"{shown} names an image twice", remedy="Keep one row of each.")
    empty: dict[str, Any] = dict.fromkeys(_TEXTS)
    return [empty | row for row in table.select(set(_TEXTS) & {*table.column_names}).to_pylist()]


def _left_out(names: Iterable[str]) -> tuple[str, ...]:
    names = sorted(names)
    if not names:
        return ()
    return (f"{len(names):,} images have no label and were left out: {some_of(names)}",)
