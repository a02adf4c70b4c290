"""PanNuke: 7,901 patches of 19 tissues in three folds, as published and as PathML leaves it.

Published, each fold is `Fold N/images/foldN/{images,types}.npy`. PathML's `PanNukeDataModule` turns
them into `images/foldN_<index>_<tissue>.png`, written with red and blue swapped; `read_image` swaps
them back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from microtome.datasets.arrays import npy_layout, npy_whole
from microtome.datasets.listing import files_under
from microtome.datasets.samples import LabelledSet, samples_of
from microtome.errors import DatasetError, DatasetInvalid
from microtome.slides.storage import explained

HOME: Final = "https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke"
MPP: Final = 0.25
FOLDS: Final = {"fold1": 2_656, "fold2": 2_523, "fold3": 2_722}
TISSUES: Final = (
    "Adrenal_gland",
    "Bile-duct",
    "Bladder",
    "Breast",
    "Cervix",
    "Colon",
    "Esophagus",
    "HeadNeck",
    "Kidney",
    "Liver",
    "Lung",
    "Ovarian",
    "Pancreatic",
    "Prostate",
    "Skin",
    "Stomach",
    "Testis",
    "Thyroid",
    "Uterus",
)
_NUMBERS = {name.replace("_", "-").lower(): number for number, name in enumerate(TISSUES)}
_NO_IDS = "slides and patients were not published: images of one may lie in several folds"
_REMEDY = f"Expected Fold N/images/foldN/images.npy and types.npy; the set comes from {HOME}"


def read_pannuke(path: str) -> LabelledSet:
    """Read PanNuke's folds: the label is the tissue, the split the fold.

    Args:
        path: folder or URI that holds `Fold 1` to `Fold 3`, or some of them; or the folder that
            PathML made of them.

    Raises:
        DatasetNotFound: nothing lies there.
        DatasetInvalid: no fold, a fold without one of its arrays, or arrays that don't fit.
    """
    files = files_under(path)
    columns = _pathml_columns(files) or _fold_columns(files, path)
    if not columns["uri"]:
        raise DatasetInvalid(f"no fold of PanNuke lies at {path}", remedy=_REMEDY)
    counted = {fold: columns["split"].count(fold) for fold in FOLDS}
    missing = [
        f"{fold} holds {counted[fold]:,} of {images:,} images: get the rest from {HOME}"
        for fold, images in FOLDS.items()
        if counted[fold] != images
    ]
    notes = (_NO_IDS, *missing)
    return LabelledSet("PanNuke", TISSUES, samples_of(columns), MPP, home=HOME, notes=notes)


def _fold_columns(files: Mapping[str, str], path: str) -> dict[str, list[Any]]:
    """Columns of `SAMPLES` from the folds as published."""
    columns: dict[str, list[Any]] = {"uri": [], "index": [], "label": [], "split": []}
    for fold in FOLDS:
        arrays = _arrays_of(fold, files, path)
        if arrays:
            labels = _labels(arrays, f"{path}, {fold}")
            columns["uri"] += [arrays["images"]] * len(labels)
            columns["index"] += range(len(labels))
            columns["label"] += labels
            columns["split"] += [fold] * len(labels)
    return columns


def _pathml_columns(files: Mapping[str, str]) -> dict[str, list[Any]]:
    """Columns of `SAMPLES` from PathML's pictures; empty where there are none."""
    pattern = r"(?:.*/)?images/(?P<fold>fold[123])_(?P<index>\d+)_(?P<tissue>[^_/]+)\.png"
    found = [(match, uri) for name, uri in files.items() if (match := re.fullmatch(pattern, name))]
    if not found:
        return {}
    found.sort(key=lambda one: (one[0]["fold"], int(one[0]["index"])))
    return {
        "uri": [uri for _, uri in found],
        "label": [tissue_number(match["tissue"]) for match, _ in found],
        "split": [match["fold"] for match, _ in found],
        "bgr": [True] * len(found),
    }


def tissue_number(name: str) -> int:
    """Label of a tissue, with `_` or `-` between its words.

    Raises:
        DatasetInvalid: PanNuke has no such tissue.
    """
    try:
        return _NUMBERS[name.replace("_", "-").lower()]
    except KeyError:
        raise DatasetInvalid(f"{name} is no tissue of PanNuke", remedy=_REMEDY) from None


def _arrays_of(fold: str, files: Mapping[str, str], path: str) -> dict[str, str]:
    """URI of a fold's `images` and `types`; empty where nothing of the fold is there."""
    pattern = rf"(?:.*/)?images/{fold}/(images|types)\.npy"
    arrays = {
        match[1]: uri for name, uri in files.items() if (match := re.fullmatch(pattern, name))
    }
    if len(arrays) == 1:
        lacking = ({"images", "types"} - arrays.keys()).pop()
        raise DatasetInvalid(f"{fold} of {path} lacks {lacking}.npy", remedy=_REMEDY)
    return arrays


def _labels(arrays: Mapping[str, str], shown: str) -> list[int]:
    try:
        with explained(shown, refused=DatasetError):
            layout, tissues = npy_layout(arrays["images"]), npy_whole(arrays["types"])
        names, numbers = np.unique(tissues.astype(str), return_inverse=True)
        if layout.shape[1:] != (256, 256, 3) or len(tissues) != layout.shape[0]:
            raise ValueError(f"images {layout.shape} and {len(tissues)} types")
        labels: list[int] = np.array([tissue_number(name) for name in names])[numbers].tolist()
    except ValueError as error:
        raise DatasetInvalid(f"{shown}: the arrays don't fit: {error}", remedy=_REMEDY) from None
    return labels
