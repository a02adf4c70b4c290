"""Before anything is embedded or judged: who asks whom, and is there anything to be found?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.errors import NothingToFind
from microtome.evaluation.arms import Arm
from microtome.evaluation.collection import Collection
from microtome.evaluation.left_out import LeftOut, findable
from microtome.evaluation.protocols import Protocol

MOST_K: Final = 1000
"""Neighbours of every query are held in memory: 12 bytes each, 12 GB of a million queries."""


def check_ks(ks: Sequence[int]) -> None:
    """Raise `SettingError` unless each is a whole number from 1 to `MOST_K`."""
    for k in ks:
        check_whole("k", k, least=1, most=MOST_K)


def planned(protocol: Protocol, collection: Collection, seed: int) -> tuple[Arm, ...]:
    """The arms of a protocol, each of which has something to find.

    Raises:
        SettingError: the collection lacks a split, or the seed is no whole number from 0.
        NothingToFind: no query may find anything, or none anything of its class.
    """
    check_whole("seed", seed, least=0)
    arms = protocol.arms(collection, seed)
    for arm in arms:
        _check_findable(collection, arm)
    return arms


def left_out_of(arm: Arm) -> LeftOut | None:
    """What the queries of an arm may not find."""
    if arm.apart is None:
        return None
    return LeftOut(arm.apart[arm.queries], arm.apart[arm.gallery])


def findable_in(collection: Collection, arm: Arm) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Q,) each: how many of its class a query may find, and how many at all."""
    left_out = left_out_of(arm)
    asked, found = collection.labels[arm.queries], collection.labels[arm.gallery]
    anything = findable(np.zeros_like(asked), np.zeros_like(found), left_out)
    return findable(asked, found, left_out), anything


def _check_findable(collection: Collection, arm: Arm) -> None:
    of_class, anything = findable_in(collection, arm)
    if not anything.any():
        raise NothingToFind(
            f"{arm.name}: nothing is left to search: all {len(collection):,} of {collection.name} "
            f"are of one {collection.grouped_by or 'group'}",
            remedy="Bring a second one, or group by something finer with --group.",
        )
    if not of_class.any():
        raise NothingToFind(
            f"{arm.name}: none of the {len(of_class):,} queries has an image of its class to find",
            remedy="Each class needs images on both sides, or of two groups.",
        )
