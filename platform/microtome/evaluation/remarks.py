"""What the make-up of a collection means for the figures that are taken on it."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from microtome.datasets.samples import WHOLE
from microtome.evaluation.collection import Collection
from microtome.evaluation.protocols import Protocol, can_leave_groups

SHOWN: Final = 5


def remarks(protocol: Protocol, collection: Collection) -> tuple[str, ...]:
    """Sentences that whoever reads the figures must know."""
    return (
        *_unpublished(protocol, collection),
        *_alone(collection),
        *_cannot_leave(protocol, collection),
    )


def _unpublished(protocol: Protocol, collection: Collection) -> list[str]:
    """Where it isn't the set as it was published, whoever calls it that."""
    there = Counter(collection.splits)
    pairs = [(split, there[split], images) for split, images in protocol.published.items()]
    if protocol.classes:
        present = len(np.unique(collection.labels))
        pairs.append(("classes", present, protocol.classes))
    differ = [
        f"{'images' if what == WHOLE else what} {number:,} of {published:,}"
        for what, number, published in pairs
        if number != published
    ]
    if not differ:
        return []
    return [
        f"not the published figures of {protocol.name}, nor to be held against them: "
        f"{', '.join(differ)}"
    ]


def _alone(collection: Collection) -> list[str]:
    sizes = np.bincount(collection.labels, minlength=len(collection.classes))
    alone = [collection.classes[place] for place in np.flatnonzero(sizes == 1)]
    if not alone:
        return []
    more = f" and {len(alone) - SHOWN:,} more" if len(alone) > SHOWN else ""
    return [
        f"only one image is of {', '.join(alone[:SHOWN])}{more}: it can't find its like, and no "
        "other can find it rightly"
    ]


def _cannot_leave(protocol: Protocol, collection: Collection) -> list[str]:
    if not protocol.leaves_groups or can_leave_groups(collection):
        return []
    who = (
        "nobody says"
        if collection.ungrouped == len(collection)
        else (f"for {collection.ungrouped:,} of {len(collection):,} images nobody says")
    )
    return [
        f"{who} which slide or patient an image is of, so leaving it out is impossible: how much "
        "of these figures is images of one patient finding each other can't be told; say it with "
        "--group COLUMN or --group PATTERN"
    ]
