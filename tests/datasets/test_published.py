"""Published sets whose paths say label, group and split."""

from __future__ import annotations

from pathlib import Path

import pytest

from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.errors import DatasetInvalid, SettingError
from support.labelled_sets import write_pictures


def _read(kind: str, folder: Path, *names: str) -> LabelledSet:
    return load_dataset(f"{kind}:{write_pictures(folder, names)}")


# kind, a path as published; the class, group and split it means
PATHS = [
    ("kimia24c", "Training patches--1/s10/s10_3.jpg", "s10", None, "train"),
    ("kimia24c", "training-part2/Training/s3/3.jpg", "s3", None, "train"),
    ("kimia24c", "Test patches/s0/1.jpg", "s0", None, "test"),
    ("kimia24c", "KIMIA_Path24C/Test-patches/23/1.jpg", "s23", None, "test"),
    ("bracs", "BRACS_RoI/latest_version/train/0_N/BRACS_264_N_5.png", "N", "264", "train"),
    ("bracs", "latest_version/val/2_UDH/BRACS_1494_UDH_1.png", "UDH", "1494", "val"),
    ("bracs", "test/6_IC/BRACS_1003691_IC_12.png", "IC", "1003691", "test"),
    ("crc", "Original_Images/Grade1_Patient_157_5.png", "normal", "157", "all"),
    ("crc", "a/Grade2_Patient_007_029810_066073.png", "low grade", "007", "all"),
    ("crc", "Grade3_Patient_039_080185_016871.png", "high grade", "039", "all"),
    ("bach", "ICIAR2018_BACH_Challenge/Photos/InSitu/is001.tif", "InSitu", None, "all"),
    ("bach", "Photos/Normal/n100.tif", "Normal", None, "all"),
]


@pytest.mark.parametrize(("kind", "path", "label", "group", "split"), PATHS)
def test_a_published_path_means_this(
    tmp_path: Path, kind: str, path: str, label: str, group: str | None, split: str
) -> None:
    labelled = _read(kind, tmp_path, path)

    assert labelled.classes[labelled.labels[0]] == label
    assert labelled.groups == (group,)
    assert list(labelled.splits) == [split]


# kind: classes in the order of their labels, µm per pixel, what a group is
@pytest.mark.parametrize(
    ("kind", "path", "classes", "mpp", "grouped_by"),
    [
        ("kimia24c", PATHS[0][1], [f"s{scan}" for scan in range(24)], 0.5, ""),
        ("bracs", PATHS[4][1], ["N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC"], 0.25, "slide"),
        ("crc", PATHS[7][1], ["normal", "low grade", "high grade"], None, "patient"),
        ("bach", PATHS[10][1], ["Normal", "Benign", "InSitu", "Invasive"], 0.42, ""),
    ],
)
def test_a_set_has_its_classes_even_in_a_part_of_it(
    tmp_path: Path, kind: str, path: str, classes: list[str], mpp: float | None, grouped_by: str
) -> None:
    labelled = _read(kind, tmp_path, path)

    assert labelled.classes == tuple(classes)
    assert (labelled.mpp, labelled.grouped_by) == (mpp, grouped_by)
    assert any("no image is of" in note for note in labelled.notes)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("kimia24c", ["train holds 1 of 22,591", "test holds 0 of 1,325"]),
        ("bracs", ["train holds 1 of 3,657", "val holds 0 of 312", "test holds 0 of 570"]),
        ("crc", ["all holds 1 of 300"]),
        ("bach", ["all holds 1 of 400"]),
    ],
)
def test_what_is_missing_is_said_with_where_to_get_it(
    tmp_path: Path, kind: str, missing: list[str]
) -> None:
    path = next(path for one, path, *_ in PATHS if one == kind)

    labelled = _read(kind, tmp_path, path)

    for said in missing:
        assert any(note.startswith(said) and labelled.home in note for note in labelled.notes)


def test_more_images_than_were_published_are_said(tmp_path: Path) -> None:
    names = [f"Photos/Benign/b{number:03}.tif" for number in range(401)]

    notes = _read("bach", tmp_path, *names).notes

    assert "all holds 401 images, but 400 were published" in notes


def test_images_that_follow_no_rule_are_counted(tmp_path: Path) -> None:
    labelled = _read("bach", tmp_path, "Photos/Benign/b001.tif", "TestDataset/Photos/test0.tif")

    assert len(labelled) == 1
    assert any("1 images don't follow" in note and "test0.tif" in note for note in labelled.notes)


def test_a_folder_that_is_no_class_of_the_set_is_counted(tmp_path: Path) -> None:
    odd = "train/3_ADH/BRACS_1_ADH_1.png"

    labelled = _read("bracs", tmp_path, "train/4_ADH/BRACS_2_ADH_1.png", odd)

    assert len(labelled) == 1
    assert any("1 images don't follow" in note and odd in note for note in labelled.notes)


@pytest.mark.parametrize("kind", ["kimia24c", "bracs", "crc", "bach"])
def test_another_set_is_refused_with_layout_and_home(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetInvalid, match=r"Expected .*https://"):
        _read(kind, tmp_path, "a/1.png")


@pytest.mark.parametrize("spec", ["", "folder", "folder:", "imagenette:/data", ":x", "/data/a"])
def test_a_spec_that_names_no_set_is_refused_with_those_there_are(spec: str) -> None:
    with pytest.raises(SettingError, match="folder, imagenet, pannuke"):
        load_dataset(spec)


def test_a_slide_in_two_splits_is_leakage_and_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="'264' lies in"):
        _read("bracs", tmp_path, "train/0_N/BRACS_264_N_1.png", "test/1_PB/BRACS_264_PB_1.png")
