from __future__ import annotations

import numpy as np
import openslide
import pytest

from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid


@pytest.fixture
def picture():
    """A smooth picture whose sides are no multiple of anything: JPEG keeps it almost exactly."""
    y, x = np.mgrid[0:701, 0:1003]
    return np.stack([x / 4, y / 3, (x + y) / 8], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("spec", "vendor", "mpp", "objective"),
    [
        (PyramidSpec(), "aperio", 0.5, "20"),
        (PyramidSpec(mpp=0.2528, objective=40), "aperio", 0.2528, "40"),
        (PyramidSpec(mpp=None), "aperio", None, "20"),
        (PyramidSpec(objective=None), "aperio", 0.5, None),
        (PyramidSpec(aperio=False), "generic-tiff", 0.5, None),  # TIFF has no tag for it
        (PyramidSpec(aperio=False, mpp=None), "generic-tiff", None, None),
    ],
)
def test_header_says_what_was_asked(tmp_path, picture, spec, vendor, mpp, objective):
    write_pyramid(tmp_path / "a.tif", picture, spec)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        said = slide.properties.get("openslide.mpp-x")
        assert slide.properties["openslide.vendor"] == vendor
        assert (said if said is None else float(said)) == pytest.approx(mpp)
        assert slide.properties.get("openslide.objective-power") == objective


@pytest.mark.parametrize(
    ("levels", "step", "dimensions"),
    [
        (1, 4, [(1003, 701)]),
        (3, 4, [(1003, 701), (250, 175), (62, 43)]),
        (3, 2, [(1003, 701), (501, 350), (250, 175)]),
    ],
)
def test_levels_shrink_by_the_step(tmp_path, picture, levels, step, dimensions):
    write_pyramid(tmp_path / "a.svs", picture, PyramidSpec(levels=levels, step=step))
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert list(slide.level_dimensions) == dimensions


@pytest.mark.parametrize("level", [0, 1])
def test_every_level_shows_the_picture(tmp_path, picture, level):
    write_pyramid(tmp_path / "a.svs", picture, PyramidSpec(levels=2, step=2, quality=95))
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        size = slide.level_dimensions[level]
        read = np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))
    wanted = picture[:700:2, :1002:2] if level else picture
    assert np.abs(read.astype(int) - wanted).mean() < 2


@pytest.mark.parametrize(
    "wrong", [{"mpp": 0.0}, {"tile_px": 250}, {"levels": 0}, {"step": 1}, {"quality": 101}]
)
def test_wrong_spec_is_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        PyramidSpec(**wrong)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (15, 64, 3)])
def test_wrong_pixels_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="pixels"):
        write_pyramid(tmp_path / "a.svs", np.zeros(shape, np.uint8))
