"""`microtome train` with a projection: from a folder of patches to a model that embeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from microtome.datasets.labelled import load_dataset, read_image
from microtome.errors import SettingError
from microtome.models.registry import load_card, load_encoder
from microtome_training.commands import app
from microtome_training.projecting import run_projection
from microtome_training.reading import load_recipe
from microtome_training.run import RunSettings
from support.made_patches import write_patches

SMALL = [
    "model.config={of: statistics, dim: 5}",
    "fit.batch_size=16",
    "data.validation_fraction=0.4",
]


@pytest.fixture(scope="module")
def patches(tmp_path_factory) -> str:
    return f"folder:{write_patches(tmp_path_factory.mktemp('patches'), groups=6, per_group=2)}"


def fit(patches: str, out: object, *changes: str) -> None:
    recipe = load_recipe(["folder-projection"], [*SMALL, f"data.dataset={patches}", *changes])
    return run_projection(recipe, RunSettings(str(out)))


def test_the_result_is_a_model_that_says_what_it_is(patches, tmp_path):
    summary = fit(patches, tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert encoder.card == load_card(str(tmp_path)) == summary.card
    assert (encoder.card.dim, encoder.card.licence) == (5, "Apache-2.0")
    assert encoder.card.architecture["of"] == load_card("statistics").architecture
    assert "3 classes; before that, statistics: none" in encoder.card.training_data
    assert set(encoder.card.metrics) == {"R@1", "mAP@R", "R@1 before"}
    assert (tmp_path / "training" / "recipe.yaml").is_file()
    images = load_dataset(patches).samples.slice(0, 4).to_pylist()
    vectors = encoder.encode(np.stack([read_image(image) for image in images]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_fitting_again_gives_the_same_model(patches, tmp_path):
    first, second = (fit(patches, tmp_path / name).card for name in "ab")
    assert first.model_id == second.model_id


def test_a_projection_can_stand_on_another(patches, tmp_path):
    fit(patches, tmp_path / "first")
    config = f"model.config={{of: {tmp_path / 'first'}, dim: 2}}"
    assert fit(patches, tmp_path / "second", config).card.dim == 2
    assert load_encoder(str(tmp_path / "second")).card.architecture["of"]["kind"] == "projection"


def test_the_command(patches, tmp_path):
    changes = [word for change in SMALL for word in ("--set", change)]
    words = ["folder-projection", "--data", patches, "--out", str(tmp_path), *changes, "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["model_id"] == load_card(str(tmp_path)).model_id


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("model.config={dim: 5}", "`of`"),
        ("model.config={of: starter, dims: 5}", "dims"),
        ("model.config={of: statistics, dim: 999}", "dim"),
        ("model.input_px=96", "only kind and config"),
        ("objective.kind=arcface", "fisher"),
        ("objective.shrinkage=0", "shrinkage"),
    ],
)
def test_a_recipe_that_cannot_be_right(patches, tmp_path, change, named):
    with pytest.raises(SettingError, match=named):
        fit(patches, tmp_path, change)


@pytest.mark.parametrize("settings", [{"workers": 2}, {"resume": True}])
def test_what_it_has_no_use_for_is_refused(settings):
    recipe = load_recipe(["folder-projection"], ["data.dataset=folder:nowhere"])
    with pytest.raises(SettingError, match="one process"):
        run_projection(recipe, RunSettings("out", **settings))
