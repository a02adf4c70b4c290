"""Sets published as image files whose paths say label, group and split.

Each is a declaration: how its paths are written and how many images its authors published. What a
copy lacks is said in the set's notes; files that don't follow the naming are counted there too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from microtome.datasets.listing import files_under, images_among, some_of
from microtome.datasets.samples import WHOLE, LabelledSet, samples_of
from microtome.errors import DatasetInvalid


@dataclass(frozen=True, slots=True)
class Published:
    """How a set is laid out.

    Attributes:
        name: of the set.
        home: where to get it.
        layout: how a path looks, for people.
        path: what a path relative to the set's folder matches; its groups `label`, `split` and
            `group` are what they say, the last two optional.
        classes: class names, by what `label` matches in lower case; in the order of the labels.
        images: how many images were published, by split.
        splits: name of each split by what `split` matches, in lower case.
        grouped_by: what `group` is.
        mpp: µm per pixel as published.
        notes: what everybody who uses the set must know.
    """

    name: str
    home: str
    layout: str
    path: str
    classes: Mapping[str, str]
    images: Mapping[str, int]
    splits: Mapping[str, str] = field(default_factory=dict)
    grouped_by: str = ""
    mpp: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """Where to get the set, and how it must lie."""
        return f"Expected {self.layout}; the set comes from {self.home}"

    def read(self, path: str) -> LabelledSet:
        """Read the set.

        Args:
            path: folder or URI of the unpacked set, or any folder above it.

        Raises:
            DatasetNotFound: nothing lies there.
            DatasetInvalid: no file there is named as the set's images are.
        """
        images = images_among(files_under(path))
        found = {name: match for name in images if (match := self._match(name))}
        if not found:
            raise DatasetInvalid(f"no image of {self.name} lies at {path}", remedy=self.remedy)
        numbers = {label: number for number, label in enumerate(self.classes)}
        labels = [numbers[match["label"].lower()] for match in found.values()]
        splits = [self._split(match) for match in found.values()]
        columns = {
            "uri": [images[name] for name in found],
            "label": labels,
            "split": splits,
            "group": [match.groupdict().get("group") for match in found.values()],
        }
        return LabelledSet(
            self.name,
            tuple(self.classes.values()),
            samples_of(columns),
            self.mpp,
            self.grouped_by,
            self.home,
            (
                *self.notes,
                *self._missing(Counter(splits)),
                *self._empty(set(labels)),
                *_strangers([name for name in images if name not in found]),
            ),
        )

    def _match(self, name: str) -> re.Match[str] | None:
        match = re.fullmatch(self.path, name)
        return match if match and match["label"].lower() in self.classes else None

    def _split(self, match: re.Match[str]) -> str:
        written = match.groupdict().get("split")
        return self.splits[written.lower()] if written else WHOLE

    def _missing(self, counted: Counter[str]) -> list[str]:
        """What to say of splits that aren't as large as they were published."""
        return [
            f"{split} holds {counted[split]:,} of {images:,} images: get the rest from {self.home}"
            if counted[split] < images
            else f"{split} holds {counted[split]:,} images, but {images:,} were published"
            for split, images in self.images.items()
            if counted[split] != images
        ]

    def _empty(self, labels: set[int]) -> list[str]:
        names = list(self.classes.values())
        lacking = [name for number, name in enumerate(names) if number not in labels]
        return [f"no image is of {', '.join(lacking)}"] if lacking else []


def _strangers(names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names):,} images don't follow the set's naming, left out: {some_of(names)}"]


_ANYWHERE = r"(?:.*/)?"

KIMIA24C = Published(
    name="Kimia Path24C",
    home="https://kimialab.uwaterloo.ca/kimia/index.php/pathology-images-kimia-path24/",
    layout="folders Training… and Test…, in each s0 … s23 with one scan's patches",
    path=rf"(?i){_ANYWHERE}(?P<split>train|test)[^/]*/{_ANYWHERE}s?(?P<label>1?\d|2[0-3])/[^/]+",
    classes={str(scan): f"s{scan}" for scan in range(24)},
    images={"train": 22_591, "test": 1_325},
    splits={"train": "train", "test": "test"},
    mpp=0.5,
    notes=(
        "the class is the scan itself, so colour and scanner alone can solve it: it tests "
        "descriptors, not diagnosis",
    ),
)

BRACS = Published(
    name="BRACS regions of interest",
    home="https://www.bracs.icar.cnr.it/download/",
    layout="BRACS_RoI/latest_version/{train,val,test}/{0_N … 6_IC}/BRACS_<slide>_<class>_<n>.png",
    path=rf"{_ANYWHERE}(?P<split>train|val|test)/(?P<label>[0-6]_[A-Z]+)/"
    r"BRACS_(?P<group>\d+)_[^/]+\.png",
    classes={
        "0_n": "N",
        "1_pb": "PB",
        "2_udh": "UDH",
        "3_fea": "FEA",
        "4_adh": "ADH",
        "5_dcis": "DCIS",
        "6_ic": "IC",
    },
    images={"train": 3_657, "val": 312, "test": 570},
    splits={"train": "train", "val": "val", "test": "test"},
    grouped_by="slide",
    mpp=0.25,
    notes=(
        "groups are slides: file names don't say which slides are of one patient; the published "
        "splits keep patients apart",
    ),
)

CRC = Published(
    name="Extended CRC grading",
    home="https://warwick.ac.uk/fac/cross_fac/tia/data/extended_crc_grading/",
    layout="Grade<1–3>_Patient_<number>_….png in any folders",
    path=rf"(?i){_ANYWHERE}grade(?P<label>[123])_patient_(?P<group>\d+)(?:_[^/]+)?\.[a-z]+",
    classes={"1": "normal", "2": "low grade", "3": "high grade"},
    images={WHOLE: 300},
    grouped_by="patient",
    notes=("published at 20×; nobody says how large a pixel is",),
)

BACH = Published(
    name="BACH (ICIAR 2018)",
    home="https://zenodo.org/records/3632035",
    layout="ICIAR2018_BACH_Challenge/Photos/{Normal,Benign,InSitu,Invasive}/<name>.tif",
    path=rf"{_ANYWHERE}(?P<label>Normal|Benign|InSitu|Invasive)/[^/]+\.tif",
    classes={"normal": "Normal", "benign": "Benign", "insitu": "InSitu", "invasive": "Invasive"},
    images={WHOLE: 400},
    mpp=0.42,
    notes=("patients were not published, so images of one may lie on both sides of a split",),
)
