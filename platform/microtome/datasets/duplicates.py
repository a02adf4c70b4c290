"""Images that are the same to the last pixel: on both sides of a split they are leakage."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from microtome.datasets.image import read_image
from microtome.datasets.samples import LabelledSet

ROWS_AT_ONCE: Final = 4096


def pixel_hashes(labelled: LabelledSet) -> list[str]:
    """SHA-256 of each image's shape and pixels, whatever file format holds them.

    Every image is read, in threads.

    Raises:
        ImageUnreadable: one can't be.
    """
    batches = labelled.samples.to_batches(max_chunksize=ROWS_AT_ONCE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [one for batch in batches for one in pool.map(_hash, batch.to_pylist())]


def duplicates(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """Which images of two sets are the same.

    Args:
        left: a hash of each image of one set, by `pixel_hashes` or from elsewhere.
        right: of the other; the same sequence to look within one set.

    Returns:
        (index in `left`, index in `right`) of each pair, in that order; within one set each pair
        once, and no image with itself.
    """
    places = defaultdict(list)
    for place, one in enumerate(right):
        places[one].append(place)
    within = left is right
    return [
        (here, there)
        for here, one in enumerate(left)
        for there in places.get(one, ())
        if not within or here < there
    ]


def _hash(sample: Mapping[str, Any]) -> str:
    pixels = read_image(sample)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
