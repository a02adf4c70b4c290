"""Kimia Path24's one HDF5 file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from microtome.datasets.labelled import load_dataset, read_image
from microtome.errors import DatasetError, DatasetInvalid
from support.labelled_sets import write_kimia24


@pytest.fixture(autouse=True)
def no_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_test_patches_are_published_and_training_patches_cut_from_tissue(tmp_path: Path) -> None:
    write_kimia24(tmp_path / "Kimia_Path24.h5")

    labelled = load_dataset(f"kimia24:{tmp_path}")

    train, test = labelled.split("train"), labelled.split("test")
    assert test.labels.tolist() == [7, 9]
    assert np.bincount(train.labels).tolist() == [2, 1] * 12  # odd scans are half white
    assert labelled.classes == tuple(f"s{scan}" for scan in range(24))
    for sample in [train.samples.to_pylist()[4 * 3 // 2], test.samples.to_pylist()[1]]:
        pixels = read_image(sample)
        assert pixels.shape == (1_000, 1_000, 3)
        assert (pixels == (4 if sample["split"] == "train" else 9)).all()
    assert any("1,325 were published" in note for note in labelled.notes)


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    path = write_kimia24(tmp_path / "mine.h5")

    assert load_dataset(f"kimia24:{path}").splits == {"train": 36, "test": 2}


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "Kimia_Path24.h5", "w") as file:
        file["data"] = [1]

    with pytest.raises(DatasetInvalid, match=r"test_data.*https://kimialab"):
        load_dataset(f"kimia24:{tmp_path}")


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Kimia_Path24.h5").write_bytes(b"no hdf5" * 100)

    with pytest.raises(DatasetError):
        load_dataset(f"kimia24:{tmp_path}")


def test_a_folder_without_it_is_refused_with_its_home(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")

    with pytest.raises(DatasetInvalid, match=r"Kimia_Path24\.h5.*https://kimialab"):
        load_dataset(f"kimia24:{tmp_path}")
