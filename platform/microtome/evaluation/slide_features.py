"""Slides' features in HDF5, as TRIDENT and CLAM write them.

TRIDENT writes `features_<encoder>/<slide>.h5`, and slides' own vectors (D,) to
`slide_features_<encoder>`; CLAM writes `h5_files/<slide>.h5` beside `pt_files`: those are pickles,
never read. A slide's tiles become one vector: each set to unit length, then their mean.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from microtome.datasets.listing import files_under, printable
from microtome.errors import DatasetNotFound, VectorsInvalid
from microtome.evaluation.cosines import directions
from microtome.slides.listing import extension
from microtome.slides.storage import explained, filesystem_of

HDF5: Final = frozenset({"h5", "hdf5"})
FEATURES: Final = "features"


def slide_files(path: str) -> dict[str, tuple[str, str]]:
    """(name to show, URI) of the files of slides, by slide.

    Args:
        path: one file, or a folder; where that holds CLAM's `h5_files`, those alone.

    Raises:
        VectorsInvalid: two files are of one slide.
        DatasetNotFound: nothing lies there.
    """
    if extension(path) in HDF5:
        files = {posixpath.basename(path): path}
    else:
        files = {name: uri for name, uri in files_under(path).items() if extension(name) in HDF5}
        of_clam = {name: uri for name, uri in files.items() if "h5_files/" in f"/{name}"}
        files = of_clam or files
    return _by_slide(path, files)


def _by_slide(path: str, files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """(name to show, URI) of each slide's file."""
    slides: dict[str, tuple[str, str]] = {}
    for name, uri in ((printable(name), uri) for name, uri in files.items()):
        slide = posixpath.basename(name).rpartition(".")[0]
        if slide in slides:
            raise VectorsInvalid(
                f"{path} holds two files for {slide}: {slides[slide][0]} and {name}",
                remedy="Name the folder of one encoder.",
            )
        slides[slide] = (name, uri)
    return slides


def slide_vector(shown: str, uri: str) -> NDArray[np.float32]:
    """(D,) the mean of a slide's vectors, each of unit length.

    Raises:
        VectorsInvalid: it isn't laid out so, or holds what has no direction.
        DatasetNotFound: it is gone.
    """
    filesystem, inside = filesystem_of(uri)
    with explained(shown, missing=DatasetNotFound, refused=VectorsInvalid):
        features = _features(filesystem, inside, shown)
    if features.ndim == 3 and len(features) == 1:  # a batch of one, as some versions write it
        features = features[0]
    tiles = directions(features[None] if features.ndim == 1 else features, shown)
    mean: NDArray[np.float32] = tiles.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _features(filesystem: Any, path: str, shown: str) -> NDArray[Any]:
    try:
        with filesystem.open(path, "rb") as raw, h5py.File(raw, "r") as file:
            values = np.asarray(file[FEATURES])
            _check_coords(file.get("coords"), values, shown)
            return values
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise VectorsInvalid(
            f"{shown} isn't laid out as TRIDENT and CLAM write it: {error}",
            remedy="It needs an array `features` of shape (N, D).",
        ) from None


def _check_coords(coords: Any, features: NDArray[Any], shown: str) -> None:
    """A place for each vector, where there are any: else the file is of something else."""
    if coords is None or features.ndim < 2:
        return
    if not isinstance(coords, h5py.Dataset) or coords.ndim < 2:
        raise VectorsInvalid(f"{shown}: coords must be an array of shape (N, 2)")
    if coords.shape[-2] != features.shape[-2]:
        raise VectorsInvalid(
            f"{shown} holds {features.shape[-2]:,} features, but {coords.shape[-2]:,} coords"
        )
