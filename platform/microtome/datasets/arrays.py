"""Images that lie many to a file: rows of a `.npy` file, and arrays of an HDF5 file.

A row of a `.npy` file is read by its byte range, so a file of gigabytes costs one row's bytes, on a
disk as in a store.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microtome.slides.slide import Pixels
from microtome.slides.storage import filesystem_of, is_remote, local_path


class Layout(NamedTuple):
    """What the header of a `.npy` file says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    """Where the first row begins, in bytes."""


@lru_cache(maxsize=256)
def npy_layout(uri: str) -> Layout:
    """Read the header of a `.npy` file.

    Raises:
        ValueError: no `.npy` file, one that is cut short, of Python objects or stored by columns.
        OSError: or a store's own error, where it can't be read.
    """
    filesystem, path = filesystem_of(uri)
    with filesystem.open(path, "rb", block_size=4096) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, dtype = read(file)
        if by_columns or dtype.hasobject or not shape:
            raise ValueError("objects, or stored by columns")
        layout = Layout(shape, dtype, file.tell())
    if filesystem.size(path) < layout.start + math.prod(shape) * dtype.itemsize:
        raise ValueError("cut short")
    return layout


def npy_row(uri: str, index: int) -> NDArray[Any]:
    """One row of a `.npy` file.

    Raises:
        ValueError, OSError: see `npy_layout`; the row is not there, or cut short.
    """
    layout = npy_layout(uri)
    if not 0 <= index < layout.shape[0]:
        raise ValueError(f"no row {index}")
    size = math.prod(layout.shape[1:]) * layout.dtype.itemsize
    start = layout.start + index * size
    filesystem, path = filesystem_of(uri)
    data = filesystem.cat_file(path, start=start, end=start + size)
    return np.frombuffer(data, layout.dtype).reshape(layout.shape[1:])


def npy_whole(uri: str) -> NDArray[Any]:
    """A small `.npy` file as a whole; never a pickle.

    Raises:
        ValueError, OSError: it can't be read.
    """
    filesystem, path = filesystem_of(uri)
    with filesystem.open(path, "rb") as file:
        return np.asarray(np.load(file, allow_pickle=False))


@lru_cache(maxsize=4)
def opened_hdf5(uri: str) -> Any:
    """An HDF5 file, open for reading and kept open by this process; an `h5py.File`.

    Raises:
        OSError: or a store's own error, where it can't be read or is no HDF5 file.
    """
    import h5py

    if not is_remote(uri):
        return h5py.File(local_path(uri), "r")
    filesystem, path = filesystem_of(uri)
    return h5py.File(filesystem.open(path, "rb"), "r")


def as_rgb(values: NDArray[Any]) -> Pixels:
    """Grey or RGB values from 0 to 255, of any number type, as (H, W, 3) uint8.

    Raises:
        ValueError: another shape, no real numbers, or values outside 0–255.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"{values.dtype} is no type of grey or RGB values")
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"shape {values.shape}")
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if not (values.min() >= 0 and values.max() <= 255):  # NaN fails too
        raise ValueError("values outside 0–255")
    return np.asarray(np.rint(values), np.uint8)
