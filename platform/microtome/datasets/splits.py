"""Part a labelled set in two, no slide or patient on both sides.

Stratified as well as whole groups allow: groups are dealt out largest first, each to the side that
is then nearer to its share of every class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microtome.datasets.samples import LabelledSet
from microtome.errors import SettingError, SplitImpossible

SHOWN = 5


def split_by_group(
    labelled: LabelledSet, fraction: float, seed: int
) -> tuple[LabelledSet, LabelledSet]:
    """Part a set into one to learn from and one to hold out.

    Without group ids the images are dealt out one by one, which both sides' notes say.

    Args:
        labelled: the set.
        fraction: of each class to hold out, in (0, 1).
        seed: same seed, same split.

    Returns:
        The rest, and about `fraction` of the images held out; no group on both sides. Classes that
        one side lacks are named in both sides' notes.

    Raises:
        SettingError: the fraction leaves one side empty.
        SplitImpossible: one group holds everything, or only some images have a group.
    """
    if not 0 < fraction < 1:
        raise SettingError(f"the fraction to hold out must lie between 0 and 1, not {fraction!r}")
    random = np.random.default_rng(seed)
    if labelled.samples["group"].null_count == len(labelled):
        held = _by_image(labelled.labels, fraction, random)
        notes = [
            f"{labelled.name} has no group ids: it was parted image by image, so images of "
            "one slide or patient may lie on both sides"
        ]
    else:
        held = _by_group(labelled, fraction, random)
        notes = []
    notes += _lacking(labelled, held)
    rest, out = (labelled.take(np.flatnonzero(side)) for side in (~held, held))
    return rest.noted(*notes), out.noted(*notes)


def _by_image(
    labels: NDArray[np.int64], fraction: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Whether each image is held out: `fraction` of every class; no side stays empty."""
    if len(labels) < 2:
        raise SplitImpossible("one image can't be parted", remedy="Bring more images.")
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        held[members[: round(fraction * len(members))]] = True
    if held.all() or not held.any():
        held[random.integers(len(labels))] ^= True
    return held


def _by_group(
    labelled: LabelledSet, fraction: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Whether each image is held out, whole groups at a time."""
    groups = labelled.samples["group"].combine_chunks()
    if groups.null_count:
        raise SplitImpossible(
            f"{groups.null_count} of the {len(labelled)} images of {labelled.name} have no group",
            remedy="Give every image a group, or none.",
        )
    encoded = groups.dictionary_encode()
    members = np.asarray(encoded.indices)
    if len(encoded.dictionary) < 2:
        raise SplitImpossible(
            f"all images of {labelled.name} are of one group, {encoded.dictionary[0].as_py()}",
            remedy="Bring a second slide or patient: nothing can be held out of one.",
        )
    counts = np.zeros((len(encoded.dictionary), len(labelled.classes)))
    np.add.at(counts, (members, labelled.labels), 1)
    return np.asarray(_deal(counts, fraction, random)[members])


def _deal(
    counts: NDArray[np.float64], fraction: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Which groups are held out.

    Args:
        counts: (groups, classes) images.
        fraction: wanted share of each class.
        random: breaks ties of size.
    """
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # a rare class weighs as much as a common
    order = random.permutation(len(shares))
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    missing = np.where(counts.sum(axis=0) > 0, fraction, 0.0)
    held = np.zeros(len(shares), bool)
    for group in order:
        after = missing - shares[group]
        if (after**2).sum() < (missing**2).sum():
            held[group], missing = True, after
    if held.all():
        held[order[-1]] = False
    if not held.any():  # every group is larger than the fraction: the smallest comes nearest
        held[order[-1]] = True
    return held


def _lacking(labelled: LabelledSet, held: NDArray[np.bool_]) -> list[str]:
    """What to say of classes that lie wholly on one side."""
    present = set(labelled.labels)
    found = {"held out": set(labelled.labels[held]), "learnt from": set(labelled.labels[~held])}
    return [
        f"no image is {side} of {_named(labelled, sorted(present - labels))}"
        for side, labels in found.items()
        if present - labels
    ]


def _named(labelled: LabelledSet, labels: list[int]) -> str:
    names = [labelled.classes[label] for label in labels[:SHOWN]]
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(names) + more + ": its groups are too few or too large"
