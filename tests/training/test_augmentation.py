"""What the model sees of an image: the right part, and never another on the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from microtome.errors import SettingError
from microtome_training.augmentation import STAINS, UNMIX, View, _mixed, scale_of
from microtome_training.recipe import AugmentationRecipe, DataRecipe

OFF = {"flips": False, "mirror": False, "stain": 0.0, "brightness": 0.0, "blur": 0.0}


def ramp(height: int, width: int) -> np.ndarray:
    """Red is the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("crop", "scale", "shape", "left", "right"),
    [  # first and last red value of the plain view of 32 px
        ("none", None, (100, 100), 1, 98),  # the whole image
        ("none", None, (100, 200), 51, 148),  # its middle square
        ("mpp", 1.0, (100, 100), 34, 65),  # 32 px of an image as fine as the model
        ("mpp", 2.0, (200, 200), 68, 131),  # 64 px of an image twice as fine
        ("mpp", 9.0, (100, 100), 1, 98),  # no more than there is
        ("mpp", None, (100, 100), 1, 98),  # resolution unknown
        ("reference", None, (100, 200), 3, 196),  # squashed
    ],
)
def test_the_plain_view(crop, scale, shape, left, right) -> None:
    seen = View(AugmentationRecipe(crop), 32, scale).plain(ramp(*shape)).astype(float)
    assert seen.shape == (32, 32, 3)
    assert (seen[16, 0, 0], seen[16, -1, 0]) == pytest.approx((left, right), abs=1.1)


@pytest.mark.parametrize("crop", ["none", "mpp", "resized", "reference"])
def test_a_varied_view_repeats_by_seed_alone(crop) -> None:
    view, image = View(AugmentationRecipe(crop), 32), ramp(90, 70)
    first, again, other = (view.varied(image, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("scale", "plain_px"), [(2.0, 64), (1.0, 32)])
def test_mpp_crops_zoom_within_their_bound(scale: float, plain_px: int) -> None:
    view = View(AugmentationRecipe("mpp", zoom=1.25, **OFF), 32, scale)
    for seed in range(50):
        seen = view.varied(ramp(200, 200), np.random.default_rng(seed)).astype(float)
        side_px = (seen[16, -1, 0] - seen[16, 0, 0]) * 32 / 31
        assert plain_px / 1.3 <= side_px <= plain_px * 1.3


def test_the_scale_is_that_of_model_and_images_where_both_are_known() -> None:
    assert scale_of(DataRecipe(mpp=1.0), 0.25) == 4
    assert scale_of(DataRecipe(mpp=0.5), 0.5) == 1
    assert scale_of(DataRecipe(), 0.25) is None
    with pytest.raises(SettingError, match=r"data\.mpp is 1, but nobody says"):
        scale_of(DataRecipe(mpp=1.0), None)


def test_flips_make_all_eight_orientations() -> None:
    image = ramp(32, 32)
    view = View(AugmentationRecipe("none", **(OFF | {"flips": True})), 32)
    seen = {view.varied(image, np.random.default_rng(s)).tobytes() for s in range(100)}
    assert len(seen) == 8


def test_mixing_with_the_identity_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.abs(_mixed(image, np.eye(3), np.zeros(3)).astype(int) - image).max() <= 1


def test_more_haematoxylin_darkens_what_it_stains() -> None:
    haematoxylin = np.exp(-STAINS[0]) * 256 - 1
    image = np.broadcast_to(haematoxylin.round().astype(np.uint8), (4, 4, 3)).copy()
    twice = _mixed(image, UNMIX @ np.diag([2, 1, 1]) @ STAINS, np.zeros(3))
    assert twice[0, 0] == pytest.approx(np.exp(-2 * STAINS[0]) * 256 - 1, abs=2)
