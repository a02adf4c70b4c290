"""A folder for each class, or a manifest that says more."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from microtome.datasets.labelled import load_dataset, read_image
from microtome.errors import DatasetInvalid, DatasetNotFound, ManifestError
from support.labelled_sets import encoded, picture, write_pictures
from support.object_store import ObjectStore


def _spec(folder: Path | str) -> str:
    return f"folder:{folder}"


def test_folders_are_classes_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["b/1.png", "a/2.png", "a/deeper/3.jpg"])

    labelled = load_dataset(_spec(tmp_path))

    assert labelled.classes == ("a", "b")
    assert labelled.labels.tolist() == [0, 0, 1]
    assert labelled.splits == {"all": 3}
    assert labelled.notes == ()
    assert np.array_equal(read_image(labelled.samples.to_pylist()[2]), picture(0))


def test_train_val_and_test_folders_are_splits(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["train/a/1.png", "train/b/2.png", "test/b/3.png"])

    labelled = load_dataset(_spec(tmp_path))

    assert (labelled.classes, labelled.splits) == (("a", "b"), {"test": 1, "train": 2})
    assert labelled.split("test").labels.tolist() == [1]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "valid", "test"), ("Train", "Validation", "Testing"), ("TRAINING", "Val", "TEST")],
)
def test_splits_may_go_by_their_other_names(
    tmp_path: Path, train: str, val: str, test: str
) -> None:
    write_pictures(tmp_path, [f"{train}/a/1.png", f"{val}/b/2.png", f"{test}/b/3.png"])

    labelled = load_dataset(_spec(tmp_path))

    assert (labelled.classes, labelled.splits) == (("a", "b"), {"test": 1, "train": 1, "val": 1})


@pytest.mark.parametrize("names", [["train/a/1.png", "extra/2.png"], ["test/1.png", "b/c/2.png"]])
def test_folders_that_may_be_splits_or_classes_are_refused(
    tmp_path: Path, names: list[str]
) -> None:
    write_pictures(tmp_path, names)

    with pytest.raises(DatasetInvalid, match=r"(?s)for splits beside .*manifest\.csv"):
        load_dataset(_spec(tmp_path))


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["test/1.png", "control/2.png"])

    assert load_dataset(_spec(tmp_path)).classes == ("control", "test")


def test_what_has_no_class_is_counted_not_dropped_in_silence(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/1.png", "b/2.png", "loose.png"])
    (tmp_path / "a" / "readme.txt").write_text("no picture")
    (tmp_path / "a" / "._1.png").write_text("what macOS leaves")

    labelled = load_dataset(_spec(tmp_path))

    assert len(labelled) == 2
    assert labelled.notes == ("1 images have no label and were left out: loose.png",)


def test_a_linked_class_folder_is_followed(tmp_path: Path) -> None:
    elsewhere = write_pictures(tmp_path / "elsewhere", ["1.png"])
    write_pictures(tmp_path / "set", ["a/1.png"])
    (tmp_path / "set" / "b").symlink_to(elsewhere)

    assert load_dataset(_spec(tmp_path / "set")).classes == ("a", "b")


def test_a_manifest_says_label_group_and_split(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["1.png", "2.png", "3.png", "4.png"])
    (tmp_path / "manifest.csv").write_text(
        "path,label,group,split,sha256\n2.png,b,0012,train,ff\n1.png,a,7,test,ee\n3.png,a,8,,dd\n"
    )

    labelled = load_dataset(_spec(tmp_path))

    assert labelled.labels.tolist() == [1, 0, 0]
    assert labelled.groups == ("0012", "7", "8")
    assert labelled.splits == {"train": 1, "test": 1, "all": 1}
    assert labelled.grouped_by == "group"
    assert labelled.notes == ("1 images have no label and were left out: 4.png",)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("path,group\n1.png,a\n", "no column 'label'"),
        ("path,label\n1.png,a\ngone.png,b\n", "gone.png"),
        ("path,label\n../1.png,a\n", r"\.\./1\.png"),
        ("path,label\n1.png,\n", "1 rows have no label"),
        ("path,label\n1.png,a\n1.png,b\n", "twice"),
        ("path,label,group,split\n1.png,a,p,train\n2.png,b,p,test\n", "'p' lies in t"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path: Path, manifest: str, says: str) -> None:
    write_pictures(tmp_path, ["1.png", "2.png"])
    (tmp_path / "manifest.csv").write_text(manifest)

    with pytest.raises(DatasetInvalid, match=says):
        load_dataset(_spec(tmp_path))


def test_a_manifest_that_is_no_table_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/1.png"])
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises((ManifestError, DatasetInvalid)):
        load_dataset(_spec(tmp_path))


@pytest.mark.parametrize("names", [[], ["loose.png"]])
def test_a_folder_without_classes_says_how_it_should_lie(tmp_path: Path, names: list[str]) -> None:
    write_pictures(tmp_path, names)
    (tmp_path / "notes.txt").write_text("no picture")

    with pytest.raises(DatasetInvalid, match="one folder per class"):
        load_dataset(_spec(tmp_path))


@pytest.mark.parametrize("make", [False, True])
def test_nothing_there_is_named(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "gone").mkdir()

    with pytest.raises(DatasetNotFound, match="gone"):
        load_dataset(_spec(tmp_path / "gone"))


def test_a_bucket_is_as_good_as_a_folder(s3: ObjectStore) -> None:
    bucket = s3.bucket(
        {
            "set/a/1.png": encoded(picture(1)),
            "set/b/2.png": encoded(picture(2)),
            "set/manifest.csv": b"path,label,group\na/1.png,x,p1\nb/2.png,y,p2\n",
        }
    )

    labelled = load_dataset(_spec(f"{bucket}/set/"))

    assert (labelled.classes, labelled.groups) == (("x", "y"), ("p1", "p2"))
    assert labelled.samples["uri"][0].as_py() == f"{bucket}/set/a/1.png"
    assert np.array_equal(read_image(labelled.samples.to_pylist()[1]), picture(2))


def test_real_patches_come_with_their_patients(real_data: Path) -> None:
    labelled = load_dataset(_spec(real_data / "patches" / "breakhis100x"))

    assert (len(labelled), len(labelled.classes), len(set(labelled.groups))) == (81, 8, 27)
    assert read_image(labelled.samples.to_pylist()[0]).shape == (460, 700, 3)


def test_a_name_that_isn_t_utf_8_is_a_clear_error(tmp_path: Path) -> None:
    folder = os.fsencode(write_pictures(tmp_path, ["a/0.png", "b/0.png"]))
    os.rename(folder + b"/a/0.png", folder + b"/a/caf\xe9.png")
    with pytest.raises(DatasetInvalid, match=r"1 images .* aren't UTF-8: a/caf\\udce9.png"):
        load_dataset(_spec(tmp_path))
