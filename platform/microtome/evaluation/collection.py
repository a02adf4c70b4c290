"""What is judged: things with a label each, kept together by slide or patient, maybe with pictures.

A set of images, the tiles of an atlas and a file of vectors all become a `Collection`, so that the
protocols know only one thing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.datasets.image import shown_name
from microtome.datasets.labelled import LabelledSet
from microtome.evaluation.left_out import group_numbers

Places = NDArray[np.int64]
"""Numbers of things within a collection."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Labelled things, in a fixed order.

    Attributes:
        name: of the whole, as its user knows it; never a path of a machine.
        classes: name of each class; a label is an index into them.
        labels: (N,) int64.
        groups: slide, case or patient of each; None where nobody says.
        splits: as published; `all` where there are none.
        names: of each, for messages and pages: file and folder, or slide.
        samples: where their pictures lie, columns of `datasets.SAMPLES`; None where there are none.
        mpp: µm per pixel of the pictures; None where they vary, or nobody says.
        grouped_by: what a group is; empty where nobody says who belongs together.
        notes: what whoever reads a result must know.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[str | None, ...]
    splits: tuple[str, ...]
    names: tuple[str, ...]
    samples: pa.Table | None = None
    mpp: float | None = None
    grouped_by: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.groups), len(self.splits), len(self.names)}
        if len(lengths) != 1:
            raise ValueError(f"labels, groups, splits and names of different lengths: {lengths}")

    @classmethod
    def of(cls, labelled: LabelledSet, name: str = "") -> Self:
        """The images of a labelled set, under another name where one is given."""
        samples = labelled.samples
        return cls(
            name or labelled.name,
            labelled.classes,
            labelled.labels,
            labelled.groups,
            tuple(samples["split"].to_pylist()),
            tuple(shown_name(row) for batch in samples.to_batches() for row in batch.to_pylist()),
            samples,
            labelled.mpp,
            labelled.grouped_by,
            labelled.notes,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ungrouped(self) -> int:
        """How many have no group."""
        return self.groups.count(None)

    @property
    def group_ids(self) -> Places:
        """(N,) number of each one's group; what has none is a group of its own."""
        return group_numbers(self.groups)

    @property
    def split_ids(self) -> Places:
        """(N,) number of each one's split, splits in alphabetical order."""
        return np.unique(self.splits, return_inverse=True)[1]

    def of_split(self, name: str) -> Places:
        """Which ones are of a split."""
        return np.flatnonzero(np.array(self.splits) == name)

    def take(self, places: Places) -> Self:
        """Those at `places`, in that order, all classes kept."""
        chosen = places.tolist()
        return replace(
            self,
            labels=self.labels[places],
            groups=tuple(self.groups[place] for place in chosen),
            splits=tuple(self.splits[place] for place in chosen),
            names=tuple(self.names[place] for place in chosen),
            samples=self.samples and self.samples.take(pa.array(places)),
        )

    def noted(self, *notes: str) -> Self:
        """The same with more to know about it."""
        return replace(self, notes=(*self.notes, *notes))

    def facts(self) -> dict[str, Any]:
        """What it is at a glance, as JSON values."""
        return {
            "name": self.name,
            "images": len(self),
            "splits": dict(Counter(self.splits)),
            "classes": {
                name: int(count)
                for name, count in zip(
                    self.classes,
                    np.bincount(self.labels, minlength=len(self.classes)),
                    strict=True,
                )
            },
            "groups": len(set(self.groups) - {None}) or None,
            "grouped_by": self.grouped_by,
            "mpp": self.mpp,
        }


def limited(collection: Collection, limit: int | None, seed: int) -> tuple[Collection, Places]:
    """At most `limit` of a collection, which says so, and their places; None for all.

    Raises:
        SettingError: see `drawn`.
    """
    if limit is None:
        return collection, np.arange(len(collection))
    places = drawn(collection, limit, seed)
    if len(places) == len(collection):
        return collection, places
    note = f"{limit:,} of {len(collection):,} were drawn: these aren't the protocol's figures"
    return collection.take(places).noted(note), places


def drawn(collection: Collection, limit: int, seed: int) -> Places:
    """At most `limit` of a collection, about the same share of every class and split.

    Returns:
        Their places, ascending.

    Raises:
        SettingError: the limit is no whole number of at least 2.
    """
    check_whole("limit", limit, least=2)
    if limit >= len(collection):
        return np.arange(len(collection))
    random = np.random.default_rng(seed)
    strata = np.unique(
        [f"{s}\0{x}" for s, x in zip(collection.splits, collection.labels, strict=True)],
        return_inverse=True,
    )[1]
    order = random.permutation(len(collection))
    # Each thing's rank within its stratum, as a share of it: the first of all strata come first.
    sizes = np.bincount(strata)
    seen = np.zeros(len(sizes))
    shares = np.empty(len(collection))
    for place in order:
        shares[place] = seen[strata[place]] / sizes[strata[place]]
        seen[strata[place]] += 1
    chosen = order[np.argsort(shares[order], kind="stable")][:limit]
    return np.sort(chosen)
