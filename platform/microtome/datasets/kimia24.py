"""Kimia Path24: 24 grey scans and 1,325 test patches in one HDF5 file, as published.

The training patches are ours to cut: the scans are parted into squares as large as the test
patches, whose own places were published white, and squares that are mostly white are left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.datasets.arrays import opened_hdf5
from microtome.datasets.listing import files_under
from microtome.datasets.remembered import remembered
from microtome.datasets.samples import LabelledSet, regions_of, samples_of
from microtome.errors import DatasetError, DatasetInvalid, DatasetNotFound
from microtome.slides.listing import extension
from microtome.slides.storage import explained, is_remote, local_path

HOME: Final = "https://kimialab.uwaterloo.ca/kimia/index.php/pathology-images-kimia-path24/"
FILE: Final = "Kimia_Path24.h5"
SCANS: Final = 24
TEST_IMAGES: Final = 1_325
PATCH_PX: Final = 1_000
MPP: Final = 0.5
WHITE: Final = 220
"""Grey values above it are glass, or the place of a test patch."""
MOST_WHITE: Final = 0.5
EVERY_PX: Final = 8
"""Every eighth pixel in each direction tells how white a square is."""

_REMEDY = f"Expected {FILE} with scan0 … scan23 and test_data; it comes from {HOME}"
_PLACES = pa.schema([("scan", pa.int32()), ("x", pa.int32()), ("y", pa.int32())])


def read_kimia24(path: str) -> LabelledSet:
    """Read Kimia Path24: splits `train`, cut here, and `test`, as published.

    The first time the whole file is read through, to find the squares worth having.

    Args:
        path: the HDF5 file, or the folder or URI that holds it.

    Raises:
        DatasetNotFound: nothing lies there.
        DatasetInvalid: it is no such file.
    """
    uri = _file_at(path)
    with explained(path, missing=DatasetNotFound, refused=DatasetError):
        try:
            file = opened_hdf5(uri)
            targets = _targets(file)
            train = remembered(uri, "kimia24 1", lambda: _places(file))
        except (KeyError, ValueError) as error:
            raise DatasetInvalid(
                f"{path} isn't laid out as Kimia Path24: {error}", remedy=_REMEDY
            ) from None
    return LabelledSet(
        "Kimia Path24",
        tuple(f"s{scan}" for scan in range(SCANS)),
        pa.concat_tables([_train(uri, train), _test(uri, targets)]),
        MPP,
        home=HOME,
        notes=_notes(len(train), len(targets)),
    )


def _file_at(path: str) -> str:
    if extension(path) in {"h5", "hdf5"}:
        return path if is_remote(path) else local_path(path)
    for name, uri in files_under(path).items():
        if posixpath.basename(name) == FILE:
            return uri
    raise DatasetInvalid(f"{path} holds no {FILE}", remedy=_REMEDY)


def _targets(file: Any) -> NDArray[np.int32]:
    """Scan of each test patch, (N,) int32."""
    targets = np.asarray(file["test_data/targets"]).ravel().astype(np.int32)
    patches = file["test_data/patches"].shape[0]
    if not len(targets) or len(targets) != patches:
        raise ValueError(f"{len(targets)} targets for {patches} test patches")
    return targets


def _places(file: Any) -> pa.Table:
    """Corners of the squares of all scans that are mostly tissue."""
    places = [
        {"scan": scan, "x": x, "y": y}
        for scan in range(SCANS)
        for x, y in _tissue_squares(file[f"scan{scan}/data"])
    ]
    return pa.Table.from_pylist(places, _PLACES)


def _tissue_squares(scan: Any) -> Iterator[tuple[int, int]]:
    height, width = scan.shape
    for y in range(0, height - PATCH_PX + 1, PATCH_PX):
        # Whole rows are read and then thinned: HDF5 is slow at steps.
        white = scan[y : y + PATCH_PX][::EVERY_PX] > WHITE
        for x in range(0, width - PATCH_PX + 1, PATCH_PX):
            if white[:, x : x + PATCH_PX : EVERY_PX].mean() <= MOST_WHITE:
                yield x, y


def _train(uri: str, places: pa.Table) -> pa.Table:
    rows = len(places)
    regions = {"x": places["x"], "y": places["y"], "tile_px": [PATCH_PX] * rows}
    return samples_of(
        {
            "uri": [uri] * rows,
            "part": [f"scan{scan}/data" for scan in places["scan"].to_pylist()],
            "region": regions_of(regions),
            "label": places["scan"],
            "split": ["train"] * rows,
        }
    )


def _test(uri: str, targets: NDArray[np.int32]) -> pa.Table:
    rows = len(targets)
    return samples_of(
        {
            "uri": [uri] * rows,
            "part": ["test_data/patches"] * rows,
            "index": range(rows),
            "label": targets,
            "split": ["test"] * rows,
        }
    )


def _notes(train: int, test: int) -> tuple[str, ...]:
    cut = (
        f"the {train:,} training patches were cut here, without overlap, squares with more than "
        f"{MOST_WHITE:.0%} glass left out: the set publishes none"
    )
    same = "the class is the scan itself: it tests descriptors, not diagnosis"
    if test == TEST_IMAGES:
        return cut, same
    return cut, same, f"test holds {test:,} images, but {TEST_IMAGES:,} were published: see {HOME}"
