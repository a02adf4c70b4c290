"""The sets that are known by name, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from microtome.datasets.folder import read_folder
from microtome.datasets.samples import LabelledSet
from microtome.errors import SettingError

READERS: Final[Mapping[str, Callable[[str], LabelledSet]]] = {"folder": read_folder}


def load_dataset(spec: str) -> LabelledSet:
    """Read a set of labelled images.

    Args:
        spec: `NAME:PATH`, the kind of set and the folder or URI where it lies.

    Raises:
        SettingError: no such kind, or no path.
        DatasetNotFound: nothing lies there.
        DatasetInvalid: what lies there isn't laid out as published.
    """
    kind, colon, path = spec.partition(":")
    if kind not in READERS or not colon or not path:
        raise SettingError(
            f"{spec!r} names no labelled set",
            remedy=f"Write KIND:PATH with one of {', '.join(READERS)}.",
        )
    return READERS[kind](path)
