"""Who asks whom: the arms of a protocol.

An arm is two sides of a collection, those that ask and those that are searched, and what must never
meet: a thing and itself, two images of a patient, two of a fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microtome.errors import SettingError
from microtome.evaluation.collection import Collection, Places


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One way of asking.

    Attributes:
        name: short, for tables.
        about: a sentence that says who asks whom.
        queries: (Q,) which things ask.
        gallery: (G,) which are searched.
        apart: (N,) a number for each thing of the collection; two of one number never find each
            other. None where the sides share nothing.
    """

    name: str
    about: str
    queries: Places
    gallery: Places
    apart: Places | None = None


def by_split(collection: Collection, queries: str, gallery: str) -> Arm:
    """One published split asks another.

    Raises:
        SettingError: one of them isn't there.
    """
    there = dict.fromkeys(collection.splits)
    for name in (queries, gallery):
        if name not in there:
            raise SettingError(
                f"{collection.name} has no split {name!r}, only {', '.join(there)}",
                remedy=f"The protocol asks with {queries!r} in {gallery!r}.",
            )
    return Arm(
        f"{queries} in {gallery}",
        f"Each image of {queries} asks; only images of {gallery} are found.",
        collection.of_split(queries),
        collection.of_split(gallery),
    )


def leaving_itself(collection: Collection, thing: str = "image") -> Arm:
    """Each asks all others."""
    everything = np.arange(len(collection))
    return Arm(
        f"leave one {thing} out",
        f"Each {thing} asks all others, those of its own slide and patient too.",
        everything,
        everything,
        everything,
    )


def leaving_group(collection: Collection) -> Arm:
    """Each asks those of other groups."""
    everything = np.arange(len(collection))
    group = collection.grouped_by or "group"
    return Arm(
        f"leave one {group} out",
        f"Each image asks those of every other {group}; none of its own {group} is found.",
        everything,
        everything,
        collection.group_ids,
    )


def between_folds(folds: Places, about: str) -> Arm:
    """Each asks those of other folds, `folds` holding each one's number."""
    everything = np.arange(len(folds))
    return Arm(f"{len(np.unique(folds))} folds", about, everything, everything, folds)


def dealt_folds(collection: Collection, folds: int, seed: int) -> Places:
    """(N,) a fold of each, every class dealt out evenly, in an order drawn from the seed."""
    random = np.random.default_rng(seed)
    dealt = np.empty(len(collection), np.int64)
    start = 0
    for label in np.unique(collection.labels):
        members = random.permutation(np.flatnonzero(collection.labels == label))
        dealt[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return dealt
