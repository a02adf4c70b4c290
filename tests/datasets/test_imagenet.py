"""ImageNet from its archives, packed as they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microtome.datasets.labelled import LabelledSet, load_dataset, read_image
from microtome.errors import DatasetInvalid
from support.labelled_sets import SYNSETS, made_meta, picture, write_imagenet, write_kit

TRAIN, VAL, KIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)


@pytest.fixture(autouse=True)
def no_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_imagenet(tmp_path)


def _load(folder: Path) -> LabelledSet:
    return load_dataset(f"imagenet:{folder}")


def test_training_images_are_labelled_by_their_archive(folder: Path) -> None:
    train = _load(folder).split("train")

    assert train.classes == tuple(sorted(SYNSETS))
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for sample, number in zip(train.samples.to_pylist(), [1, 2] * 3, strict=True):
        assert np.array_equal(read_image(sample), picture(number))


def test_validation_images_are_labelled_by_the_kit(folder: Path) -> None:
    val = _load(folder).split("val")

    names = [val.classes[label] for label in val.labels]
    assert names == [SYNSETS[2], SYNSETS[0], SYNSETS[0], SYNSETS[1]]  # classes 3, 1, 1, 2
    assert np.array_equal(read_image(val.samples.to_pylist()[3]), picture(4))


def test_a_part_says_what_is_missing_and_where_to_get_it(folder: Path) -> None:
    (folder / VAL).unlink()
    (folder / KIT).unlink()

    labelled = _load(folder)

    assert labelled.splits == {"train": 6}
    assert [note.partition(":")[0] for note in labelled.notes] == [
        "train holds 6 of 1,281,167 images",
        "val holds 0 of 50,000 images",
    ]
    assert all("https://image-net.org" in note for note in labelled.notes)


@pytest.mark.parametrize(
    ("gone", "says"),
    [((TRAIN, VAL), "neither"), ((KIT,), f"{KIT} is missing beside {VAL}")],
)
def test_without_archives_or_their_labels_the_remedy_names_the_home(
    folder: Path, gone: tuple[str, ...], says: str
) -> None:
    for name in gone:
        (folder / name).unlink()

    with pytest.raises(DatasetInvalid, match=rf"(?s){says}.*https://image-net\.org"):
        _load(folder)


@pytest.mark.parametrize("truth", [[1, 2, 3], [1, 2, 3, 9], [1, 2, 3, 0], []])
def test_a_kit_that_doesn_t_fit_is_refused(folder: Path, truth: list[int]) -> None:
    write_kit(folder / KIT, truth)

    with pytest.raises(DatasetInvalid, match="devkit"):
        _load(folder)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08" + b"\0" * 40])
def test_a_damaged_kit_is_refused(folder: Path, content: bytes) -> None:
    (folder / KIT).write_bytes(content)

    with pytest.raises(DatasetInvalid, match="devkit"):
        _load(folder)


def test_a_kit_whose_packing_is_damaged_is_refused(folder: Path) -> None:
    content = bytearray((folder / KIT).read_bytes())
    content[-8] ^= 1  # of the checksum, which stands at the end
    (folder / KIT).write_bytes(content)

    with pytest.raises(DatasetInvalid, match=r"devkit.*CRC"):
        _load(folder)


V73 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(300)


@pytest.mark.parametrize("meta", [b"", b"MATLAB 5.0", V73, made_meta()[:150]])
def test_a_kit_with_damaged_classes_is_refused(folder: Path, meta: bytes) -> None:
    write_kit(folder / KIT, [3, 1, 1, 2], meta)

    with pytest.raises(DatasetInvalid, match=r"devkit.*meta\.mat"):
        _load(folder)


@pytest.mark.parametrize("name", [TRAIN, VAL])
def test_an_archive_cut_short_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])

    with pytest.raises(DatasetInvalid, match=name):
        _load(folder)
