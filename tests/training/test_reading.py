"""A recipe is right in every key before any work starts."""

from __future__ import annotations

import pytest

from microtome.errors import LicenceRefused, SettingError
from microtome_training.model import inherited_licence, network_config
from microtome_training.projecting import ProjectionConfig
from microtome_training.reading import (
    build_recipe,
    load_recipe,
    recipe_facts,
    shipped_recipes,
)

SETS = ["imagenet", "pannuke", "kimia", "bracs", "crc", "bach"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("fit.epoch=3", "fit.epoch"),  # unknown, and alike: epochs
        ("model.config.neck=3", "model.config.neck"),  # unknown in the network's own settings
        ("speed=3", "speed"),  # no such section
        ("fit.epochs=0", "fit.epochs"),
        ("fit.epochs=three", "fit.epochs"),
        ("fit.epochs=true", "fit.epochs"),
        ("fit=3", "fit"),
        ("fit.batch_size=10", "fit.batch_size"),  # no multiple of per_class
        ("optimiser.lr=-1", "optimiser.lr"),
        ("optimiser.lr=.nan", "optimiser.lr"),
        ("optimiser.kind=lion", "optimiser.kind"),
        ("schedule.milestones=0.5", "schedule.milestones"),
        ("schedule.milestones=[1.5]", "schedule.milestones"),
        ("augmentation.zoom=0.5", "augmentation.zoom"),
        ("model.mean=[0.5]", "model.mean"),
        ("model.mean=[.nan, 0, 0]", "model.mean"),
        ("model.std=[.inf, 1, 1]", "model.std"),
        ("model.config.output_dim=64", "model.config.output_dim"),  # of a fitted model
        ("schedule.warmup_epochs=.inf", "schedule.warmup_epochs"),
        ("schedule.warmup_epochs=21", "schedule.warmup_epochs"),  # of 20
        ("objective.classification_weight=.inf", "objective.classification_weight"),
        ("model.config.gem_p=0.5", "model.config.gem_p"),
        ("data.max_corrupt=2", "data.max_corrupt"),
        ("data={mpp: 0.5}\naugmentation={crop: none}", "data.mpp"),  # whole images have any
        ("data.feeding=ray-data", "data.feeding"),  # can't draw by class
        ("model.frozen=false", "fit.cache_features"),  # features of a moving backbone
        ("objective.kind=triplet", "objective.kind"),  # LGFFEM has no auxiliary classifier
        ("objective.margin_deg=500", "objective.margin_deg"),
    ],
)
def test_a_wrong_key_or_value_is_named(change: str, named: str) -> None:
    with pytest.raises(SettingError, match=named.replace(".", r"\.")):
        network_config(load_recipe(["folder-lgffem"], change.splitlines()).model)


def test_an_unknown_key_comes_with_the_likely_one() -> None:
    with pytest.raises(SettingError, match="Did you mean epochs"):
        load_recipe(["folder-lgffem"], ["fit.epoch=3"])


def test_overrides_are_read_as_yaml_in_order() -> None:
    recipe = load_recipe(
        ["folder-lgffem"],
        ["optimiser.lr=3e-4", "fit.epochs=5", "fit.epochs=6", "fit.per_class=null"],
    )
    assert (recipe.optimiser.lr, recipe.fit.epochs, recipe.fit.per_class) == (3e-4, 6, None)


def test_a_recipe_without_a_backbone_lacks_it() -> None:
    recipe = build_recipe({"name": "x", "model": {"kind": "cgd"}})
    with pytest.raises(SettingError, match=r"model\.config\.backbone"):
        network_config(recipe.model)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "name a recipe"),
        (["folder-lgfem"], "Did you mean folder-lgffem"),
        (["kimia", "bach"], "one is fitted at a time"),
    ],
)
def test_what_is_no_recipe_says_so(names: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_recipe(names)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_whole_and_survives_json(name: str) -> None:
    recipe = load_recipe([name])
    assert recipe.name == name
    shape = ProjectionConfig.of_recipe if recipe.model.kind == "projection" else network_config
    assert shape(recipe.model).dim >= 48
    assert build_recipe(recipe_facts(recipe)) == recipe


def test_each_set_has_the_reference_s_recipe_and_a_better_one() -> None:
    assert {name for one in SETS for name in (one, f"{one}-reference")} <= {*shipped_recipes()}


@pytest.mark.parametrize("name", SETS)
def test_the_better_recipes_need_no_permission(name: str) -> None:
    assert inherited_licence(load_recipe([name]).model) == "Apache-2.0"


# (crop, least share of the image), as the reference's code has them
@pytest.mark.parametrize(
    ("name", "crop", "least"),
    [
        ("imagenet-reference", "resized", 0.08),
        ("kimia-reference", "none", None),
        ("pannuke-reference", "none", None),
    ],
)
def test_the_reference_s_crops(name: str, crop: str, least: float | None) -> None:
    augmentation = load_recipe([name]).augmentation
    assert augmentation.crop == crop
    assert least in {None, augmentation.crop_area}


def test_the_reference_s_backbone_must_be_allowed_by_name() -> None:
    with pytest.raises(LicenceRefused, match="cc-by-nc"):
        inherited_licence(load_recipe(["kimia-reference"]).model)
    allowed = load_recipe(["kimia-reference"], ["model.allow_licences=[cc-by-nc-4.0]"])
    assert inherited_licence(allowed.model) == "cc-by-nc-4.0"


def test_the_reference_s_three_files_are_a_recipe(tmp_path) -> None:
    files = {
        "backbone.yaml": "BACKBONE: {MODEL_NAME: convnext_tiny, OUT_INDICES: [0, 1, 2, 3]}\n"
        "NECK: {IN_CHANNELS: [96, 192, 384, 768]}",
        "neck.yaml": "NECK: {NUM_CHANNELS: 128, NUM_LAYERS: 3}",
        "head.yaml": "HEAD: {P: 4.6, EPS: 1e-6}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    recipe = load_recipe([str(tmp_path / name) for name in files], ["fit.epochs=1"])
    config = network_config(recipe.model)
    assert (config.backbone, config.dim) == ("convnext_tiny", 512)
    assert recipe.objective.sub_centers == 6
