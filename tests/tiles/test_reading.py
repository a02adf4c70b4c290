from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from microtome.config import GridSettings
from microtome.errors import SlideTooCoarse
from microtome.slides.slide import Level
from microtome.tiles.reading import ReadPlan, Scale, read_tile, scale_for
from support.array_slide import ArraySlide


def slide(mpp: float = 0.5, downsamples: tuple[int, ...] = (1, 2, 4)) -> ArraySlide:
    """512 px a side; red rises to the right, green downwards, a grey level every two pixels."""
    ramp = (np.arange(512) // 2).astype(np.uint8)
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = ramp[None, :], ramp[:, None]
    return ArraySlide(pixels, mpp=mpp, downsamples=downsamples)


@pytest.mark.parametrize(
    # slide's mpp, its downsamples, wanted mpp, level, pixels read for a tile of 64
    ("mpp", "downsamples", "wanted", "level", "read_px"),
    [
        (0.5, (1, 2, 4), 0.5, 0, 64),
        (0.5, (1, 2, 4), 1.0, 1, 64),
        (0.5, (1, 2, 4), 1.5, 1, 96),  # between two levels: from the finer
        (0.5, (1, 2, 4), 8.0, 2, 256),  # beyond the coarsest
        (0.5, (1,), 2.0, 0, 256),  # no other level there is
        (0.499, (1, 2, 4), 0.5, 0, 64),
        (0.505, (1, 2, 4), 1.0, 1, 63),  # level 1 is 1 % too coarse: still taken
        (0.52, (1, 2, 4), 1.0, 0, 123),  # 4 % is not
        (0.625, (1, 2, 4), 0.5, 0, 51),  # enlarged 1.25 times, the most
    ],
)
def test_the_cheapest_level_that_serves(mpp, downsamples, wanted, level, read_px):
    plan = ReadPlan.of(slide(mpp, downsamples).slide, GridSettings(wanted, 64, 64))
    assert (plan.scale.level, plan.scale.reduction) == (level, 1)
    assert (plan.read_px, plan.tile_px) == (read_px, 64)


REDUCING = (1, 2, 4, 8)


@pytest.mark.parametrize(
    # level downsamples, what their decoder offers, wanted downsample, level and reduction taken
    ("downsamples", "reductions", "wanted", "level", "reduction"),
    [
        ((1.0,), REDUCING, 1, 0, 1),
        ((1.0,), REDUCING, 2, 0, 2),
        ((1.0,), REDUCING, 3.9, 0, 2),
        ((1.0,), REDUCING, 64, 0, 8),
        ((1.0, 4.0), REDUCING, 4, 1, 1),  # the smaller level costs less than shrinking
        ((1.0, 3.9996), REDUCING, 4, 1, 1),  # though it is a hair finer
        ((1.0, 4.0), REDUCING, 2, 0, 2),
        ((1.0, 4.0), REDUCING, 8, 1, 2),
        ((1.0, 4.0), REDUCING, 0.9, 0, 1),  # coarser than wanted: as it is
        ((1.0, 4.0), (1,), 8, 1, 1),
    ],
)
def test_a_decoder_that_shrinks_is_used(downsamples, reductions, wanted, level, reduction):
    levels = tuple(Level(512, 512, downsample, reductions) for downsample in downsamples)
    scale = scale_for(replace(slide().slide, levels=levels), wanted)
    assert scale == Scale(level, reduction, downsamples[level] * reduction)


def test_a_scale_leaves_shrinking_to_the_decoder():
    class Reducing(ArraySlide):
        def read_reduced(self, x, y, level, width_px, height_px, *, reduction):
            whole = self.read_region(x, y, level, width_px * reduction, height_px * reduction)
            return whole[::reduction, ::reduction]

    reader = Reducing(np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8))
    pixels = Scale(level=0, reduction=4, downsample=4.0).read(reader, 8, 16, 5, 6)
    assert (pixels == reader.read_region(8, 16, 0, 20, 24)[::4, ::4]).all()


def test_a_slide_too_coarse_is_refused_with_the_mpp_that_would_do():
    with pytest.raises(SlideTooCoarse, match=r"--mpp 0\.65"):
        ReadPlan.of(slide(0.65).slide, GridSettings(0.5, 64, 64))


@pytest.mark.parametrize("wanted", [0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
def test_a_tile_shows_the_place_it_was_asked_for(wanted: float):
    reader, grid = slide(), GridSettings(wanted, 32, 32)
    tile = read_tile(reader, ReadPlan.of(reader.slide, grid), 128, 64)
    assert tile.shape == (32, 32, 3)
    assert tile.dtype == np.uint8
    side_px = 32 * wanted / 0.5
    for channel, corner in ((0, 128), (1, 64)):
        middle = (corner + side_px / 2) / 2
        assert tile[..., channel].mean() == pytest.approx(middle, abs=1.0)


def test_an_equal_resolution_is_not_resampled():
    reader = slide()
    tile = read_tile(reader, ReadPlan.of(reader.slide, GridSettings(0.5, 32, 32)), 7, 9)
    assert (tile == reader.read_region(7, 9, 0, 32, 32)).all()


def test_shrinking_averages():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    reader = ArraySlide(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), downsamples=(1,))
    tile = read_tile(reader, ReadPlan.of(reader.slide, GridSettings(1.0, 32, 32)), 0, 0)
    assert (tile == 100).all()
