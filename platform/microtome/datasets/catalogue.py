"""The sets that are known by name, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from microtome.datasets import imagenet, kimia24, pannuke, published
from microtome.datasets.folder import read_folder
from microtome.datasets.samples import LabelledSet
from microtome.errors import SettingError


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of set.

    Attributes:
        read: reads it from a folder or URI.
        about: what it is, in a line.
        home: where to get it; empty for one's own.
    """

    read: Callable[[str], LabelledSet]
    about: str
    home: str = ""


KINDS: Final[Mapping[str, Kind]] = {
    "folder": Kind(read_folder, "a folder per class, or images with a manifest.csv"),
    "imagenet": Kind(
        imagenet.read_imagenet, "ImageNet-1k, 1,000 classes, in its archives", imagenet.HOME
    ),
    "pannuke": Kind(pannuke.read_pannuke, "PanNuke, 19 tissues, three folds, 40×", pannuke.HOME),
    "kimia24": Kind(
        kimia24.read_kimia24, "Kimia Path24, grey patches of 24 scans, 20×", kimia24.HOME
    ),
    "kimia24c": Kind(
        published.KIMIA24C.read,
        "Kimia Path24C, colour patches of 24 scans, 20×",
        published.KIMIA24C.home,
    ),
    "bracs": Kind(
        published.BRACS.read, "BRACS, breast regions of 7 classes, 40×", published.BRACS.home
    ),
    "crc": Kind(
        published.CRC.read, "extended CRC grading, colon in 3 grades, 20×", published.CRC.home
    ),
    "bach": Kind(
        published.BACH.read, "BACH (ICIAR 2018), breast in 4 classes, 20×", published.BACH.home
    ),
}
"""Every kind of set by the name that a spec begins with."""


def load_dataset(spec: str) -> LabelledSet:
    """Read a set of labelled images.

    Args:
        spec: `KIND:PATH`, one of `KINDS` and the folder or URI where it lies. A labelled atlas is
            read by `microtome.atlas.labelled.load_labelled`, which takes these specs too.

    Raises:
        SettingError: no such kind, or no path.
        DatasetNotFound: nothing lies there.
        DatasetInvalid: what lies there isn't laid out as published.
    """
    kind, colon, path = spec.partition(":")
    if kind not in KINDS or not path:
        raise SettingError(
            f"{spec!r} names no labelled set" if colon else f"{spec!r} doesn't say what kind it is",
            remedy=f"Write KIND:PATH with one of {', '.join(KINDS)}.",
        )
    return KINDS[kind].read(path)
