"""Who belongs together, by column or by pattern; and what `--limit` draws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from microtome.errors import SettingError, SplitImpossible
from microtome.evaluation.collection import Collection, drawn
from microtome.evaluation.grouping import regrouped
from microtome.evaluation.protocols import PROTOCOLS
from microtome.evaluation.sources import read_images
from support.made_patches import write_patches

NAMES = ("benign/SOB_B_A-14-22549AB-100-019.png", "malignant/SOB_M_DC-14-12312-100-041.png")


def made(names: tuple[str, ...] = NAMES) -> Collection:
    labels = np.zeros(len(names), np.int64)
    return Collection("made", ("x",), labels, (None,) * len(names), ("all",) * len(names), names)


# pattern, the groups it finds, what they are called
@pytest.mark.parametrize(
    ("pattern", "groups", "called"),
    [
        (r"(?P<patient>\d+-\w+)-100-", ("14-22549AB", "14-12312"), "patient"),
        (r"-(\d+-\w+)-100-", ("14-22549AB", "14-12312"), "group"),
        (r"^\w+(?=/)", ("benign", "malignant"), "group"),
    ],
)
def test_a_pattern_finds_the_group(pattern: str, groups: tuple[str, ...], called: str) -> None:
    found = regrouped(made(), pattern, {})
    assert (found.groups, found.grouped_by) == (groups, called)


def test_a_column_is_taken_by_name() -> None:
    found = regrouped(made(), "site", {"site": [7, 8]})
    assert (found.groups, found.grouped_by) == (("7", "8"), "site")


@pytest.mark.parametrize(
    ("wanted", "error", "problem"),
    [
        ("patient", SettingError, "no column 'patient'"),
        ("(", SettingError, "no column, and no regular expression"),
        (r"_B_.*-(\d+)\.", SplitImpossible, "no group for 1 of 2: malignant/"),
        ("site", SplitImpossible, "no group for 1 of 2: benign/"),
    ],
)
def test_groups_that_don_t_cover_all_are_refused(
    wanted: str, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        regrouped(made(), wanted, {"site": [None, 8]} if wanted == "site" else {"organ": [1, 2]})


def test_any_column_of_a_manifest_can_be_the_group(tmp_path: Path) -> None:
    write_patches(tmp_path, classes=2, groups=2, per_group=1, side_px=16)
    manifest = tmp_path / "manifest.csv"
    header, *rows = manifest.read_text().splitlines()
    numbered = [f"{row},0{place % 2}" for place, row in enumerate(rows)]
    manifest.write_text("\n".join([f"{header},scanner", *numbered]) + "\n")

    found = read_images(PROTOCOLS["folder"], str(tmp_path), "scanner")

    assert (found.groups, found.grouped_by) == (("00", "01", "00", "01"), "scanner")
    with pytest.raises(SettingError, match="'site'") as caught:
        read_images(PROTOCOLS["folder"], str(tmp_path), "site")
    assert "label, group, scanner" in caught.value.remedy


def test_a_draw_keeps_every_class_and_split_in_proportion() -> None:
    labels = np.repeat([0, 1], [60, 20])
    splits = tuple("train" if place % 4 else "test" for place in range(80))
    names = tuple(str(place) for place in range(80))
    collection = Collection("made", ("a", "b"), labels, (None,) * 80, splits, names)

    places = drawn(collection, 16, seed=0)

    assert Counter((labels[place], splits[place]) for place in places.tolist()) == {
        (0, "train"): 9,
        (0, "test"): 3,
        (1, "train"): 3,
        (1, "test"): 1,
    }
    assert (places == drawn(collection, 16, seed=0)).all()
    assert (places != drawn(collection, 16, seed=1)).any()
    assert drawn(collection, 1000, seed=0).tolist() == list(range(80))
    with pytest.raises(SettingError, match="limit must be at least 2"):
        drawn(collection, 1, seed=0)
