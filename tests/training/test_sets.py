"""What a recipe is fitted to and judged by, of sets laid out as their authors publish them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from microtome.datasets.samples import LabelledSet, samples_of
from microtome.errors import SettingError
from microtome_training.reading import load_recipe, shipped_recipes
from microtome_training.recipe import DataRecipe, Recipe
from microtome_training.sets import read_sets, splits_of
from support.labelled_sets import write_imagenet, write_pannuke, write_pictures


def of_folder(folder: Path, *changes: str) -> Recipe:
    return load_recipe(["folder-lgffem"], [f"data.dataset=folder:{folder}", *changes])


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of four images, in no splits and of no known resolution."""
    return write_pictures(tmp_path, [f"{name}/{i}.png" for name, i in product("ab", range(4))])


def test_images_of_unknown_resolution_are_not_cut_to_the_model_s(classes: Path) -> None:
    with pytest.raises(SettingError, match="nobody says how large"):
        read_sets(of_folder(classes, "data.mpp=0.5"))


def test_a_recipe_can_say_what_resolution_the_images_have(classes: Path) -> None:
    stated = ["data.mpp=0.5", "data.images_mpp=0.25"]
    assert [part and part.mpp for part in read_sets(of_folder(classes, *stated))] == [0.25, 0.25]


def test_a_recipe_can_t_contradict_the_set(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"Photos/{name}/1.tif" for name in ("Normal", "Benign")])
    recipe = load_recipe(["bach"], [f"data.dataset=bach:{tmp_path}", "data.images_mpp=0.5"])
    with pytest.raises(SettingError, match=r"images_mpp is 0\.5, but BACH .* has 0\.42"):
        read_sets(recipe)


def set_of(splits: list[str]) -> LabelledSet:
    """Two classes of two images in each split."""
    columns = {
        "uri": [f"{split}{i}.png" for split in splits for i in range(4)],
        "label": [0, 0, 1, 1] * len(splits),
        "split": [split for split in splits for _ in range(4)],
    }
    return LabelledSet("made", ("a", "b"), samples_of(columns))


PUBLISHED = {
    "bach": [f"Photos/{name}/{i}.tif" for name in ("Normal", "Benign") for i in range(5)],
    "bracs": [
        f"{split}/0_N/BRACS_{slide}_N_1.png" for slide, split in enumerate(("train", "val", "test"))
    ],
    "crc": [f"Grade{i % 3 + 1}_Patient_{i}_1.png" for i in range(15)],
    "folder": [f"{name}/{i}.png" for name in "ab" for i in range(8)],
    "kimia24c": [
        f"{split}/s{scan}/{i}.png"
        for split in ("Training", "Test")
        for scan in (0, 1)
        for i in range(9)
    ],
    "tissue": [f"{split}/{name}/{split}.png" for split in ("train", "val") for name in "ab"],
}


def write_published(kind: str, folder: Path) -> Path:
    """A small copy of a set, laid out as published."""
    if kind == "imagenet":
        return write_imagenet(folder)
    if kind == "pannuke":
        return write_pannuke(folder, dict.fromkeys((1, 2, 3), ("Breast", "Colon")))
    return write_pictures(folder, PUBLISHED[kind])


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_reads_the_set_it_is_for(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    kind = {"kimia": "kimia24c"}.get(name.split("-", maxsplit=1)[0], name.split("-", maxsplit=1)[0])
    reader = "folder" if kind == "tissue" else kind
    spec = f"data.dataset={reader}:{write_published(kind, tmp_path)}"
    training, validation = read_sets(load_recipe([name], [spec]))
    assert len(training)
    assert (validation is None) == (name == "kimia-reference")  # it holds out no scan's patches
    seen = [part for part in (training, validation) if part is not None]
    assert not {"test", "fold3"} & {split for part in seen for split in part.splits}


# splits that a set has, and those that are learnt from and judged by when none is named
@pytest.mark.parametrize(
    ("splits", "learnt", "judged"),
    [
        (["all"], "all", "all"),  # parted
        (["train", "val", "test"], "train", "val"),
        (["test", "validation", "train"], "train", "validation"),
        (["train", "test"], "train", "train"),  # parted
    ],
)
def test_no_test_image_is_taken_unasked(
    splits: list[str], learnt: str, judged: str, monkeypatch
) -> None:
    monkeypatch.setattr("microtome_training.sets.load_labelled", lambda spec: set_of(splits))
    parts = read_sets(load_recipe(["folder-lgffem"], ["data.dataset=folder:made"]))
    assert [part and set(part.splits) for part in parts] == [{learnt}, {judged}]


def test_splits_of_other_names_must_be_named() -> None:
    with pytest.raises(SettingError, match="has the splits fold1, fold2"):
        splits_of(set_of(["fold1", "fold2"]), DataRecipe())
    assert splits_of(set_of(["fold1", "fold2"]), DataRecipe(train_split="fold2")) == ("fold2", None)
