"""What a recipe is fitted to and judged by, of sets laid out as their authors publish them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from microtome.errors import SettingError
from microtome_training.reading import load_recipe
from microtome_training.recipe import Recipe
from microtome_training.run import read_sets
from support.labelled_sets import write_pictures


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
