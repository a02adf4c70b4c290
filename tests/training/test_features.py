"""Cached features are the backbone's, once per image and view, within their bound."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.errors import SettingError, TrainingError, TrainingWriteFailed
from microtome_training.augmentation import View
from microtome_training.features import (
    CachedFeed,
    CachePlan,
    FeatureCache,
    cache_folder,
    fill_cache,
)
from microtome_training.feeding import Batch, Corruption, ImageReader
from microtome_training.fitting import Fitter
from microtome_training.model import build_embedder
from microtome_training.objective import build_objective
from microtome_training.reading import load_recipe
from microtome_training.recipe import AugmentationRecipe
from microtome_training.sampler import Batches, Share
from support.made_patches import TINY, write_patches

RECIPE = load_recipe(["folder-lgffem"], TINY)
VIEW = View(AugmentationRecipe(), RECIPE.model.input_px)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageReader:
    labelled: LabelledSet = load_dataset(f"folder:{write_patches(tmp_path_factory.mktemp('set'))}")
    return ImageReader(labelled, Corruption(len(labelled), 0.0))


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    objective = build_objective(build_embedder(RECIPE.model), RECIPE.objective, 3).eval()
    return Fitter(objective, objective, RECIPE, Share())


def plan_of(folder: Path, views: int = 2, most_bytes: float = 1e9) -> CachePlan:
    return CachePlan(folder, views, most_bytes, batch_size=16, threads=2)


def test_features_are_those_of_the_pixels(reader, fitter, tmp_path: Path) -> None:
    cache = fill_cache(plan_of(tmp_path), reader, VIEW, fitter, Share())
    pixels = torch.from_numpy(VIEW.plain(reader.read_or_another(5))[None])
    expected = fitter.objective.features(fitter.inputs(Batch(pixels, torch.empty(0))))
    first = cache.read(np.array([0]), np.array([5]))
    for cached, live in zip(first, expected, strict=True):
        assert torch.allclose(cached.float(), live, rtol=2e-3, atol=1e-3)
    second = cache.read(np.array([1]), np.array([5]))
    assert not torch.equal(first[0], second[0])


def test_two_workers_fill_one_cache(reader, fitter, tmp_path: Path) -> None:
    alone = fill_cache(plan_of(tmp_path / "one"), reader, VIEW, fitter, Share())
    for rank in (0, 1):
        both = fill_cache(plan_of(tmp_path / "two"), reader, VIEW, fitter, Share(rank, 2))
    for one, two in zip(alone.arrays, both.arrays, strict=True):
        assert np.allclose(one, two, atol=1e-2)


def test_a_full_cache_is_not_filled_again(reader, fitter, tmp_path: Path) -> None:
    cache = fill_cache(plan_of(tmp_path), reader, VIEW, fitter, Share())
    cache.arrays[0][:] = 7
    again = fill_cache(plan_of(tmp_path), reader, VIEW, fitter, Share())
    assert (again.arrays[0] == 7).all()


def test_a_cached_epoch_feeds_both_views_and_repeats(reader, fitter, tmp_path: Path) -> None:
    cache = FeatureCache(plan_of(tmp_path), [(1,)], len(reader.labels))
    cache.arrays[0][0, :, 0] = np.arange(len(reader.labels))
    cache.arrays[0][1, :, 0] = -np.arange(len(reader.labels))
    feed = CachedFeed(cache, reader.labels, Batches(reader.labels, 8, 2, 0), Share())
    epochs = [list(feed.epoch(0, 0)), list(feed.epoch(0, 3))]
    seen = torch.cat([batch.inputs[0] for batch in epochs[0]])[:, 0]
    assert (seen < 0).any()
    assert (seen > 0).any()
    for batch in epochs[0]:
        assert (reader.labels[batch.inputs[0][:, 0].abs().long()] == batch.labels.numpy()).all()
    for first, again in zip(epochs[0][3:], epochs[1], strict=True):
        assert torch.equal(first.inputs[0], again.inputs[0])


def test_a_cache_beyond_its_bound_is_refused_with_its_size(reader, fitter, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"take 0\.0 GB, more than the 1e-05 of fit\.cache_gb"):
        fill_cache(plan_of(tmp_path, most_bytes=1e4), reader, VIEW, fitter, Share())


def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(TrainingWriteFailed, match="can't be cached"):
            FeatureCache(plan_of(tmp_path), [(100_000,)], 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_cache_takes_its_room_before_it_is_filled(tmp_path: Path) -> None:
    cache = FeatureCache(plan_of(tmp_path), [(100_000,)], 1)
    assert sum(512 * file.stat().st_blocks for file in tmp_path.iterdir()) >= cache.bytes


def test_the_folder_is_this_user_s_alone(tmp_path: Path) -> None:
    FeatureCache(plan_of(tmp_path / "mine" / "x"), [(1,)], 1)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    for name in ("open", "linked"):
        with pytest.raises(TrainingError, match=f"{name} .* somebody else's"):
            FeatureCache(plan_of(tmp_path / name / "x"), [(1,)], 1)


def test_another_recipe_has_another_folder() -> None:
    assert cache_folder("x", {"a": 1}) == cache_folder("x", {"a": 1})
    assert cache_folder("x", {"a": 1}) != cache_folder("x", {"a": 2})
