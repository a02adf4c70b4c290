"""Protocols by name: what each set's figures mean, and who asks whom for them.

Each is a declaration. Its `definition` stands on every page and in every JSON document that rests
on it, so a figure never travels without its meaning. Where a published protocol can't be followed
(no patients were published, no training patches), the definition says what is done instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from microtome.datasets import kimia24, pannuke
from microtome.datasets.published import BACH, BRACS, CRC, KIMIA24C
from microtome.errors import SettingError
from microtome.evaluation.arms import (
    Arm,
    between_folds,
    by_split,
    dealt_folds,
    leaving_group,
    leaving_itself,
)
from microtome.evaluation.collection import Collection

FOLDS: Final = 5
GENERAL: Final = ("R@1", "R@5", "mAP@R", "mMV@5", "macro F1@5")
"""What the table shows unless the set's own papers report something else."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a set is asked.

    Attributes:
        name: on the command line.
        kind: of `datasets.KINDS` it is for; `atlas` for tiles of an atlas; empty for any.
        about: a line for lists.
        definition: what is done, and why where it isn't obvious.
        metrics: the table's columns, by name; JSON and page have all.
        arms: who asks whom, in a collection, with a seed; the last is the one to believe.
        published: how many images of each split that is asked or searched; empty where the set is
            anybody's, and without a split that everybody cuts anew.
        classes: how many were published; 0 where the set is anybody's.
        leaves_groups: whether it leaves groups out where each image has one.
        takes_groups: whether a user may say who belongs together.
    """

    name: str
    kind: str
    about: str
    definition: str
    metrics: tuple[str, ...]
    arms: Callable[[Collection, int], tuple[Arm, ...]]
    published: Mapping[str, int] = field(default_factory=dict)
    classes: int = 0
    leaves_groups: bool = False
    takes_groups: bool = True


def protocol_named(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise SettingError(
            f"there is no protocol {name!r}", remedy=f"There are: {', '.join(PROTOCOLS)}."
        )
    return PROTOCOLS[name]


def _test_in_train(collection: Collection, seed: int) -> tuple[Arm, ...]:
    return (by_split(collection, "test", "train"),)


def _other_folds(collection: Collection, seed: int) -> tuple[Arm, ...]:
    names = sorted(set(collection.splits))
    if len(names) < 2:
        raise SettingError(
            f"{collection.name} holds one fold, {names[0]}: there is no other to search",
            remedy="Get the other folds as well.",
        )
    folds = collection.split_ids
    return (between_folds(folds, "Each image asks those of the other published folds."),)


def _five_folds(collection: Collection, seed: int) -> tuple[Arm, ...]:
    about = f"Each image asks those of the other {FOLDS - 1} of {FOLDS} stratified folds."
    return (between_folds(dealt_folds(collection, FOLDS, seed), about),)


def _without_and_with(collection: Collection, seed: int) -> tuple[Arm, ...]:
    """Leave one image out, then, where everybody has a group, leave its group out."""
    if not can_leave_groups(collection):
        return (leaving_itself(collection),)
    return (leaving_itself(collection), leaving_group(collection))


def _without_group(collection: Collection, seed: int) -> tuple[Arm, ...]:
    return _without_and_with(collection, seed)[-1:]


def can_leave_groups(collection: Collection) -> bool:
    """Whether groups can be left out: each one has a group."""
    return collection.ungrouped == 0


_KIMIA = (
    "Each of the 1,325 test patches (1000 × 1000 px, 0.5 mm) asks the training patches, and only "
    "these. Right is a patch of its own scan, so the class is the scan: colour and scanner alone "
    "can solve it, it tests descriptors and says nothing of diagnosis. η_p = Σ_s R_s / Σ_s n_s, "
    "the share of test patches whose nearest training patch is of their scan s; "
    "η_W = (1/24) Σ_s R_s / n_s, its mean over scans; η_total = η_p · η_W (Babaie et al. 2017). "
    "The authors' script divides by predicted counts, which is precision: the formula is followed."
)

PROTOCOLS: Final[Mapping[str, Protocol]] = {
    one.name: one
    for one in (
        Protocol(
            "kimia24",
            "kimia24",
            "Kimia Path24, grey: test patches in training patches",
            f"{_KIMIA} Path24 publishes no training patches: they are cut from the scans, without "
            "overlap, squares that are mostly glass left out; test areas were published white.",
            ("eta_p", "eta_W", "eta_total", "R@5"),
            _test_in_train,
            {"test": kimia24.TEST_IMAGES},
            kimia24.SCANS,
        ),
        Protocol(
            "kimia24c",
            "kimia24c",
            "Kimia Path24C, colour: 1,325 test in 22,591 training patches",
            f"{_KIMIA} Path24C publishes both sides.",
            ("eta_p", "eta_W", "eta_total", "R@5"),
            _test_in_train,
            KIMIA24C.images,
            len(KIMIA24C.classes),
        ),
        Protocol(
            "pannuke",
            "pannuke",
            "PanNuke, 19 tissues: each published fold in the other two",
            "Right is a patch of the same tissue. Published are three folds, and for segmentation "
            "three splits of them that train on one, validate on one and test on one (Gamper et "
            "al. 2020); no retrieval protocol was. Here each fold asks the other two together, "
            "and figures are over all queries. Slides and patients were not published, so images "
            "of one may lie in several folds: the figures are upper bounds.",
            GENERAL,
            _other_folds,
            pannuke.FOLDS,
            len(pannuke.TISSUES),
            takes_groups=False,
        ),
        Protocol(
            "bracs",
            "bracs",
            "BRACS regions, 7 classes: official test in official train",
            "Each test region asks the training regions; validation regions are left aside. The "
            "published splits keep patients apart.",
            ("R@1", "R@2", "R@4", "R@8", "mAP@R", "mMV@5", "macro F1@5"),
            _test_in_train,
            {split: BRACS.images[split] for split in ("train", "test")},
            len(BRACS.classes),
        ),
        Protocol(
            "bach",
            "bach",
            f"BACH, 4 classes: {FOLDS} folds by image",
            f"{FOLDS} folds, every class dealt out evenly from the seed; each image asks the other "
            "folds. Patients were not released, so images of one may lie in several folds, and "
            "nobody outside can leave them out: the figures are upper bounds.",
            ("R@1", "R@2", "R@4", "R@8", "mAP@R", "mMV@5", "macro F1@5"),
            _five_folds,
            BACH.images,
            len(BACH.classes),
            takes_groups=False,
        ),
        Protocol(
            "crc",
            "crc",
            "extended CRC grading, 3 grades: patient left out",
            "Each image asks those of every other patient; file names say whose each is. Published "
            "work takes three folds whose composition isn't part of the set, so figures are not "
            "those of its tables.",
            ("R@1", "R@2", "R@4", "R@8", "mAP@R", "mMV@5", "macro F1@5"),
            _without_group,
            CRC.images,
            len(CRC.classes),
            leaves_groups=True,
        ),
        Protocol(
            "folder",
            "",
            "any labelled images: leave one image out, and leave one group out",
            "Each image asks all others: first with its own slide and patient among them, then "
            "without. Only the second says how well an unseen patient's tissue is found; what the "
            "first has more is images of one slide that find each other. Splits are not used.",
            GENERAL,
            _without_and_with,
            leaves_groups=True,
        ),
        Protocol(
            "atlas",
            "atlas",
            "tiles of an atlas by any column: leave one case out",
            "Each labelled tile asks the tiles of every other case (of every other slide where a "
            "slide has no case), by the vectors that the atlas holds.",
            GENERAL,
            _without_group,
            leaves_groups=True,
        ),
    )
}
"""Every protocol by its name."""
