"""What can be wrong with sets of labelled images."""

from __future__ import annotations

from microtome.errors.root import MicrotomeError


class DatasetError(MicrotomeError):
    """A set of labelled images can't be used."""

    cause = "dataset"


class DatasetNotFound(DatasetError):
    """Nothing lies where the set should be."""

    cause = "dataset-not-found"


class DatasetInvalid(DatasetError):
    """What lies there isn't laid out as published: something is missing or too much."""

    cause = "dataset-invalid"


class ImageUnreadable(DatasetError):
    """One image of a set is broken, gone, or no image."""

    cause = "image-unreadable"


class SplitImpossible(DatasetError):
    """A set can't be split as asked with its groups kept apart."""

    cause = "split-impossible"
