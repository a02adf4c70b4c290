"""PanNuke, as published and as PathML leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.datasets.labelled import load_dataset, read_image
from microtome.datasets.pannuke import TISSUES
from microtome.errors import DatasetInvalid
from support.labelled_sets import picture, write_pannuke
from support.object_store import ObjectStore

FOLDS = {1: ("Breast", "Adrenal_gland", "Breast"), 2: ("Bile-duct",), 3: ("HeadNeck", "Uterus")}


def test_tissue_is_the_label_and_the_fold_the_split(tmp_path: Path) -> None:
    labelled = load_dataset(f"pannuke:{write_pannuke(tmp_path, FOLDS)}")

    named = [labelled.classes[label] for label in labelled.labels]
    assert named == [tissue for tissues in FOLDS.values() for tissue in tissues]
    assert labelled.splits == {"fold1": 3, "fold2": 1, "fold3": 2}
    assert (len(labelled.classes), labelled.mpp) == (19, 0.25)
    assert any("not published" in note for note in labelled.notes)  # slides and patients


def test_pictures_are_read_in_true_colours(tmp_path: Path) -> None:
    labelled = load_dataset(f"pannuke:{write_pannuke(tmp_path, FOLDS)}")

    for sample in labelled.split("fold3").samples.to_pylist():
        assert np.array_equal(read_image(sample), picture(300 + sample["index"], 256))


def test_one_fold_is_enough_and_the_others_are_said_to_be_missing(tmp_path: Path) -> None:
    labelled = load_dataset(f"pannuke:{write_pannuke(tmp_path, {2: FOLDS[2]})}")

    assert labelled.splits == {"fold2": 1}
    assert [note.partition(":")[0] for note in labelled.notes[1:]] == [
        "fold1 holds 0 of 2,656 images",
        "fold2 holds 1 of 2,523 images",
        "fold3 holds 0 of 2,722 images",
    ]


def test_folds_in_a_store_are_read_row_by_row(s3: ObjectStore, tmp_path: Path) -> None:
    write_pannuke(tmp_path, {1: FOLDS[1]})
    files = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*.npy")}

    labelled = load_dataset(f"pannuke:{s3.bucket(files)}")

    assert np.array_equal(read_image(labelled.samples.to_pylist()[1]), picture(101, 256))


def _break(folder: Path, how: str) -> None:
    fold = folder / "Fold 1" / "images" / "fold1"
    match how:
        case "lacks types.npy":
            (fold / "types.npy").unlink()
        case "lacks images.npy":
            (fold / "images.npy").unlink()
        case "3 images, 1 type":
            np.save(fold / "types.npy", np.array(["Breast"]))
        case "Brain":
            np.save(fold / "types.npy", np.array(["Breast", "Brain", "Breast"]))
        case "pickle":
            np.save(fold / "types.npy", np.array(["a", 1, None], object), allow_pickle=True)
        case "small":
            np.save(fold / "images.npy", np.zeros((3, 64, 64, 3)))
        case "cut short":
            data = (fold / "images.npy").read_bytes()
            (fold / "images.npy").write_bytes(data[: len(data) // 2])
        case "no array":
            (fold / "images.npy").write_bytes(b"no array")


@pytest.mark.parametrize(
    "how",
    [
        "lacks types.npy",
        "lacks images.npy",
        "3 images, 1 type",
        "Brain",
        "pickle",
        "small",
        "cut short",
        "no array",
    ],
)
def test_arrays_that_don_t_fit_are_refused_with_the_set_s_home(tmp_path: Path, how: str) -> None:
    write_pannuke(tmp_path, {1: FOLDS[1]})
    _break(tmp_path, how)

    with pytest.raises(DatasetInvalid, match="https://warwick"):
        load_dataset(f"pannuke:{tmp_path}")


def test_another_folder_is_no_pannuke(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")

    with pytest.raises(DatasetInvalid, match="no fold of PanNuke"):
        load_dataset(f"pannuke:{tmp_path}")


def test_pathml_s_pictures_are_read_with_red_and_blue_mended(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, seed in {"fold2_10_Adrenal-gland": 1, "fold2_9_Breast": 2, "fold1_0_Lung": 3}.items():
        swapped = np.ascontiguousarray(picture(seed)[..., ::-1])
        Image.fromarray(swapped).save(tmp_path / "images" / f"{name}.png")

    labelled = load_dataset(f"pannuke:{tmp_path}")

    assert [TISSUES[label] for label in labelled.labels] == ["Lung", "Breast", "Adrenal_gland"]
    assert labelled.splits == {"fold1": 1, "fold2": 2}
    for sample, seed in zip(labelled.samples.to_pylist(), [3, 2, 1], strict=True):
        assert np.array_equal(read_image(sample), picture(seed))
